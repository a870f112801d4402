//! `windlass plan`.

use std::io::{self, Write};

use clap::Args;
use windlass_api::{
    apply::{Action, ApplyRequest, ApplyResponse, ApplyResult, FieldChange, Outcome, PlannedStep},
    resource::RolloutState,
};

use super::Context;
use crate::{
    error::Failure,
    manifests::ManifestArgs,
    output::{
        self, Format, TextFormat,
        style::{self, paint},
        table::{Cell, Table},
    },
};

/// Show what `apply` would do, and why, without doing it
#[derive(Debug, Args)]
#[command(after_help = "\
The server plans with the very code that acts. What it would do changes with the cluster.")]
pub(crate) struct Plan {
    #[command(flatten)]
    manifests: ManifestArgs,
    #[command(flatten)]
    pub(crate) format: Format,
}

impl Plan {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let request = ApplyRequest {
            resources: self.manifests.read(&context.namespace)?,
        };
        let response = context.client.plan(&request).await?;
        match self.format.output {
            TextFormat::Json => output::json(&response),
            TextFormat::Text => Ok(write(&response, &mut output::stdout())?),
        }
    }
}

fn write(response: &ApplyResponse, out: &mut impl Write) -> io::Result<()> {
    for result in &response.results {
        write_result(result, out)?;
    }
    let steps = response
        .plan
        .as_ref()
        .map(|plan| plan.steps.as_slice())
        .unwrap_or_default();
    writeln!(out)?;
    if steps.is_empty() {
        return writeln!(out, "Nothing to do.");
    }
    let mut table = Table::new(vec!["STEP", "INSTANCE", "REVISION", "NODE", "REASON"]);
    for step in steps {
        table.row(step_cells(step));
    }
    table.write(out)?;
    // What comes next depends on how these turn out, so nobody can tell it yet.
    if response
        .results
        .iter()
        .any(|r| rolls(r) == Some(&RolloutState::Canary))
    {
        writeln!(
            out,
            "\nThese are the canaries of an update: it waits for `windlass rollout promote` then."
        )?;
    }
    let goes_on = Some(&RolloutState::Progressing);
    if response.results.iter().any(|r| rolls(r) == goes_on) {
        writeln!(
            out,
            "\nThese are the first steps of an update: it goes on when they are done."
        )?;
    }
    Ok(())
}

/// How a change replaces instances, which it does a few at a time, if it does.
fn rolls(result: &ApplyResult) -> Option<&RolloutState> {
    let rollout = result.workload.status.rollout.as_ref()?;
    (result.outcome == Outcome::Updated && rollout.from.is_some()).then_some(&rollout.state)
}

fn write_result(result: &ApplyResult, out: &mut impl Write) -> io::Result<()> {
    let (style, sign, outcome) = match result.outcome {
        Outcome::Created => (style::GOOD, "+", "would be created"),
        Outcome::Updated => (style::BUSY, "~", "would be updated"),
        Outcome::Unchanged => (style::DIM, "=", "unchanged"),
    };
    writeln!(
        out,
        "{} {} {} {outcome}",
        paint(style, sign),
        result.kind,
        result.key
    )?;
    if result.outcome == Outcome::Updated {
        for change in &result.diff {
            write_change(change, out)?;
        }
    }
    Ok(())
}

fn write_change(change: &FieldChange, out: &mut impl Write) -> io::Result<()> {
    for (style, sign, value) in [
        (style::BAD, "-", &change.from),
        (style::GOOD, "+", &change.to),
    ] {
        if let Some(value) = value {
            let line = format!("{sign} {}: {value}", change.path);
            writeln!(out, "    {}", paint(style, line))?;
        }
    }
    Ok(())
}

fn step_cells(step: &PlannedStep) -> Vec<Cell> {
    let (style, action) = match step.action {
        Action::Start => (style::GOOD, "start"),
        Action::Prepare => (style::BUSY, "prepare"),
        Action::Wait => (style::BAD, "wait"),
        Action::Stop => (style::BUSY, "stop"),
    };
    vec![
        Cell::styled(style, action),
        Cell::new(&step.instance),
        Cell::new(step.revision),
        Cell::or_dash(step.node.as_ref()),
        Cell::new(&step.reason),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plan_says_that_an_update_goes_on() {
        let mut workload = serde_json::to_value(crate::fixtures::workload("web", 2, 2)).unwrap();
        let mut plan = |state: &str, from: Option<u32>| {
            workload["status"]["rollout"] = json!({
                "from": from, "to": 2, "state": state, "order": "startFirst",
                "startedAt": "2026-01-01T00:00:00Z", "progressedAt": "2026-01-01T00:00:00Z",
            });
            let response: ApplyResponse = serde_json::from_value(json!({
                "version": 3,
                "results": [{ "kind": "Service", "key": "default/web", "outcome": "updated",
                    "workload": workload, "diff": [] }],
                "plan": { "steps": [{ "action": "start", "workload": "default/web", "slot": 0,
                    "instance": "web-0-3", "revision": 2, "node": "a", "reason": "update" }] },
            }))
            .unwrap();
            let mut out = Vec::new();
            write(&response, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert!(plan("Progressing", Some(1)).contains("it goes on"));
        let canaries = plan("Canary", Some(1));
        assert!(
            canaries.contains("`windlass rollout promote`") && !canaries.contains("it goes on"),
            "{canaries}"
        );
        // All instances of a first revision begin at once.
        assert!(!plan("Progressing", None).contains("it goes on"));
        assert!(!plan("Completed", Some(1)).contains("it goes on"));
    }

    #[test]
    fn a_plan_shows_the_diff_and_the_steps_with_their_reasons() {
        let workload = json!({
            "kind": "Service", "name": "web", "namespace": "default",
            "spec": { "image": "nginx" }, "status": { "revision": 2, "wanted": 2, "running": 0,
            "ready": 0, "updated": 0, "settled": false },
            "meta": { "uid": "00000000-0000-0000-0000-000000000001", "version": 3,
            "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z" },
        });
        let response: ApplyResponse = serde_json::from_value(json!({
            "version": 3,
            "results": [
                { "kind": "Service", "key": "default/web", "outcome": "updated", "workload": workload,
                  "diff": [{ "path": "spec.replicas", "from": 1, "to": 2 },
                           { "path": "spec.env.LOG", "to": "info" }] },
                { "kind": "Service", "key": "default/web", "outcome": "unchanged", "workload": workload },
            ],
            "plan": { "steps": [
                { "action": "start", "workload": "default/web", "slot": 0, "instance": "web-0-1",
                  "revision": 2, "node": "a", "reason": "fewest instances" },
                { "action": "wait", "workload": "default/web", "slot": 1, "instance": "web-1-2",
                  "revision": 2, "reason": "1 of 1 nodes: too little memory" },
            ] },
        }))
        .unwrap();
        let mut out = Vec::new();
        write(&response, &mut out).unwrap();
        let text = anstream::adapter::strip_bytes(&out).into_vec();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(
            text,
            "~ Service default/web would be updated\n    \
                 - spec.replicas: 1\n    \
                 + spec.replicas: 2\n    \
                 + spec.env.LOG: \"info\"\n\
             = Service default/web unchanged\n\n\
             STEP    INSTANCE   REVISION   NODE   REASON\n\
             start   web-0-1    2          a      fewest instances\n\
             wait    web-1-2    2          -      1 of 1 nodes: too little memory\n"
        );
    }
}
