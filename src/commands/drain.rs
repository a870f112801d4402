//! `windlass drain`.

use std::{collections::BTreeMap, io::Write};

use clap::Args;
use tokio::time::{self, Instant, MissedTickBehavior};
use windlass_api::{
    client::{Mirror, Selection},
    duration::Span,
    ids::{Namespace, NodeName, Slot, WorkloadName},
    resource::{DrainRequest, Instance, Node, Scheduling},
    status::NodeState,
};

use super::Context;
use crate::{
    cli::Named,
    error::{Exit, Failure},
    output::{self, Format, TextFormat, columns::phase_style},
    progress::{DRAW_EVERY, Display, describe_instance},
};

/// Have everything leave a node, so that it can be worked on
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing new is placed there. Instances of services move one after the other, as an update would
replace them: the new one is available before the old one stops, where that is possible. Jobs run to
their end, daemons stay. What has room nowhere else stays, and says why. The drain goes on when this
command is interrupted; `windlass uncordon` ends it.")]
pub(crate) struct Drain {
    /// The node
    name: Named<NodeName>,
    /// When to stop what is still there, like `10m` [default: never]
    #[arg(long, value_name = "TIME")]
    deadline: Option<Span>,
    /// Do not wait
    #[arg(long)]
    no_wait: bool,
    /// How long to wait; then the exit code is 4, and the drain goes on [default: as long as it takes]
    #[arg(long, value_name = "TIME")]
    timeout: Option<Span>,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// Why instances wait for a node, by what they are to replace.
type Waiting<'a> = BTreeMap<(&'a Namespace, &'a WorkloadName, Slot), &'a str>;

impl Drain {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let request = DrainRequest {
            deadline: self.deadline,
        };
        let name = &self.name.name;
        let mut node = context.client.drain_node(name, &request).await?;
        if !self.no_wait {
            // It holds three mirrors: too much for every caller's own future.
            node = Box::pin(self.wait(context)).await?;
        }
        match self.format.output {
            TextFormat::Json => output::json(&node),
            TextFormat::Text => Ok(writeln!(output::stdout(), "node {name} {}", said(&node))?),
        }
    }

    async fn wait(&self, context: &Context) -> Result<Node, Failure> {
        let (client, name) = (&context.client, &self.name.name);
        let mut nodes = Mirror::<Node>::open(client, Selection::all().field("name", name)).await?;
        let on_it = Selection::all().field("node", name);
        let mut instances = Mirror::<Instance>::open(client, on_it).await?;
        let pending = Selection::all().field("phase", "Pending");
        let mut pending = Mirror::<Instance>::open(client, pending).await?;
        let mut display = match self.format.output {
            TextFormat::Text => Display::new(),
            TextFormat::Json => Display::silent(),
        };
        let mut draw = time::interval(DRAW_EVERY);
        draw.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let deadline = self.timeout.map(|limit| Instant::now() + limit.as_std());
        loop {
            let node = nodes.items().values().next();
            if let Some(done) = standing(name, node).inspect_err(|_| drop(display.clear()))? {
                display.show("", &BTreeMap::new())?;
                display.clear()?;
                return Ok(done.clone());
            }
            let left = left(
                instances.items().values(),
                &waiting(pending.items().values()),
            );
            display.show(&format!("{name}: {} left to leave", left.len()), &left)?;
            // All of them lose nothing when they are dropped here.
            tokio::select! {
                change = nodes.changed() => drop(change?),
                change = instances.changed() => drop(change?),
                change = pending.changed() => drop(change?),
                _ = draw.tick(), if display.is_live() => {}
                () = until(deadline) => {
                    display.clear()?;
                    return Err(out_of_time(name, &left));
                }
            }
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The node, if everything has left it.
fn standing<'a>(name: &NodeName, node: Option<&'a Node>) -> Result<Option<&'a Node>, Failure> {
    let Some(node) = node else {
        let detail = format!("node {name} is gone");
        return Err(Failure::new(Exit::NotFound, detail));
    };
    match node.scheduling {
        Scheduling::Draining { .. } if node.status.leaving == 0 => Ok(Some(node)),
        Scheduling::Draining { .. } => match node.status.state {
            NodeState::Lost { .. } => {
                let detail = format!("node {name} is lost, so nobody can tell what runs there");
                let hint = format!("if it does not come back: `windlass node rm {name}`");
                Err(Failure::new(Exit::Failed, detail).hint(hint))
            }
            NodeState::Ready | NodeState::RuntimeUnhealthy { .. } => Ok(None),
        },
        Scheduling::Enabled | Scheduling::Cordoned => {
            let detail = format!("somebody else ended the drain of node {name}");
            Err(Failure::new(Exit::Failed, detail))
        }
        Scheduling::Removed { .. } => {
            let detail = format!("node {name} was removed meanwhile");
            Err(Failure::new(Exit::Failed, detail))
        }
    }
}

fn waiting<'a>(pending: impl Iterator<Item = &'a Instance>) -> Waiting<'a> {
    let reason = |i: &'a Instance| {
        let reason = i
            .status
            .phase
            .reason()
            .filter(|reason| !reason.is_empty())?;
        Some(((&i.namespace, &i.workload, i.slot), reason))
    };
    pending.filter_map(reason).collect()
}

/// What is still to leave, and what keeps it.
fn left<'a>(
    instances: impl Iterator<Item = &'a Instance>,
    waiting: &Waiting<'_>,
) -> BTreeMap<String, (anstyle::Style, String)> {
    let leaving = instances.filter(|i| i.leaving.is_some());
    let line = |i: &Instance| {
        let mut text = describe_instance(i);
        if let Some(reason) = waiting.get(&(&i.namespace, &i.workload, i.slot)) {
            text.push_str(&format!(", stays: {reason}"));
        } else if i
            .leaving
            .as_deref()
            .is_some_and(|why| why.contains("to its end"))
        {
            text.push_str(", runs to its end");
        }
        (
            format!("{}/{}", i.namespace, i.name),
            (phase_style(i), text),
        )
    };
    leaving.map(line).collect()
}

fn out_of_time(name: &NodeName, left: &BTreeMap<String, (anstyle::Style, String)>) -> Failure {
    let detail = format!("{} instances have not left node {name} yet", left.len());
    let notes = left
        .iter()
        .map(|(name, (_, text))| format!("{name} {text}"));
    Failure::new(Exit::Timeout, detail)
        .notes(notes.collect())
        .hint("the drain goes on; wait longer with --timeout, or set a --deadline")
}

fn said(node: &Node) -> &'static str {
    match node.scheduling {
        Scheduling::Draining { .. } if node.status.leaving == 0 => "drained",
        _ => "is being drained",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use windlass_api::status::Phase;

    use super::*;
    use crate::fixtures::{self, RUNNING};

    fn draining(leaving: u32) -> Node {
        let mut node = serde_json::to_value(fixtures::node("edge-1")).unwrap();
        node["scheduling"] = json!("Draining");
        node["drainSince"] = json!(fixtures::NOW);
        node["status"]["leaving"] = json!(leaving);
        serde_json::from_value(node).unwrap()
    }

    #[test]
    fn a_drain_is_over_when_nothing_is_left_to_leave() {
        let name = "edge-1".parse().unwrap();
        let standing = |node: &Node| standing(&name, Some(node)).map(|done| done.is_some());
        assert!(!standing(&draining(2)).unwrap());
        assert!(standing(&draining(0)).unwrap());
        assert!(standing(&fixtures::node("edge-1")).is_err(), "uncordoned");
        let mut lost = draining(1);
        lost.status.state = NodeState::Lost {
            since: fixtures::NOW,
            waited: Span::default(),
        };
        let failure = standing(&lost).unwrap_err();
        assert!(failure.to_string().contains("windlass node rm edge-1"));
    }

    #[test]
    fn what_stays_says_why() {
        let mut old = fixtures::instance("web-0-1", RUNNING);
        old.leaving = Some("node edge-1 drains".to_owned());
        let stays = fixtures::instance("log-0-2", RUNNING);
        let reason = "0 of 1 nodes fit: 1 draining".to_owned();
        let mut new = fixtures::instance("web-0-3", Phase::Pending { reason });
        new.node = None;
        let left = left([&old, &stays].into_iter(), &waiting(std::iter::once(&new)));
        let told: Vec<_> = left
            .into_iter()
            .map(|(name, (_, text))| (name, text))
            .collect();
        let text = "ready on edge-1, stays: 0 of 1 nodes fit: 1 draining".to_owned();
        assert_eq!(told, [("default/web-0-1".to_owned(), text)]);
    }
}
