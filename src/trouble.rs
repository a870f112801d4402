//! Why an instance does not run, or cannot serve, and what it last said.

use serde::Serialize;
use windlass_api::{
    client::{Client, Error},
    resource::Instance,
    status::{Phase, Readiness},
    wire::LogOptions,
};

use crate::output::quoted;

/// How many instances are looked at: most copies of a workload fail for one reason.
const INSTANCES_MAX: usize = 3;
/// How many of the last lines of a log are shown.
pub(crate) const LOG_LINES: u32 = 10;

/// An instance that does not run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Trouble {
    /// The instance.
    pub(crate) instance: String,
    /// Why it does not run.
    pub(crate) reason: String,
    /// The last lines of its log, or why there are none.
    pub(crate) log: Result<Vec<String>, String>,
}

impl Trouble {
    /// Whether there is a log to be shown.
    pub(crate) fn has_log(&self) -> bool {
        self.log.as_ref().is_ok_and(|log| !log.is_empty())
    }

    /// The trouble as lines for people.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{}: {}", self.instance, self.reason)];
        match &self.log {
            Ok(log) => lines.extend(log.iter().map(|line| quoted(line))),
            Err(why) => lines.push(format!("  (its log cannot be read: {why})")),
        }
        lines
    }
}

/// Why an instance does not run or cannot serve, if there is more to say than that it is on its
/// way.
pub(crate) fn reason(instance: &Instance) -> Option<String> {
    if instance.node_lost {
        let node = instance.node.as_ref()?;
        return Some(format!(
            "node {node} is lost; last seen {}",
            instance.status.phase.name()
        ));
    }
    let status = &instance.status;
    let of_phase = status.phase.reason().filter(|reason| !reason.is_empty());
    match (&status.phase, &status.readiness) {
        (Phase::Running { .. }, Readiness::NotReady { reason }) => reason.clone(),
        _ => of_phase.map(str::to_owned),
    }
}

/// Looks at the first few instances that do not run.
pub(crate) async fn look<'a>(
    client: &Client,
    instances: impl Iterator<Item = &'a Instance>,
) -> Vec<Trouble> {
    let mut found = Vec::new();
    let troubled = instances.filter_map(|instance| Some((instance, reason(instance)?)));
    for (instance, reason) in troubled.take(INSTANCES_MAX) {
        let last_log = &instance.status.last_log;
        // Without a container there is no log to ask for.
        let log = if !last_log.is_empty() {
            Ok(last_log.clone())
        } else if instance.status.has_container() && !instance.node_lost {
            tail(client, instance).await.map_err(|e| e.to_string())
        } else {
            Ok(Vec::new())
        };
        found.push(Trouble {
            instance: instance.name.to_string(),
            reason,
            log,
        });
    }
    found
}

async fn tail(client: &Client, instance: &Instance) -> Result<Vec<String>, Error> {
    let options = LogOptions {
        tail: Some(LOG_LINES),
        ..LogOptions::default()
    };
    let mut lines = client
        .logs(&instance.namespace, &instance.name, None, &options)
        .await?;
    let mut tail = Vec::new();
    while let Some(line) = lines.next().await? {
        tail.push(String::from_utf8_lossy(&line).into_owned());
    }
    Ok(tail)
}
