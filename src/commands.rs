//! The commands, one module each, and how they are run.

use std::{future::Future, process::ExitCode};

use tokio::runtime::{Builder, Runtime};
use windlass_api::{
    client::Client,
    ids::{Namespace, WorkloadKey, WorkloadName},
};

use crate::{
    cli::{Cli, Command, Global, Named},
    connection::{self, Connection},
    demo,
    error::{Exit, Failure},
};

pub(crate) mod agent;
pub(crate) mod apply;
pub(crate) mod backup;
pub(crate) mod cluster;
pub(crate) mod completion;
pub(crate) mod context;
pub(crate) mod cordon;
pub(crate) mod cp;
pub(crate) mod delete;
pub(crate) mod describe;
pub(crate) mod dev;
pub(crate) mod drain;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod get;
pub(crate) mod job;
pub(crate) mod login;
pub(crate) mod logs;
pub(crate) mod node;
pub(crate) mod pack;
pub(crate) mod pause;
pub(crate) mod plan;
pub(crate) mod port_forward;
pub(crate) mod process;
pub(crate) mod rebalance;
pub(crate) mod restart;
pub(crate) mod rollout;
pub(crate) mod scale;
pub(crate) mod schema;
pub(crate) mod server;
mod target;
pub(crate) mod token;
pub(crate) mod top;
pub(crate) mod version;
pub(crate) mod wait;
pub(crate) mod whoami;

/// Where a command works: a server, and a namespace on it.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) namespace: Namespace,
}

impl Context {
    fn new(global: &Global) -> Result<Self, Failure> {
        let Connection {
            endpoint,
            namespace,
        } = connection::find(global)?;
        Ok(Self {
            client: Client::new(&endpoint),
            namespace: global.namespace.clone().or(namespace).unwrap_or_default(),
        })
    }

    /// The full name of the workload that a user named.
    pub(crate) fn workload_key(&self, named: &Named<WorkloadName>) -> WorkloadKey {
        WorkloadKey::new(named.namespace(&self.namespace), named.name.clone())
    }
}

/// Runs the command that was given, and tells its exit code.
pub(crate) fn run(cli: Cli) -> ExitCode {
    let format = cli.command.error_format();
    dispatch(cli).unwrap_or_else(|failure| failure.report(format))
}

fn dispatch(cli: Cli) -> Result<ExitCode, Failure> {
    let Cli { global, command } = cli;
    let done = match command {
        Command::StoreVerify(args) => return Ok(args.run()),
        Command::Chore(args) => return args.run(),
        Command::Rollout(args) => return with_server(&global, async |to| args.run(&to).await),
        Command::Job(args) => return with_server(&global, async |to| args.run(&to).await),
        Command::Pause => pause::run(),
        Command::Exec(args) => return with_server(&global, async |to| args.run(&to).await),
        Command::Schema => schema::run(),
        Command::Completion(args) => args.run(),
        Command::Backup(args) => args.run(&global),
        Command::Demo(args) => demo::run(args),
        Command::Dev(args) => args.run(&global.namespace.clone().unwrap_or_default()),
        Command::Server(args) => args.run(),
        Command::Agent(args) => args.run(&global),
        Command::Pack(args) => args.run(),
        Command::Apply(args) => with_server(&global, async |to| args.run(&to).await),
        Command::Plan(args) => with_server(&global, async |to| args.run(&to).await),
        Command::Get(args) => with_server(&global, async |to| args.run(&to).await),
        Command::Describe(args) => with_server(&global, async |to| args.run(&to).await),
        Command::Logs(args) => with_server(&global, async |to| args.run(&to).await),
        Command::PortForward(args) => with_server(&global, async |to| args.run(&to).await),
        Command::Cp(args) => with_server(&global, async |to| args.run(&to).await),
        Command::Top(args) => with_server(&global, async |to| args.run(&to).await),
        Command::Scale(args) => with_server(&global, async |to| args.run(&to).await),
        Command::Restart(args) => with_server(&global, async |to| args.run(&to).await),
        Command::Delete(args) => with_server(&global, async |to| args.run(&to).await),
        Command::Wait(args) => with_server(&global, async |to| args.run(&to).await),
        Command::Events(args) => with_server(&global, async |to| args.run(&to).await),
        Command::Cordon(args) => with_server(&global, async |to| args.cordon(&to).await),
        Command::Drain(args) => with_server(&global, async |to| args.run(&to).await),
        Command::Node(args) => with_server(&global, async |to| args.run(&to).await),
        Command::Rebalance(args) => with_server(&global, async |to| args.run(&to).await),
        Command::Uncordon(args) => with_server(&global, async |to| args.uncordon(&to).await),
        Command::Cluster(args) => with_server(&global, async |to| args.run(&to).await),
        Command::Login(args) => args.run(&global),
        Command::Logout(args) => args.run(),
        Command::Context(args) => args.run(&global),
        Command::Whoami(args) => with_server(&global, async |to| args.run(&to).await),
        Command::Token(args) => with_server(&global, async |to| args.run(&to).await),
        Command::Version(args) => with_server(&global, async |to| args.run(&to).await),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Runs a command that speaks to a server. One thread is enough for that, and starts at once.
fn with_server<T>(
    global: &Global,
    command: impl AsyncFnOnce(Context) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let context = Context::new(global)?;
    block_on(Builder::new_current_thread(), command(context))
}

/// Runs `future` on a runtime of its own.
pub(crate) fn block_on<T>(
    mut builder: Builder,
    future: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let runtime: Runtime = builder
        .enable_all()
        .build()
        .map_err(|e| Failure::new(Exit::Failed, format!("cannot start the runtime: {e}")))?;
    let result = runtime.block_on(future);
    // A look-up of a name, or a read of a pipe, cannot be interrupted and must not hold us up.
    runtime.shutdown_background();
    result
}
