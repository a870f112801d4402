//! `windlass dev`.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use windlass_agent::{
    Offer,
    docker::Docker,
    runtime::{Owner, Runtime},
};
use windlass_api::{
    DEFAULT_ADDRESS,
    apply::ApplyRequest,
    client::{Client, Endpoint, Precondition, Selection},
    duration::Span,
    ids::{ClusterId, Namespace, NodeName},
    problem::Code,
    quantity::{CpuMillis, MemoryBytes},
    resource::{Instance, Manifest, Node},
    status::NodeState,
};
use windlass_orchestrator::trust::Encryption;

use super::{pack, process, server};
use crate::{
    cli::listen_address,
    error::{Exit, Failure},
    logging, manifests,
    output::style::{self, paint},
    progress::{self, Display, Target, Until},
};

/// How long the server and the agents may take to be there.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long what is to run may take: somebody looks at it, and ends it when it has been enough.
const WITHOUT_END: Span = Span::from_secs(365 * 86_400);
/// The most nodes: they share one machine.
const NODES_MAX: u64 = 16;
/// How long what was started may take to be gone again: a grace period and some more.
const GONE_WITHIN: Span = Span::from_secs(60);

/// Run a server and agents in one process, to try things out
#[derive(Debug, Args)]
#[command(after_help = "\
It applies the manifests, shows how they come up, and stays in the foreground. Ctrl-C removes what
it started; with --keep, containers and state stay, and the next `dev --keep` takes them over.")]
pub(crate) struct Dev {
    /// How many nodes to have; they share this machine's Docker engine, and its capacity
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = number_of_nodes)]
    nodes: u64,
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = DEFAULT_ADDRESS, value_parser = listen_address)]
    listen: SocketAddr,
    /// Where to keep the state [default: a temporary directory, or with --keep the user's]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Leave containers and state when it ends
    #[arg(long)]
    keep: bool,
    /// Docker's socket [default: DOCKER_HOST, or /var/run/docker.sock]
    #[arg(long, value_name = "ADDRESS")]
    docker: Option<String>,
    /// Manifests to apply
    #[arg(value_name = "MANIFEST")]
    manifests: Vec<PathBuf>,
}

fn number_of_nodes(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|n| (1..=NODES_MAX).contains(n));
    number.ok_or_else(|| format!("write a number from 1 to {NODES_MAX}"))
}

impl Dev {
    pub(crate) fn run(self, namespace: &Namespace) -> Result<(), Failure> {
        // Steps and transitions are shown as progress; the log has what else somebody should know.
        logging::start("warn")?;
        let manifests = match &self.manifests[..] {
            [] => Vec::new(),
            paths => manifests::read(paths, namespace)?,
        };
        process::run(async |shutdown| {
            let listener = process::listen(self.listen, Encryption::None).await?;
            let docker = pack::connect(self.docker.as_deref()).await?;
            if manifests.iter().any(uses_packed_image) {
                pack::pack(&docker, pack::IMAGE).await?;
            }
            let state = State::new(&self)?;
            let mut cluster = Cluster::start(&self, &docker, &state, listener).await?;
            // Cancel-safe: whatever was begun is ended below.
            let client = cluster.client.clone();
            let result = tokio::select! {
                () = shutdown.cancelled() => Ok(()),
                result = attend(&client, manifests) => result,
                failure = cluster.failed() => Err(failure),
            };
            let cleaned = if self.keep {
                Ok(())
            } else {
                cluster.clear(&docker).await
            };
            cluster.stop().await;
            state.close(if cleaned.is_ok() {
                self.fate()
            } else {
                Fate::Keep
            })?;
            result.and(cleaned)
        })
    }

    fn fate(&self) -> Fate {
        if self.keep { Fate::Keep } else { Fate::Remove }
    }
}

fn uses_packed_image(manifest: &Manifest) -> bool {
    let template = manifest.spec.template(0);
    template
        .all_containers()
        .any(|container| container.image.as_str() == pack::IMAGE)
}

/// What becomes of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Keep,
    Remove,
}

/// Where the state is.
struct State {
    dir: PathBuf,
    /// Whether it was there before; then it is not ours to remove.
    found: bool,
}

impl State {
    fn new(dev: &Dev) -> Result<Self, Failure> {
        let dir = match &dev.data_dir {
            Some(dir) => dir.clone(),
            None if dev.keep => process::default_data_dir("dev")?,
            None => std::env::temp_dir().join(format!("windlass-dev-{}", std::process::id())),
        };
        let found = dir.exists();
        Ok(Self { dir, found })
    }

    fn close(&self, fate: Fate) -> Result<(), Failure> {
        if fate == Fate::Keep || self.found {
            return Ok(());
        }
        std::fs::remove_dir_all(&self.dir).map_err(|error| {
            let dir = self.dir.display();
            Failure::new(
                Exit::Failed,
                format!("cannot remove the state in {dir}: {error}"),
            )
        })
    }
}

/// Applies the manifests and shows how they are, until it is interrupted.
async fn attend(client: &Client, manifests: Vec<Manifest>) -> Result<(), Failure> {
    if manifests.is_empty() {
        let server = client.server();
        say(&format!(
            "listening on {server}; in another terminal: windlass apply MANIFEST"
        ))?;
    } else {
        let response = client
            .apply(&ApplyRequest {
                resources: manifests,
            })
            .await?;
        let targets: Vec<Target> = response
            .results
            .iter()
            .map(|r| Target::of(&r.workload))
            .collect();
        let mut display = Display::new();
        progress::wait(client, &targets, Until::Settled, WITHOUT_END, &mut display).await?;
        let instances = client.list::<Instance>(&Selection::all()).await?;
        for line in places(&instances.items) {
            say(&line)?;
        }
        say("Ctrl-C ends it")?;
    }
    progress::follow(client, &mut Display::new()).await
}

/// Where to find what runs: one line for each workload's port.
fn places(instances: &[Instance]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let ready = |i: &&Instance| i.status.phase.is_running() && i.status.readiness.is_ready();
    for instance in instances.iter().filter(ready) {
        let name = format!("{} ready", instance.workload);
        for port in &instance.ports {
            let place = match (port.host, instance.status.address) {
                (Some(host), _) => format!("http://localhost:{host}"),
                (None, Some(address)) => format!("http://{address}:{}", port.container),
                (None, None) => continue,
            };
            lines.push(format!("{name}: {}", paint(style::NAME, &place)));
        }
        if instance.ports.is_empty() {
            lines.push(name);
        }
    }
    lines.dedup();
    lines
}

fn say(line: &str) -> io::Result<()> {
    let mut out = crate::output::stdout();
    writeln!(out, "{line}")?;
    out.flush()
}

/// A server and its agents in this process.
struct Cluster {
    client: Client,
    /// Ends the agents, and then the server.
    agents_shutdown: CancellationToken,
    server_shutdown: CancellationToken,
    tasks: JoinSet<Result<(), Failure>>,
}

impl Cluster {
    async fn start(
        dev: &Dev,
        docker: &Docker,
        state: &State,
        listener: TcpListener,
    ) -> Result<Self, Failure> {
        let address = listener
            .local_addr()
            .map_err(|e| Failure::new(Exit::Failed, format!("cannot tell the address: {e}")))?;
        let client = Client::new(&Endpoint::http(address));
        let mut cluster = Self {
            client,
            agents_shutdown: CancellationToken::new(),
            server_shutdown: CancellationToken::new(),
            tasks: JoinSet::new(),
        };
        let config = windlass_orchestrator::Config {
            verifier: Some(server::verifier()?),
            ..windlass_orchestrator::Config::new(state.dir.join("server"))
        };
        let shutdown = cluster.server_shutdown.clone();
        cluster.tasks.spawn(async move {
            let served = windlass_orchestrator::run(config, listener, shutdown).await;
            served.map_err(|error| process::failure(&error))
        });
        let share = capacity_share(docker, dev.nodes).await?;
        for n in 1..=dev.nodes {
            cluster.start_agent(dev, &state.dir, n, share).await?;
        }
        let ready = cluster.ready(dev.nodes);
        match tokio::time::timeout(READY_WITHIN, ready).await {
            Ok(result) => result.map(|()| cluster),
            Err(_) => Err(
                Failure::new(Exit::Timeout, "server and agents are not ready in time")
                    .hint("look closer with WINDLASS_LOG=info"),
            ),
        }
    }

    async fn start_agent(
        &mut self,
        dev: &Dev,
        dir: &Path,
        n: u64,
        share: Offer,
    ) -> Result<(), Failure> {
        let node: NodeName = format!("node-{n}")
            .parse()
            .expect("a letter, a dash and a number");
        let config = windlass_agent::Config {
            server: Some(self.client.server().to_owned()),
            data_dir: dir.join(node.as_str()),
            node,
            labels: [].into(),
            taints: Vec::new(),
            offer: share,
        };
        // A connection of its own: what it knows of containers is about its own ones.
        let docker = pack::connect(dev.docker.as_deref()).await?;
        let shutdown = self.agents_shutdown.clone();
        self.tasks.spawn(async move {
            let ran = windlass_agent::run(config, docker, shutdown).await;
            ran.map_err(|error| process::failure(&error))
        });
        Ok(())
    }

    /// Waits until the nodes are ready, or something fails.
    async fn ready(&mut self, nodes: u64) -> Result<(), Failure> {
        loop {
            let ready = |node: &&Node| node.status.state == NodeState::Ready;
            match self.client.list::<Node>(&Selection::all()).await {
                Ok(list) if list.items.iter().filter(ready).count() as u64 >= nodes => {
                    return Ok(());
                }
                // It is not there yet.
                Ok(_) | Err(_) => {}
            }
            // Cancel-safe, both.
            tokio::select! {
                failure = self.failed() => return Err(failure),
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        }
    }

    /// Ends when the server or an agent does, which none of them should.
    async fn failed(&mut self) -> Failure {
        match self.tasks.join_next().await {
            Some(Ok(Err(failure))) => failure,
            Some(Ok(Ok(()))) | None => Failure::new(Exit::Failed, "the server or an agent ended"),
            Some(Err(panic)) => process::failure(&panic),
        }
    }

    /// Deletes every workload, waits until nothing is left of them, and removes the networks that
    /// they had.
    async fn clear(&mut self, docker: &Docker) -> Result<(), Failure> {
        let cluster = ClusterId(self.client.server_info().await?.cluster);
        let workloads = self.client.list(&Selection::all()).await?;
        let nodes = self.client.list::<Node>(&Selection::all()).await?;
        let targets: Vec<Target> = workloads.items.iter().map(Target::of).collect();
        for target in &targets {
            let deleted = self.client.delete_workload(&target.key, Precondition::None);
            match deleted.await {
                // A job goes with the schedule or the job that made it.
                Err(error) if error.code() != Some(Code::NotFound) => return Err(error.into()),
                Ok(()) | Err(_) => {}
            }
        }
        // A second Ctrl-C means: now.
        let asked = process::asked_to_stop()?;
        let mut display = Display::new();
        let gone = progress::wait(
            &self.client,
            &targets,
            Until::Deleted,
            GONE_WITHIN,
            &mut display,
        );
        // Cancel-safe: what is not gone yet is left.
        tokio::select! {
            gone = gone => drop(gone?),
            () = asked => {
                let ours = format!("--filter label=windlass.cluster={cluster}");
                return Err(
                    Failure::new(Exit::Failed, "interrupted while cleaning up").hint(format!(
                        "remove what is left with: docker rm -f $(docker ps -aq {ours}); \
                         docker network rm $(docker network ls -q {ours})"
                    )),
                );
            }
        }
        self.stop_agents().await;
        for node in nodes.items.into_iter().map(|node| node.name) {
            let owner = Owner { cluster, node };
            let pruned = docker.prune_networks(&owner, &BTreeSet::new()).await;
            pruned.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        }
        Ok(())
    }

    /// Ends the agents while the server is there, so that they can say their last word to it.
    async fn stop_agents(&mut self) {
        self.agents_shutdown.cancel();
        while self.tasks.len() > 1 && self.tasks.join_next().await.is_some() {}
    }

    async fn stop(mut self) {
        self.stop_agents().await;
        self.server_shutdown.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// What each node may use of the engine's machine: everything, for a single one.
async fn capacity_share(docker: &Docker, nodes: u64) -> Result<Offer, Failure> {
    if nodes == 1 {
        return Ok(Offer::default());
    }
    let info = docker.info().await;
    let total = info
        .map_err(|e| Failure::new(Exit::Failed, e.to_string()))?
        .capacity;
    Ok(Offer {
        cpu: Some(CpuMillis(total.cpu.0 / nodes)),
        memory: Some(MemoryBytes(total.memory.0 / nodes)),
    })
}
