//! A cluster of its own for each test on the one engine, and the image that its containers run.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use bollard::{
    models::ContainerInspectResponse,
    query_parameters::{
        InspectContainerOptions, ListContainersOptionsBuilder, ListNetworksOptionsBuilder,
        ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptions,
    },
};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use uuid::Uuid;
use windlass_agent::{
    docker::Docker,
    runtime::{Container, ContainerId, ContainerState, Owner, Part, Result, Runtime},
};
use windlass_api::{
    ids::ClusterId,
    wire::{AssignedInstance, LogOptions},
};

/// The image that is packed from `examples/container_program.rs`.
pub(crate) const IMAGE: &str = "windlass-test:docker";
/// How long a test waits for something that takes milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// One agent's view of the engine. What it made is removed when it is dropped.
pub(crate) struct Fixture {
    pub(crate) docker: Docker,
    pub(crate) owner: Owner,
    /// The engine without windlass, to see what was really done, and to meddle.
    pub(crate) engine: bollard::Docker,
}

/// The test program beside this one: Cargo builds examples with the tests.
pub(crate) fn program() -> PathBuf {
    let tests = std::env::current_exe().expect("a test has a path");
    let target = tests
        .parent()
        .and_then(Path::parent)
        .expect("it is in target/<profile>/deps");
    target.join("examples").join("container_program")
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let docker = match Docker::connect(None).await {
            Ok(docker) => docker,
            Err(error) => panic!("{error}"),
        };
        // Packing is the same for all tests, and one at a time is enough.
        static PACKED: OnceCell<()> = OnceCell::const_new();
        let pack = || async { docker.pack(&program(), IMAGE).await.map(drop) };
        PACKED
            .get_or_try_init(pack)
            .await
            .expect("the test program can be packed");
        let owner = Owner {
            cluster: ClusterId(Uuid::new_v4()),
            node: "n1".parse().unwrap(),
        };
        Self {
            docker,
            owner,
            engine: engine(),
        }
    }

    /// An instance of the test program.
    pub(crate) fn instance(&self, id: &str, args: &[&str]) -> AssignedInstance {
        self.instance_with(id, json!({ "args": args }))
    }

    /// An instance whose container has these fields.
    pub(crate) fn instance_with(&self, id: &str, container: Value) -> AssignedInstance {
        let mut fields = json!({ "name": "main", "image": IMAGE, "imagePullPolicy": "Never" });
        let fields = fields.as_object_mut().unwrap();
        fields.extend(container.as_object().unwrap().clone());
        serde_json::from_value(json!({
            "id": id, "workload": "shop/web", "slot": 0, "revision": 3, "goal": "Run",
            "template": {
                "kind": "Service", "containers": [fields], "labels": { "team": "a" },
                "restart": "Always", "stopGracePeriod": "1s",
            },
        }))
        .unwrap()
    }

    /// Creates the main container of an instance.
    pub(crate) async fn created(&self, instance: &AssignedInstance) -> Result<ContainerId> {
        create(&self.docker, &self.owner, instance).await
    }

    pub(crate) async fn started(&self, instance: &AssignedInstance) -> ContainerId {
        let id = self.created(instance).await.unwrap();
        self.docker.start(&id).await.unwrap();
        id
    }

    /// Waits until the program in a container says that it is ready: before, it would not deal
    /// with signals as it should.
    pub(crate) async fn until_ready(&self, id: &ContainerId) {
        let options = LogOptions {
            follow: true,
            ..LogOptions::default()
        };
        let mut log = self.docker.logs(id, &options).await.unwrap();
        let line = tokio::time::timeout(PATIENCE, log.next())
            .await
            .expect("it becomes ready");
        assert_eq!(line.unwrap().unwrap(), "ready\n");
    }

    pub(crate) async fn list(&self) -> Vec<Container> {
        self.docker.list(&self.owner).await.unwrap()
    }

    /// The one container of a test that has one.
    pub(crate) async fn only(&self) -> Container {
        let mut list = self.list().await;
        assert_eq!(list.len(), 1, "{list:?}");
        list.remove(0)
    }

    /// Waits until the one container is in such a state.
    pub(crate) async fn until(&self, wanted: impl Fn(&ContainerState) -> bool) -> Container {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let container = self.only().await;
            if wanted(&container.state) {
                return container;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "it stays {:?}",
                container.state
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// What the engine itself says of a container.
    pub(crate) async fn inspect(&self, id: &ContainerId) -> ContainerInspectResponse {
        let inspect = self
            .engine
            .inspect_container(&id.0, None::<InspectContainerOptions>);
        inspect.await.unwrap()
    }

    /// The ids and names of the networks that this test's agent made.
    pub(crate) async fn networks(&self) -> Vec<(String, String)> {
        networks_of(&self.engine, &self.owner).await
    }
}

/// Creates the main container of an instance.
pub(crate) async fn create(
    docker: &Docker,
    owner: &Owner,
    instance: &AssignedInstance,
) -> Result<ContainerId> {
    let main = instance
        .template
        .main()
        .expect("an instance has a container");
    let part = Part::Named(main.name.clone());
    docker.create(owner, instance, &part, None).await
}

pub(crate) fn engine() -> bollard::Docker {
    bollard::Docker::connect_with_unix_defaults().expect("it was reached before")
}

pub(crate) fn filter_of(owner: &Owner) -> HashMap<String, Vec<String>> {
    HashMap::from([(
        "label".to_owned(),
        vec![format!("windlass.cluster={}", owner.cluster)],
    )])
}

async fn networks_of(engine: &bollard::Docker, owner: &Owner) -> Vec<(String, String)> {
    let options = ListNetworksOptionsBuilder::default()
        .filters(&filter_of(owner))
        .build();
    let networks = engine.list_networks(Some(options)).await.unwrap();
    networks
        .into_iter()
        .filter_map(|n| Some((n.id?, n.name?)))
        .collect()
}

/// The names of the volumes that an agent made.
pub(crate) async fn volumes_of(engine: &bollard::Docker, owner: &Owner) -> Vec<String> {
    let options = ListVolumesOptionsBuilder::default()
        .filters(&filter_of(owner))
        .build();
    let volumes = engine.list_volumes(Some(options)).await.unwrap().volumes;
    let names = volumes.unwrap_or_default().into_iter().map(|v| v.name);
    names.collect()
}

async fn clean_up(owner: &Owner) {
    let engine = engine();
    let options = ListContainersOptionsBuilder::default()
        .all(true)
        .filters(&filter_of(owner));
    for container in engine.list_containers(Some(options.build())).await.unwrap() {
        let force = RemoveContainerOptionsBuilder::default()
            .force(true)
            .v(true)
            .build();
        let id = container.id.unwrap();
        if let Err(error) = engine.remove_container(&id, Some(force)).await {
            eprintln!("container {id} is left behind: {error}");
        }
    }
    for volume in volumes_of(&engine, owner).await {
        let removed = engine.remove_volume(&volume, None::<RemoveVolumeOptions>);
        if let Err(error) = removed.await {
            eprintln!("volume {volume} is left behind: {error}");
        }
    }
    for (id, network) in networks_of(&engine, owner).await {
        if let Err(error) = engine.remove_network(&id).await {
            eprintln!("network {network} is left behind: {error}");
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // On a thread of its own, since the test's runtime may be going down with a panic.
        let owner = self.owner.clone();
        let cleaner = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime
                .expect("a runtime can be made")
                .block_on(clean_up(&owner));
        });
        if cleaner.join().is_err() {
            eprintln!("cleaning up failed");
        }
    }
}
