//! What the engine says of the health of containers, and what it is told about it.

use bollard::{
    models::{ContainerConfig, HealthConfig},
    query_parameters::{CommitContainerOptionsBuilder, RemoveImageOptions},
};
use serde_json::json;
use windlass_agent::runtime::{Healthcheck, Runtime};

use crate::fixture::Fixture;

/// An image whose health check fails.
const FAILING: &str = "windlass-test:failing-health";

/// Makes the image from a container of ours.
async fn make_image(fixture: &Fixture) {
    let instance = fixture.instance("base-0-1", &["run"]);
    let id = fixture.created(&instance).await;
    let id = id.unwrap();
    let (repository, tag) = FAILING.split_once(':').unwrap();
    let options = CommitContainerOptionsBuilder::default()
        .container(&id.0)
        .repo(repository)
        .tag(tag)
        .build();
    let command = ["CMD", "/windlass", "exit", "7"];
    let config = ContainerConfig {
        healthcheck: Some(HealthConfig {
            test: Some(command.map(str::to_owned).to_vec()),
            interval: Some(100_000_000),
            retries: Some(1),
            ..HealthConfig::default()
        }),
        ..ContainerConfig::default()
    };
    fixture
        .engine
        .commit_container(options, config)
        .await
        .unwrap();
    fixture.docker.remove(&id).await.unwrap();
}

#[tokio::test]
async fn the_health_check_of_an_image_is_read_and_can_be_switched_off() {
    let fixture = Fixture::new().await;
    make_image(&fixture).await;

    let plain = fixture.instance_with("web-0-2", json!({ "image": FAILING, "args": ["run"] }));
    let id = fixture.started(&plain).await;
    let failing = loop {
        let container = fixture.until(|_| true).await;
        match container.healthcheck {
            Some(Healthcheck::Unhealthy { exit_code, .. }) => break exit_code,
            Some(Healthcheck::Starting) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(failing, 7);
    fixture
        .docker
        .stop(&id, plain.template.stop_grace_period)
        .await
        .unwrap();
    assert_eq!(fixture.only().await.healthcheck, None, "it does not run");
    fixture.docker.remove(&id).await.unwrap();

    let probes = json!({ "readiness": { "tcp": { "port": 80 } } });
    let container = json!({ "image": FAILING, "args": ["run"], "probes": probes });
    let probed = fixture.instance_with("web-0-3", container);
    let id = fixture.started(&probed).await;
    assert_eq!(fixture.only().await.healthcheck, None);
    let config = fixture.inspect(&id).await.config.unwrap();
    assert_eq!(config.healthcheck.unwrap().test.unwrap(), ["NONE"]);

    drop(fixture);
    let engine = crate::fixture::engine();
    engine
        .remove_image(FAILING, None::<RemoveImageOptions>, None)
        .await
        .unwrap();
}
