//! What an engine refuses, and what is not ours.

use std::collections::HashMap;

use bollard::{
    models::{ContainerConfig, ContainerCreateBody},
    query_parameters::{
        CommitContainerOptionsBuilder, CreateContainerOptionsBuilder, RemoveImageOptions,
    },
};
use serde_json::{Value, json};
use windlass_agent::runtime::{Error, ErrorKind, Runtime};

use crate::fixture::{Fixture, IMAGE};

/// Creates and starts a container that one of the two refuses.
async fn refused(fixture: &Fixture, container: Value) -> Error {
    let instance = fixture.instance_with("web-9-9", container);
    let id = match fixture.created(&instance).await {
        Ok(id) => id,
        Err(error) => return error,
    };
    fixture
        .docker
        .start(&id)
        .await
        .expect_err("it cannot start")
}

#[tokio::test]
async fn a_host_port_that_is_taken_is_named() {
    let fixture = Fixture::new().await;
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let ports = json!({ "args": ["run"], "ports": [{ "container": 80, "host": port }] });
    let error = refused(&fixture, ports.clone()).await;
    assert_eq!(error.kind, ErrorKind::PortTaken, "{error}");
    assert!(error.message.contains(&port.to_string()), "{error}");

    drop(taken);
    fixture
        .started(&fixture.instance_with("web-0-1", ports.clone()))
        .await;
    let instance = fixture.instance_with("web-1-1", ports);
    let id = fixture.created(&instance).await.unwrap();
    let error = fixture.docker.start(&id).await.unwrap_err();
    assert_eq!(
        error.kind,
        ErrorKind::PortTaken,
        "by another container: {error}"
    );
    assert!(error.message.contains(&port.to_string()), "{error}");
}

#[tokio::test]
async fn an_image_that_is_missing_is_named() {
    let fixture = Fixture::new().await;
    let error = refused(&fixture, json!({ "image": "windlass-test:none" })).await;
    assert_eq!(error.kind, ErrorKind::ImageMissing, "{error}");
    assert!(error.message.contains("windlass-test:none"), "{error}");
}

#[tokio::test]
async fn what_cannot_start_as_described_is_invalid() {
    let fixture = Fixture::new().await;
    for (fields, reason) in [
        (json!({ "command": ["/nope"] }), "/nope"),
        (json!({ "command": ["nope"] }), "nope"),
        (
            json!({ "command": ["/etc/passwd"], "user": "nobody" }),
            "/etc/passwd",
        ),
        (json!({ "user": "stranger" }), "stranger"),
        (json!({ "workingDir": "relative" }), "relative"),
        (
            json!({ "resources": { "limits": { "memory": "1Mi" } } }),
            "emory",
        ),
    ] {
        let error = refused(&fixture, fields).await;
        assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
        assert!(error.message.contains(reason), "{error}");
        assert!(
            !error.message.contains("OCI runtime"),
            "the reason is not buried: {error}"
        );
        for container in fixture.list().await {
            fixture.docker.remove(&container.id).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_name_that_is_taken_by_something_else_is_named() {
    let fixture = Fixture::new().await;
    let name = format!("windlass.{}.shop.web-9-9", fixture.owner.cluster.short());
    let options = CreateContainerOptionsBuilder::default().name(&name).build();
    let body = ContainerCreateBody {
        image: Some(IMAGE.to_owned()),
        ..Default::default()
    };
    let foreign = fixture
        .engine
        .create_container(Some(options), body)
        .await
        .unwrap()
        .id;
    let error = refused(&fixture, json!({})).await;
    fixture
        .engine
        .remove_container(&foreign, None)
        .await
        .unwrap();
    assert_eq!(error.kind, ErrorKind::NameTaken);
    assert!(error.message.contains(&name), "{error}");
    assert!(fixture.list().await.is_empty());
}

#[tokio::test]
async fn what_runs_from_an_image_that_was_committed_from_one_of_ours_is_not_ours() {
    let fixture = Fixture::new().await;
    let ours = fixture
        .started(&fixture.instance("web-0-1", &["run"]))
        .await;
    let options = CommitContainerOptionsBuilder::default()
        .container(&ours.0)
        .build();
    let commit = fixture
        .engine
        .commit_container(options, ContainerConfig::default());
    let image = commit.await.unwrap().id;
    let body = ContainerCreateBody {
        image: Some(image.clone()),
        ..Default::default()
    };
    let foreign = fixture
        .engine
        .create_container(None, body)
        .await
        .unwrap()
        .id;

    let labels = fixture
        .engine
        .inspect_container(&foreign, None)
        .await
        .unwrap();
    let labels: HashMap<String, String> = labels.config.unwrap().labels.unwrap();
    let listed = fixture.list().await;
    fixture
        .engine
        .remove_container(&foreign, None)
        .await
        .unwrap();
    fixture
        .docker
        .stop(&ours, windlass_api::duration::Span::from_secs(5))
        .await
        .unwrap();
    fixture.docker.remove(&ours).await.unwrap();
    fixture
        .engine
        .remove_image(&image, None::<RemoveImageOptions>, None)
        .await
        .unwrap();

    assert_eq!(
        labels["windlass.instance"], "web-0-1",
        "Docker hands the labels on"
    );
    assert_eq!(listed.iter().map(|c| &c.id).collect::<Vec<_>>(), [&ours]);
}

#[tokio::test]
async fn a_registry_that_does_not_answer_is_a_failed_pull() {
    let fixture = Fixture::new().await;
    // Nothing listens on port 1, so that the engine is refused at once.
    let error = fixture
        .docker
        .pull(&"127.0.0.1:1/nope:1".parse().unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::PullFailed, "{error}");
    assert!(error.message.contains("127.0.0.1:1/nope:1"), "{error}");
}
