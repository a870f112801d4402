//! From creating a container to removing it.

use bollard::query_parameters::RemoveImageOptions;
use serde_json::json;
use tokio::time::Instant;
use windlass_agent::{
    docker::{Docker, PackOutcome},
    runtime::{ContainerState, ErrorKind, Owner, Runtime},
};
use windlass_api::{clock, duration::Span};

use crate::fixture::{Fixture, IMAGE, create, program};

fn exited(state: &ContainerState) -> bool {
    matches!(state, ContainerState::Exited { .. })
}

#[tokio::test]
async fn a_container_is_created_started_stopped_and_removed() {
    let fixture = Fixture::new().await;
    let docker = &fixture.docker;
    let before = clock::now();
    let instance = fixture.instance("web-0-1", &["run"]);

    let id = fixture.created(&instance).await.unwrap();
    let created = fixture.only().await;
    assert_eq!(
        (&created.id, &created.state),
        (&id, &ContainerState::Created)
    );
    assert_eq!(created.instance, instance.id);
    assert_eq!(created.namespace, instance.workload.namespace);
    assert_eq!(created.revision, instance.revision);
    assert_eq!(created.stop_grace, Span::from_secs(1));
    assert_eq!(created.address, None);

    docker.start(&id).await.unwrap();
    docker.start(&id).await.expect("content with one that runs");
    let running = fixture.only().await;
    let ContainerState::Running { started_at } = running.state else {
        panic!("{running:?}")
    };
    assert!(
        before <= started_at && started_at <= clock::now(),
        "{started_at}"
    );
    assert!(
        running.address.is_some(),
        "it has an address on its network"
    );
    assert!(running.image_id.starts_with("sha256:"));

    fixture.until_ready(&id).await;
    docker.stop(&id, Span::from_secs(20)).await.unwrap();
    docker
        .stop(&id, Span::from_secs(20))
        .await
        .expect("content with one that does not run");
    let stopped = fixture.only().await;
    let ContainerState::Exited {
        exit,
        started_at: same,
    } = stopped.state
    else {
        panic!("{stopped:?}")
    };
    assert_eq!((exit.code, exit.oom_killed, same), (0, false, started_at));
    assert!(exit.finished_at >= started_at);

    docker.remove(&id).await.unwrap();
    docker
        .remove(&id)
        .await
        .expect("content with one that is not there");
    docker
        .stop(&id, Span::from_secs(1))
        .await
        .expect("content with one that is not there");
    assert!(fixture.list().await.is_empty());
    assert_eq!(
        docker.start(&id).await.unwrap_err().kind,
        ErrorKind::NoSuchContainer
    );
}

#[tokio::test]
async fn a_container_that_runs_is_not_removed() {
    let fixture = Fixture::new().await;
    let id = fixture
        .started(&fixture.instance("web-0-1", &["run"]))
        .await;
    assert!(fixture.docker.remove(&id).await.is_err());
    assert!(matches!(
        fixture.only().await.state,
        ContainerState::Running { .. }
    ));
}

#[tokio::test]
async fn one_that_does_not_stop_is_killed_after_its_grace_period() {
    let fixture = Fixture::new().await;
    let id = fixture
        .started(&fixture.instance("web-0-1", &["ignore-stop"]))
        .await;
    fixture.until_ready(&id).await;
    let asked = Instant::now();
    fixture.docker.stop(&id, Span::from_secs(1)).await.unwrap();
    assert!(
        asked.elapsed().as_millis() >= 1000,
        "it had its grace period"
    );
    let ContainerState::Exited { exit, .. } = fixture.only().await.state else {
        panic!()
    };
    assert_eq!(exit.code, 137);
}

#[tokio::test]
async fn an_exit_code_is_told() {
    let fixture = Fixture::new().await;
    fixture
        .started(&fixture.instance("web-0-1", &["exit", "7"]))
        .await;
    let ContainerState::Exited { exit, .. } = fixture.until(exited).await.state else {
        panic!()
    };
    assert_eq!((exit.code, exit.oom_killed), (7, false));
}

#[tokio::test]
async fn one_that_uses_too_much_memory_is_killed_and_it_is_told() {
    let fixture = Fixture::new().await;
    let instance = fixture.instance_with(
        "web-0-1",
        json!({ "args": ["allocate", "64"], "resources": { "limits": { "memory": "16Mi" } } }),
    );
    fixture.started(&instance).await;
    let ContainerState::Exited { exit, .. } = fixture.until(exited).await.state else {
        panic!()
    };
    assert_eq!((exit.code, exit.oom_killed), (137, true));
}

#[tokio::test]
async fn a_container_that_ended_can_be_started_again() {
    let fixture = Fixture::new().await;
    let id = fixture
        .started(&fixture.instance("web-0-1", &["run"]))
        .await;
    let ContainerState::Running { started_at: first } = fixture.only().await.state else {
        panic!()
    };
    fixture.until_ready(&id).await;
    fixture.docker.stop(&id, Span::from_secs(20)).await.unwrap();
    fixture.docker.start(&id).await.unwrap();
    let ContainerState::Running { started_at: second } = fixture.only().await.state else {
        panic!()
    };
    assert!(second > first);
}

#[tokio::test]
async fn labels_limits_and_hardening_are_really_set() {
    let fixture = Fixture::new().await;
    let instance = fixture.instance_with(
        "web-0-1",
        json!({
            "args": ["run"], "stopSignal": "SIGTERM",
            // More cores than the machine has: a limit, not a demand.
            "resources": {
                "cpu": "250m", "memory": "1Mi", "limits": { "cpu": "64", "memory": "32Mi" },
            },
        }),
    );
    let id = fixture.started(&instance).await;
    let found = fixture.inspect(&id).await;

    let name = format!("/windlass.{}.shop.web-0-1", fixture.owner.cluster.short());
    assert_eq!(found.name.as_deref(), Some(name.as_str()));
    let config = found.config.unwrap();
    let labels = config.labels.unwrap();
    for (key, value) in [
        (
            "windlass.cluster",
            fixture.owner.cluster.to_string().as_str(),
        ),
        ("windlass.node", "n1"),
        ("windlass.namespace", "shop"),
        ("windlass.workload", "web"),
        ("windlass.slot", "0"),
        ("windlass.instance", "web-0-1"),
        ("windlass.revision", "3"),
        ("team", "a"),
    ] {
        assert_eq!(labels[key], value, "{key}");
    }
    assert_eq!(config.hostname.as_deref(), Some("web-0-1"));
    assert_eq!(config.stop_timeout, Some(1));

    let host = found.host_config.unwrap();
    assert_eq!(
        (host.memory, host.memory_swap),
        (Some(32 << 20), Some(32 << 20))
    );
    assert_eq!(
        (host.cpu_quota, host.cpu_shares),
        (Some(6_400_000), Some(256))
    );
    assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
    assert_eq!(host.cap_add.unwrap().len(), 7);
    assert_eq!(host.security_opt.unwrap(), ["no-new-privileges"]);
    assert_eq!((host.privileged, host.pids_limit), (Some(false), Some(512)));
    assert_eq!(host.log_config.unwrap().config.unwrap()["max-file"], "3");
    assert_eq!(host.restart_policy.unwrap().name.unwrap().to_string(), "no");
    let networks = found.network_settings.unwrap().networks.unwrap();
    let network = format!("windlass.{}.n1.shop", fixture.owner.cluster.short());
    assert_eq!(networks.into_keys().collect::<Vec<_>>(), [network]);
}

#[tokio::test]
async fn an_instance_that_exists_is_adopted() {
    let fixture = Fixture::new().await;
    let instance = fixture.instance("web-0-1", &["run"]);
    let id = fixture.started(&instance).await;
    let after_a_restart = Docker::connect(None).await.unwrap();
    assert_eq!(
        create(&after_a_restart, &fixture.owner, &instance)
            .await
            .unwrap(),
        id
    );
    assert!(matches!(
        fixture.only().await.state,
        ContainerState::Running { .. }
    ));
}

#[tokio::test]
async fn only_containers_of_the_same_cluster_and_node_are_listed() {
    let fixture = Fixture::new().await;
    fixture
        .started(&fixture.instance("web-0-1", &["run"]))
        .await;
    let other_node = Owner {
        node: "n2".parse().unwrap(),
        ..fixture.owner.clone()
    };
    let instance = fixture.instance("web-1-2", &["run"]);
    create(&fixture.docker, &other_node, &instance)
        .await
        .unwrap();
    assert_eq!(fixture.only().await.instance.as_str(), "web-0-1");
    let others = fixture.docker.list(&other_node).await.unwrap();
    assert_eq!(others.len(), 1);
    assert_eq!(others[0].instance.as_str(), "web-1-2");
}

#[tokio::test]
async fn an_image_is_packed_once() {
    let fixture = Fixture::new().await;
    let again = fixture.docker.pack(&program(), IMAGE).await.unwrap();
    assert_eq!(again, PackOutcome::Unchanged);
    assert!(fixture.docker.images().await.unwrap().contains(IMAGE));
    assert!(
        fixture
            .docker
            .image_id(&IMAGE.parse().unwrap())
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        fixture
            .docker
            .image_id(&"windlass-test:none".parse().unwrap())
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn an_image_that_is_packed_anew_replaces_the_old_one() {
    const TAG: &str = "windlass-test:repacked";
    let fixture = Fixture::new().await;
    let dir = tempfile::tempdir().unwrap();
    let mut images = Vec::new();
    for name in ["first", "second"] {
        let executable = dir.path().join(name);
        std::fs::copy(program(), &executable).unwrap();
        assert_eq!(
            fixture.docker.pack(&executable, TAG).await.unwrap(),
            PackOutcome::Built
        );
        images.push(fixture.engine.inspect_image(TAG).await.unwrap().id.unwrap());
    }
    let old = fixture.engine.inspect_image(&images[0]).await;
    fixture
        .engine
        .remove_image(TAG, None::<RemoveImageOptions>, None)
        .await
        .unwrap();
    assert_ne!(images[0], images[1]);
    assert!(old.is_err(), "it is gone: {old:?}");
}

#[tokio::test]
async fn what_cannot_be_packed_is_named() {
    let fixture = Fixture::new().await;
    for (path, reason) in [
        ("/nonexistent", "No such file"),
        ("/etc/passwd", "not an ELF"),
    ] {
        let error = fixture
            .docker
            .pack(path.as_ref(), "windlass-test:none")
            .await
            .unwrap_err();
        assert!(
            error.message.contains(path) && error.message.contains(reason),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_packed_program_runs_as_another_user() {
    let fixture = Fixture::new().await;
    let fields = json!({ "args": ["exit", "3"], "user": "nobody", "workingDir": "/tmp" });
    fixture
        .started(&fixture.instance_with("web-0-1", fields))
        .await;
    let ContainerState::Exited { exit, .. } = fixture.until(exited).await.state else {
        panic!()
    };
    assert_eq!(exit.code, 3);
}

#[tokio::test]
async fn the_engine_tells_of_itself() {
    let fixture = Fixture::new().await;
    let info = fixture.docker.info().await.unwrap();
    assert_eq!(info.os, "linux");
    assert!(!info.id.is_empty() && !info.version.is_empty() && !info.arch.is_empty());
    assert!(info.capacity.cpu.0 >= 1000 && info.capacity.memory.0 > 64 << 20);
}
