//! The command line: its commands, and the options that all of them share.

use std::str::FromStr;

use clap::{Args, Parser, Subcommand, builder::Styles};
use windlass_api::{
    DEFAULT_ADDRESS,
    ids::{NameError, Namespace},
};

use crate::{
    chore,
    commands::{
        agent, apply, backup, cluster, completion, cordon, cp, delete, describe, dev, drain,
        events, exec, get, job, logs, node, pack, plan, port_forward, rebalance, restart, rollout,
        scale, server, top, version, wait,
    },
    demo,
    error::{EXIT_CODES, ErrorFormat},
    output::style,
};

const EXAMPLES: &str = "\
Examples:
  windlass dev examples/hello.yaml   try it: server, agent and a workload in one process
  windlass apply web.yaml            make it so, and wait until it is ready
  windlass rollout undo web          go back to what ran before
  windlass get instances -w          see what happens
  windlass logs -f web               read along";

const STYLES: Styles = Styles::styled()
    .header(style::TITLE)
    .usage(style::TITLE)
    .literal(style::NAME)
    .error(style::BAD);

/// A minimal, standalone container orchestrator: server, agent and command line in one binary
#[derive(Debug, Parser)]
#[command(
    name = "windlass",
    version,
    styles = STYLES,
    max_term_width = 100,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"),
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The server to speak to
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "WINDLASS_SERVER",
        hide_env_values = true,
        default_value_t = format!("http://{DEFAULT_ADDRESS}"),
    )]
    pub(crate) server: String,
    /// The namespace to work in
    #[arg(
        short,
        long,
        global = true,
        env = "WINDLASS_NAMESPACE",
        hide_env_values = true,
        default_value_t,
        value_name = "NAME"
    )]
    pub(crate) namespace: Namespace,
    /// When to use colours
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t = style::Color::Auto,
        value_name = "WHEN",
        hide_possible_values = true,
        hide_default_value = true,
        help = "When to use colours: auto (on a terminal, unless NO_COLOR is set), always or never"
    )]
    pub(crate) color: style::Color,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Dev(dev::Dev),
    Server(server::Server),
    Agent(agent::Agent),
    Apply(apply::Apply),
    Plan(plan::Plan),
    Get(get::Get),
    Describe(describe::Describe),
    Logs(logs::Logs),
    Exec(exec::Exec),
    PortForward(port_forward::PortForward),
    Cp(cp::Cp),
    Top(top::Top),
    Scale(scale::Scale),
    Restart(restart::Restart),
    Rollout(rollout::Rollout),
    Job(job::Job),
    Delete(delete::Delete),
    Wait(wait::Wait),
    Events(events::Events),
    /// Place no new instances on nodes; what runs there runs on
    Cordon(cordon::Nodes),
    Drain(drain::Drain),
    /// Place instances on nodes again, which also ends a drain
    Uncordon(cordon::Nodes),
    #[command(subcommand)]
    Node(node::NodeCommand),
    Rebalance(rebalance::Rebalance),
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    #[command(subcommand)]
    Backup(backup::Backup),
    /// Print the JSON Schema of manifests, for editors
    Schema,
    Completion(completion::Completion),
    Version(version::Version),
    Pack(pack::Pack),
    #[command(hide = true)]
    Demo(demo::Demo),
    #[command(hide = true)]
    Chore(chore::Chore),
    #[command(hide = true)]
    StoreVerify(server::StoreVerify),
    /// Do nothing until told to stop: what a pause container runs
    #[command(hide = true)]
    Pause,
}

impl Command {
    /// How the command writes its errors.
    pub(crate) fn error_format(&self) -> ErrorFormat {
        match self {
            Self::Apply(args) => args.output.into(),
            Self::Plan(args) => args.output.into(),
            Self::Get(args) => args.options.output.into(),
            Self::Describe(args) => args.output.into(),
            Self::Logs(args) => args.output.into(),
            Self::Top(args) => args.output.into(),
            Self::Scale(args) => args.output.into(),
            Self::Restart(args) => args.output.into(),
            Self::Rollout(args) => args.output().into(),
            Self::Job(args) => args.output().into(),
            Self::Delete(args) => args.output.into(),
            Self::Wait(args) => args.output.into(),
            Self::Events(args) => args.options.output.into(),
            Self::Cordon(args) | Self::Uncordon(args) => args.output.into(),
            Self::Drain(args) => args.output.into(),
            Self::Node(args) => args.output().into(),
            Self::Rebalance(args) => args.output.into(),
            Self::Cluster(args) => args.output().into(),
            Self::Version(args) => args.output.into(),
            Self::Exec(_)
            | Self::PortForward(_)
            | Self::Cp(_)
            | Self::Dev(_)
            | Self::Server(_)
            | Self::Agent(_)
            | Self::Backup(_)
            | Self::Schema
            | Self::Completion(_)
            | Self::Pack(_)
            | Self::Demo(_)
            | Self::Chore(_)
            | Self::StoreVerify(_)
            | Self::Pause => ErrorFormat::Text,
        }
    }
}

/// The kinds as they stand in front of names.
const KINDS: [&str; 3] = ["workload", "instance", "node"];

/// The name of an object as commands take it: `web`, with its namespace `shop/web`, and either
/// with its kind in front, as `get -o name` writes it: `workload/web`, `workload/shop/web`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named<N> {
    namespace: Option<Namespace>,
    pub(crate) name: N,
}

impl<N> Named<N> {
    /// The namespace: its own, or else `namespace`.
    pub(crate) fn namespace(&self, namespace: &Namespace) -> Namespace {
        self.namespace.as_ref().unwrap_or(namespace).clone()
    }
}

impl<N: FromStr<Err = NameError>> FromStr for Named<N> {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        let rest = KINDS
            .iter()
            .find_map(|kind| s.strip_prefix(kind)?.strip_prefix('/'));
        let s = rest.unwrap_or(s);
        let (namespace, name) = match s.split_once('/') {
            Some((namespace, name)) => (Some(namespace.parse()?), name),
            None => (None, s),
        };
        Ok(Self {
            namespace,
            name: name.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use windlass_api::ids::WorkloadName;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn names_may_bring_their_namespace_and_their_kind() {
        let read = |text: &str| text.parse::<Named<WorkloadName>>();
        let namespace = Namespace::default();
        for (text, full) in [
            ("web", "default/web"),
            ("shop/web", "shop/web"),
            ("workload/web", "default/web"),
            ("workload/shop/web", "shop/web"),
        ] {
            let named = read(text).unwrap();
            assert_eq!(
                format!("{}/{}", named.namespace(&namespace), named.name),
                full
            );
        }
        for bad in ["", "/", "web/", "/web", "a/b/c", "../web"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
