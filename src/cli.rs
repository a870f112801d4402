//! The command line: its commands, and the options that all of them share.

use std::{net::SocketAddr, str::FromStr};

use clap::{
    Args, Command as Clap, CommandFactory, FromArgMatches, Parser, Subcommand, builder::Styles,
};
use windlass_api::{
    DEFAULT_ADDRESS,
    ids::{NameError, Namespace},
};

use crate::{
    chore,
    commands::{
        agent, apply, backup, cluster, completion, context, cordon, cp, delete, describe, dev,
        drain, events, exec, get, job, login, logs, node, pack, plan, port_forward, rebalance,
        restart, rollout, scale, server, token, top, version, wait, whoami,
    },
    contexts::Name,
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
    /// The server to speak to: a URL, `unix:PATH`, or a host and its port [default: that of the
    /// current context; without one, a server on this machine]
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "WINDLASS_SERVER",
        hide_env_values = true
    )]
    pub(crate) server: Option<String>,
    /// The context to use instead of the current one; see `windlass context`
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "WINDLASS_CONTEXT",
        hide_env_values = true
    )]
    pub(crate) context: Option<Name>,
    /// The namespace to work in [default: that of the context, or `default`]
    #[arg(
        short,
        long,
        global = true,
        env = "WINDLASS_NAMESPACE",
        hide_env_values = true,
        value_name = "NAME"
    )]
    pub(crate) namespace: Option<Namespace>,
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
    Login(login::Login),
    Logout(login::Logout),
    Whoami(whoami::Whoami),
    #[command(subcommand)]
    Context(context::ContextCommand),
    #[command(subcommand)]
    Token(token::TokenCommand),
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
            Self::Apply(args) => args.format.output.into(),
            Self::Plan(args) => args.format.output.into(),
            Self::Get(args) => args.options.output.into(),
            Self::Describe(args) => args.format.output.into(),
            Self::Logs(args) => args.format.output.into(),
            Self::Top(args) => args.format.output.into(),
            Self::Scale(args) => args.format.output.into(),
            Self::Restart(args) => args.format.output.into(),
            Self::Rollout(args) => args.output().into(),
            Self::Job(args) => args.output().into(),
            Self::Delete(args) => args.format.output.into(),
            Self::Wait(args) => args.format.output.into(),
            Self::Events(args) => args.options.output.into(),
            Self::Cordon(args) | Self::Uncordon(args) => args.format.output.into(),
            Self::Drain(args) => args.format.output.into(),
            Self::Node(args) => args.output().into(),
            Self::Rebalance(args) => args.format.output.into(),
            Self::Cluster(args) => args.output().into(),
            Self::Login(args) => args.format.output.into(),
            Self::Logout(args) => args.format.output.into(),
            Self::Whoami(args) => args.format.output.into(),
            Self::Context(args) => args.errors(),
            Self::Token(args) => args.errors(),
            Self::Version(args) => args.format.output.into(),
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

/// The command line as it is read.
pub(crate) fn command() -> Clap {
    with_negative_numbers(Cli::command())
}

/// Takes a negative number for the value that it is meant to be, not for an option: what takes the
/// value says what is wrong with it.
fn with_negative_numbers(command: Clap) -> Clap {
    command
        .mut_args(|arg| {
            // What is passed on may be anything already.
            if arg.get_action().takes_values() && !arg.is_allow_hyphen_values_set() {
                arg.allow_negative_numbers(true)
            } else {
                arg
            }
        })
        .mut_subcommands(with_negative_numbers)
}

/// Reads the command line of this process, and ends it if that makes no sense.
pub(crate) fn read() -> Cli {
    let matches = command().get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// A whole number, as a person writes it.
pub(crate) fn whole_number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| "write a whole number that is not negative, like 3".to_owned())
}

/// Where a server is to listen.
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("write an address and a port, like {DEFAULT_ADDRESS}"))
}

/// The kinds as they stand in front of names.
const KINDS: [&str; 4] = ["workload", "instance", "node", "token"];

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
    use windlass_api::ids::WorkloadName;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    /// They would be read as each other.
    #[test]
    fn no_argument_of_a_command_is_called_like_a_global_one() {
        fn check(command: &Clap, global: &[&str]) {
            for sub in command.get_subcommands() {
                for arg in sub.get_arguments() {
                    let id = arg.get_id().as_str();
                    assert!(!global.contains(&id), "{} {id}", sub.get_name());
                }
                check(sub, global);
            }
        }
        let command = command();
        let global = command.get_arguments().filter(|arg| arg.is_global_set());
        let global: Vec<_> = global.map(|arg| arg.get_id().as_str()).collect();
        assert!(global.contains(&"server"), "{global:?}");
        check(&command, &global);
    }

    #[test]
    fn what_is_no_number_or_address_says_what_to_write() {
        for (line, says) in [
            ("scale web -1", "a whole number"),
            ("scale web 1..3", "a whole number"),
            ("scale web --replicas -1", "a whole number"),
            ("scale web 1.5", "a whole number"),
            ("logs web --tail -5", "a whole number"),
            ("rollout undo web --to -1", "a whole number"),
            ("dev --nodes -1", "from 1 to 16"),
            ("server --listen 7400", "like 127.0.0.1:7400"),
            ("dev --listen localhost", "like 127.0.0.1:7400"),
            ("port-forward web -80", "is not a port"),
        ] {
            let words = ["windlass"].into_iter().chain(line.split(' '));
            let error = command().try_get_matches_from(words).unwrap_err();
            assert!(error.to_string().contains(says), "{line}: {error}");
        }
        let passed_on = ["windlass", "exec", "web", "--", "kill", "-9", "1"];
        assert!(command().try_get_matches_from(passed_on).is_ok());
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
