//! `windlass cluster`.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use clap::Subcommand;
use jiff::Timestamp;
use windlass_api::{
    clock,
    resource::{ClusterInfo, Evictions, Restore, RestoreCause, StoreState},
};

use super::Context;
use crate::{
    error::Failure,
    output::{
        self, Format, TextFormat,
        age::age,
        style::{self, paint},
    },
};

/// Look at the cluster as a whole, and decide about it
#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// Show what there is, and what is wrong
    Status(Format),
    /// Let agents remove what the server does not know, after its state may have gone back
    #[command(after_help = "\
After a backup was restored, or the server's disk came back as it once was, everything runs on and
nothing is removed, since nobody can tell what is missing from the state. Look at `windlass cluster
status` and apply what is missing first; what the server still does not know is then removed.")]
    AcceptRestore(Format),
}

impl Cluster {
    pub(crate) fn output(&self) -> TextFormat {
        let (Self::Status(format) | Self::AcceptRestore(format)) = self;
        format.output
    }

    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let output = self.output();
        let info = match self {
            Self::Status(_) => context.client.cluster().await?,
            Self::AcceptRestore(_) => context.client.accept_restore().await?,
        };
        match output {
            TextFormat::Json => output::json(&info),
            TextFormat::Text => Ok(write(&info, clock::now(), &mut output::stdout())?),
        }
    }
}

fn write(info: &ClusterInfo, now: Timestamp, out: &mut impl Write) -> io::Result<()> {
    let good = |text: &str| paint(style::GOOD, text).to_string();
    let bad = |text: &str| paint(style::BAD, text).to_string();
    let agents = format!("{}; {} connected", counts(&info.nodes), info.agents);
    let mut lines = vec![
        ("Cluster", info.id.to_string()),
        (
            "Server",
            format!(
                "windlass {}, version {} of epoch {}",
                info.server_version, info.version, info.epoch
            ),
        ),
        (
            "Store",
            match info.store {
                StoreState::Writable => good("takes writes"),
                StoreState::Full => bad("its disk is full: writes are refused"),
            },
        ),
        ("Nodes", agents),
        ("Workloads", counts(&info.workloads)),
        ("Instances", counts(&info.instances)),
    ];
    if !info.rejecting.is_empty() {
        let names: Vec<_> = info.rejecting.iter().map(ToString::to_string).collect();
        lines.push(("Keep back", bad(&names.join(", "))));
    }
    if let Evictions::Stopped { since } = info.evictions {
        let text = format!(
            "nothing on lost nodes is replaced, since most are dark; for {}",
            age(now, since)
        );
        lines.push(("Evictions", bad(&text)));
    }
    if let Some(restore) = &info.restore {
        let text = restored(restore, now);
        let accepted = restore.accepted_at.is_some();
        lines.push(("Restore", if accepted { text } else { bad(&text) }));
    }
    for (name, value) in lines {
        writeln!(out, "{name:<11}{value}")?;
    }
    Ok(())
}

fn restored(restore: &Restore, now: Timestamp) -> String {
    let cause = match &restore.cause {
        RestoreCause::Export => "from an export".to_owned(),
        RestoreCause::Behind {
            node,
            epoch,
            generation,
        } => format!(
            "the state is older than what node {node} has seen (generation {generation} of epoch \
             {epoch})"
        ),
    };
    let since = age(now, restore.at);
    match restore.accepted_at {
        Some(at) => format!("{cause}, {since} ago; accepted {} ago", age(now, at)),
        None => format!(
            "{cause}, {since} ago; nothing is removed until `windlass cluster accept-restore`"
        ),
    }
}

fn counts(counts: &BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    let parts = counts.iter().map(|(name, count)| format!("{count} {name}"));
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixtures::NOW;

    fn shown(more: serde_json::Value) -> String {
        let mut info = json!({
            "id": "00000000-0000-0000-0000-000000000007", "serverVersion": "1", "version": 9,
            "epoch": 2, "nodes": { "Lost": 1, "Ready": 2 }, "rejecting": [], "agents": 2,
            "workloads": {}, "instances": { "Running": 3 }, "store": "Writable",
        });
        for (key, value) in more.as_object().unwrap() {
            info[key] = value.clone();
        }
        let info: ClusterInfo = serde_json::from_value(info).unwrap();
        let mut text = Vec::new();
        write(&info, NOW, &mut anstream::StripStream::new(&mut text)).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn the_overview_tells_what_there_is() {
        let text = shown(json!({}));
        for line in [
            "Cluster    00000000-0000-0000-0000-000000000007",
            "Store      takes writes",
            "Nodes      1 Lost, 2 Ready; 2 connected",
            "Workloads  none",
            "Instances  3 Running",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("Restore"), "{text}");
    }

    #[test]
    fn a_restore_is_told_with_what_to_do_until_it_is_accepted() {
        let at = "2025-12-31T23:50:00Z";
        let behind = json!({ "type": "behind", "node": "n1", "epoch": 1, "generation": 4 });
        let text = shown(json!({
            "rejecting": ["n1"], "store": "Full", "restore": { "at": at, "cause": behind },
        }));
        assert!(text.contains("its disk is full"), "{text}");
        assert!(text.contains("Keep back  n1"), "{text}");
        assert!(text.contains("node n1 has seen"), "{text}");
        assert!(text.contains("windlass cluster accept-restore"), "{text}");
        let text = shown(json!({
            "restore": { "at": at, "cause": { "type": "export" }, "acceptedAt": at },
        }));
        assert!(text.contains("from an export"), "{text}");
        assert!(!text.contains("accept-restore"), "{text}");
    }
}
