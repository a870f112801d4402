//! The networks of namespaces.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use windlass_agent::runtime::{ContainerState, ErrorKind, Runtime};
use windlass_api::duration::Span;

use crate::fixture::Fixture;

#[tokio::test]
async fn a_namespace_has_one_network_however_many_containers_begin_at_once() {
    let fixture = Fixture::new().await;
    let instances: Vec<_> = (0..6)
        .map(|n| fixture.instance(&format!("web-{n}-1"), &["run"]))
        .collect();
    let creates = instances.iter().map(|i| fixture.created(i));
    for created in join_all(creates).await {
        created.unwrap();
    }
    let name = format!("windlass.{}.n1.shop", fixture.owner.cluster.short());
    let names: Vec<_> = fixture
        .networks()
        .await
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    assert_eq!(names, [name]);
}

#[tokio::test]
async fn a_network_is_removed_when_nothing_needs_it() {
    let fixture = Fixture::new().await;
    let (docker, owner) = (&fixture.docker, &fixture.owner);
    let instance = fixture.instance("web-0-1", &["run"]);
    let id = fixture.created(&instance).await.unwrap();

    docker
        .prune_networks(owner, &BTreeSet::from(["shop".parse().unwrap()]))
        .await
        .unwrap();
    assert_eq!(fixture.networks().await.len(), 1, "it is kept on request");
    docker
        .prune_networks(owner, &BTreeSet::new())
        .await
        .unwrap();
    assert_eq!(
        fixture.networks().await.len(),
        1,
        "a container that was never started uses it"
    );
    docker.start(&id).await.unwrap();
    docker.stop(&id, Span::from_secs(5)).await.unwrap();
    docker
        .prune_networks(owner, &BTreeSet::new())
        .await
        .unwrap();
    assert_eq!(
        fixture.networks().await.len(),
        1,
        "one that was stopped uses it"
    );

    docker.remove(&id).await.unwrap();
    docker
        .prune_networks(owner, &BTreeSet::new())
        .await
        .unwrap();
    assert_eq!(fixture.networks().await, []);

    fixture.started(&instance).await;
    assert_eq!(
        fixture.networks().await.len(),
        1,
        "it is made again when it is needed again"
    );
}

#[tokio::test]
async fn a_container_whose_network_was_removed_after_it_ran_is_made_anew() {
    let fixture = Fixture::new().await;
    let instance = fixture.instance("web-0-1", &["run"]);
    let id = fixture.started(&instance).await;
    fixture.docker.stop(&id, Span::from_secs(5)).await.unwrap();
    for (id, _) in fixture.networks().await {
        fixture.engine.remove_network(&id).await.unwrap();
    }
    let error = fixture.docker.start(&id).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoSuchContainer, "{error}");
    let again = fixture.started(&instance).await;
    assert_ne!(again, id);
    assert!(matches!(
        fixture.only().await.state,
        ContainerState::Running { .. }
    ));
}

#[tokio::test]
async fn a_network_that_somebody_removed_is_made_again() {
    let fixture = Fixture::new().await;
    let id = fixture
        .created(&fixture.instance("web-0-1", &["run"]))
        .await;
    let id = id.unwrap();
    for (id, _) in fixture.networks().await {
        fixture.engine.remove_network(&id).await.unwrap();
    }
    fixture.docker.start(&id).await.unwrap();
    assert!(matches!(
        fixture.only().await.state,
        ContainerState::Running { .. }
    ));
}
