//! `windlass node`.

use std::{collections::BTreeMap, io::Write, str::FromStr};

use clap::{Args, Subcommand};
use windlass_api::{
    client::{Force, Precondition},
    expression::Taint,
    ids::NodeName,
    problem::Code,
    resource::{Node, NodePatch},
    validate::{check_label_key, check_label_value},
};

use super::Context;
use crate::{
    cli::Named,
    error::Failure,
    output::{self, Format, TextFormat},
};

/// How often a change of taints is tried again when somebody else changes the node meanwhile.
const ATTEMPTS: usize = 5;

/// Change nodes, and take them out of the cluster
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Take a node out of the cluster
    #[command(after_help = "\
A node that has instances other than those of daemons has to be drained first, or be lost, unless
this is forced: then they are stopped and replaced elsewhere. Should the machine come back, its agent
is told to run nothing; it joins anew when it is started with an empty data directory.")]
    Rm(Rm),
    /// Set labels of a node, or remove them
    Label(Label),
    /// Set taints of a node, or remove them
    Taint(SetTaint),
}

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// The node
    name: Named<NodeName>,
    /// Also if what runs there is stopped by it
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Label {
    /// The node
    name: Named<NodeName>,
    /// `KEY=VALUE` to set a label, `KEY-` to remove it
    #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
    changes: Vec<LabelChange>,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct SetTaint {
    /// The node
    name: Named<NodeName>,
    /// `KEY[=VALUE]` to set a taint, `KEY-` to remove all of that key
    #[arg(required = true, value_name = "KEY[=VALUE]|KEY-")]
    changes: Vec<TaintChange>,
    #[command(flatten)]
    format: Format,
}

/// A label to set, or to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LabelChange {
    key: String,
    value: Option<String>,
}

impl FromStr for LabelChange {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = match (text.split_once('='), text.strip_suffix('-')) {
            (Some((key, value)), _) => (key, Some(value.to_owned())),
            (None, Some(key)) => (key, None),
            (None, None) => return Err("write KEY=VALUE, or KEY- to remove it".to_owned()),
        };
        check_label_key(key)?;
        value.as_deref().map_or(Ok(()), check_label_value)?;
        let key = key.to_owned();
        Ok(Self { key, value })
    }
}

/// A taint to set, or those of a key to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
enum TaintChange {
    Set(Taint),
    Remove(String),
}

impl FromStr for TaintChange {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(key) = text.strip_suffix('-').filter(|key| !key.contains('=')) {
            check_label_key(key)?;
            return Ok(Self::Remove(key.to_owned()));
        }
        text.parse()
            .map(Self::Set)
            .map_err(|e: <Taint as FromStr>::Err| e.to_string())
    }
}

impl NodeCommand {
    /// How the result is written.
    pub(crate) fn output(&self) -> TextFormat {
        match self {
            Self::Rm(rm) => rm.format.output,
            Self::Label(label) => label.format.output,
            Self::Taint(taint) => taint.format.output,
        }
    }

    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let output = self.output();
        match self {
            Self::Rm(rm) => {
                let name = &rm.name.name;
                let force = if rm.force { Force::Yes } else { Force::No };
                context.client.remove_node(name, force).await?;
                let node = context.client.node(name).await?;
                write(output, &node, "removed")
            }
            Self::Label(label) => {
                let labels = label.changes.into_iter().map(|c| (c.key, c.value));
                let patch = NodePatch {
                    labels: labels.collect::<BTreeMap<_, _>>(),
                    ..NodePatch::default()
                };
                let name = &label.name.name;
                let patched = context.client.patch_node(name, &patch, Precondition::None);
                write(output, &patched.await?, "labelled")
            }
            Self::Taint(taint) => {
                let node = taint.set(context).await?;
                write(output, &node, "tainted")
            }
        }
    }
}

impl SetTaint {
    /// A patch has all taints, so it holds only for the node as it was read.
    async fn set(&self, context: &Context) -> Result<Node, Failure> {
        let name = &self.name.name;
        let mut attempts = 1..=ATTEMPTS;
        loop {
            let node = context.client.node(name).await?;
            let patch = NodePatch {
                taints: Some(changed(node.taints, &self.changes)),
                ..NodePatch::default()
            };
            let precondition = Precondition::Version(node.version);
            let patched = context.client.patch_node(name, &patch, precondition).await;
            match patched {
                Err(error)
                    if error.code() == Some(Code::VersionConflict)
                        && attempts.next() < Some(ATTEMPTS) => {}
                patched => return Ok(patched?),
            }
        }
    }
}

fn changed(mut taints: Vec<Taint>, changes: &[TaintChange]) -> Vec<Taint> {
    for change in changes {
        match change {
            TaintChange::Set(taint) if taints.contains(taint) => {}
            TaintChange::Set(taint) => taints.push(taint.clone()),
            TaintChange::Remove(key) => taints.retain(|taint| taint.key != *key),
        }
    }
    taints
}

fn write(output: TextFormat, node: &Node, done: &str) -> Result<(), Failure> {
    match output {
        TextFormat::Json => output::json(node),
        TextFormat::Text => Ok(writeln!(output::stdout(), "node {} {done}", node.name)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_set_and_removed() {
        let read = |text: &str| text.parse::<LabelChange>();
        let label = |key: &str, value: Option<&str>| LabelChange {
            key: key.to_owned(),
            value: value.map(str::to_owned),
        };
        assert_eq!(read("zone=eu"), Ok(label("zone", Some("eu"))));
        assert_eq!(read("zone="), Ok(label("zone", Some(""))));
        assert_eq!(read("zone-"), Ok(label("zone", None)));
        assert_eq!(read("zone=a-"), Ok(label("zone", Some("a-"))));
        for bad in ["zone", "=x", "-", "../x=1"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn taints_are_set_once_and_removed_by_key() {
        let read = |text: &str| text.parse::<TaintChange>().unwrap();
        let taints = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<_>>();
        let changes = ["gpu=yes", "dedicated", "gpu=yes"].map(read);
        let set = changed(taints(&["old=1", "old=2"]), &changes);
        assert_eq!(set, taints(&["old=1", "old=2", "gpu=yes", "dedicated"]));
        assert_eq!(
            changed(set, &[read("old-")]),
            taints(&["gpu=yes", "dedicated"])
        );
        assert!("a b".parse::<TaintChange>().is_err());
    }
}
