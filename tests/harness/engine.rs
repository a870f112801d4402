//! The Docker engine, as somebody else would use it: behind the agents' backs.

use std::{
    collections::HashMap,
    future::Future,
    path::Path,
    process::Command,
    sync::{LazyLock, Once},
};

use bollard::{
    Docker,
    models::{
        ContainerConfig, ContainerCreateBody, ContainerInspectResponse, ContainerSummary,
        HealthConfig,
    },
    query_parameters::{
        CommitContainerOptionsBuilder, CreateContainerOptionsBuilder, InspectContainerOptions,
        KillContainerOptionsBuilder, ListContainersOptionsBuilder, ListNetworksOptionsBuilder,
        RemoveContainerOptionsBuilder, RemoveImageOptions, StartContainerOptions, TopOptions,
    },
};
use tokio::runtime::Runtime;

use super::WINDLASS;

/// The image that the tests run: the binary under test, packed.
pub(crate) const IMAGE: &str = "windlass:test";

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));

fn with<T, F: Future<Output = T>>(call: impl FnOnce(Docker) -> F) -> T {
    let docker = Docker::connect_with_unix_defaults().expect("docker's socket");
    RUNTIME.block_on(call(docker))
}

/// Packs the binary under test into [`IMAGE`], once. Fails, in one line, where Docker is missing.
pub(crate) fn ensure_image() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let output = Command::new(WINDLASS)
            .args(["pack", "--tag", IMAGE])
            .output();
        let output = output.expect("the binary under test");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    });
}

/// An image that is removed when this is dropped.
pub(crate) struct Image {
    pub(crate) tag: String,
}

impl Image {
    /// [`IMAGE`] with a `HEALTHCHECK` of this command, every half second, which may fail once.
    pub(crate) fn with_healthcheck(name: &str, command: &[&str]) -> Self {
        let body = ContainerCreateBody {
            image: Some(IMAGE.to_owned()),
            ..ContainerCreateBody::default()
        };
        let test = ["CMD"].into_iter().chain(command.iter().copied());
        let config = ContainerConfig {
            healthcheck: Some(HealthConfig {
                test: Some(test.map(str::to_owned).collect()),
                interval: Some(500_000_000),
                retries: Some(2),
                ..HealthConfig::default()
            }),
            ..ContainerConfig::default()
        };
        // A name of its own for each run: several may share the engine.
        let repository = format!("windlass-test-{name}-{}", std::process::id());
        let tag = format!("{repository}:1");
        with(|docker| async move {
            let from = docker.create_container(None, body).await.expect("created");
            let options = CommitContainerOptionsBuilder::default()
                .container(&from.id)
                .repo(&repository)
                .tag("1")
                .build();
            let made = docker.commit_container(options, config).await;
            let options = RemoveContainerOptionsBuilder::default().build();
            let removed = docker.remove_container(&from.id, Some(options)).await;
            made.expect("committed");
            removed.expect("removed");
        });
        Self { tag }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let options = RemoveImageOptions {
            force: true,
            ..RemoveImageOptions::default()
        };
        let tag = &self.tag;
        let removed =
            with(|docker| async move { docker.remove_image(tag, Some(options), None).await });
        if let Err(error) = removed {
            eprintln!("the image {tag} is left: {error}");
        }
    }
}

/// The containers of a cluster, in any state.
pub(crate) fn containers(cluster: &str) -> Vec<ContainerSummary> {
    let options = ListContainersOptionsBuilder::default()
        .all(true)
        .filters(&of(cluster))
        .build();
    with(|docker| async move { docker.list_containers(Some(options)).await.expect("a list") })
}

/// The ids of the containers of a cluster that run.
pub(crate) fn running(cluster: &str) -> Vec<String> {
    let runs = |c: &ContainerSummary| c.state.is_some_and(|s| s.to_string() == "running");
    containers(cluster)
        .into_iter()
        .filter(runs)
        .filter_map(|c| c.id)
        .collect()
}

pub(crate) fn inspect(id: &str) -> ContainerInspectResponse {
    let none = None::<InspectContainerOptions>;
    with(|docker| async move {
        docker
            .inspect_container(id, none)
            .await
            .expect("a container")
    })
}

/// When a container was started, as the engine says.
pub(crate) fn started_at(id: &str) -> String {
    inspect(id)
        .state
        .and_then(|s| s.started_at)
        .expect("a start time")
}

/// How many processes a container has.
pub(crate) fn processes(id: &str) -> usize {
    let none = None::<TopOptions>;
    let top = with(|docker| async move { docker.top_processes(id, none).await });
    let processes = top.expect("it runs").processes;
    processes.expect("a list").len()
}

/// Kills a container behind its agent's back.
pub(crate) fn kill(id: &str) {
    let options = KillContainerOptionsBuilder::default()
        .signal("KILL")
        .build();
    with(|docker| async move {
        docker
            .kill_container(id, Some(options))
            .await
            .expect("killed")
    });
}

/// Removes a container behind its agent's back.
pub(crate) fn remove(id: &str) {
    let options = RemoveContainerOptionsBuilder::default()
        .force(true)
        .v(true)
        .build();
    with(|docker| async move {
        docker
            .remove_container(id, Some(options))
            .await
            .expect("gone")
    });
}

/// Runs a container that is not ours. The caller removes it.
pub(crate) fn run_foreign(name: &str, labels: HashMap<String, String>) -> String {
    let options = CreateContainerOptionsBuilder::default().name(name).build();
    let body = ContainerCreateBody {
        image: Some(IMAGE.to_owned()),
        cmd: Some(vec!["demo".to_owned()]),
        labels: Some(labels),
        ..ContainerCreateBody::default()
    };
    with(|docker| async move {
        let id = docker
            .create_container(Some(options), body)
            .await
            .expect("created")
            .id;
        docker
            .start_container(&id, None::<StartContainerOptions>)
            .await
            .expect("started");
        id
    })
}

/// The networks of a cluster.
pub(crate) fn networks(cluster: &str) -> Vec<String> {
    let options = ListNetworksOptionsBuilder::default()
        .filters(&of(cluster))
        .build();
    let list = with(|docker| async move { docker.list_networks(Some(options)).await });
    list.expect("a list")
        .into_iter()
        .filter_map(|n| n.name)
        .collect()
}

/// Removes whatever a cluster has left. The engine may still be busy with some of it, so it is
/// tried again for a while: a network that is left takes one of the few address ranges.
pub(crate) fn remove_all_of(cluster: &str) {
    for _ in 0..40 {
        for container in containers(cluster).into_iter().filter_map(|c| c.id) {
            let options = RemoveContainerOptionsBuilder::default()
                .force(true)
                .v(true)
                .build();
            let _ = with(|docker| async move {
                docker.remove_container(&container, Some(options)).await
            });
        }
        for network in networks(cluster) {
            let _ = with(|docker| async move { docker.remove_network(&network).await });
        }
        if containers(cluster).is_empty() && networks(cluster).is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(250));
    }
}

/// The cluster that an agent below `dir` belonged to, from its ledger.
pub(crate) fn cluster_in(dir: &Path) -> Option<String> {
    let ledger = std::fs::read_to_string(dir.join("n1").join("ledger.json")).ok()?;
    let at = ledger.find("\"cluster\":\"")? + "\"cluster\":\"".len();
    Some(ledger.get(at..at + 36)?.to_owned())
}

fn of(cluster: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([(
        "label".to_owned(),
        vec![format!("windlass.cluster={cluster}")],
    )])
}
