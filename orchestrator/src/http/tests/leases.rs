//! Nodes that are not heard from.

use std::time::Duration;

use windlass_api::{quantity::CpuMillis, status::NodeState};
use windlass_core::lease::{LOST_AFTER, RETURN_GRACE};

use super::fixture::Server;

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_refused_keeps_no_silent_node_alive() {
    let server = Server::start();
    server.join("n1", CpuMillis(2000)).await;
    let state = || {
        server.handle.state().nodes[&server.node("n1")]
            .state
            .clone()
    };
    assert_eq!(state(), NodeState::Ready);
    // Another agent under the same name, as after a reinstallation, tries again and again.
    let mut waited = Duration::ZERO;
    let pause = Duration::from_secs(2);
    while server.try_join("n1", CpuMillis(1000)).await.is_err() {
        tokio::time::sleep(pause).await;
        waited += pause;
        assert!(waited < 2 * (LOST_AFTER + RETURN_GRACE), "{:?}", state());
    }
    // It is let in as soon as the first one is lost, and not before.
    assert!(waited >= LOST_AFTER, "after {waited:?}");
    assert_eq!(state(), NodeState::Ready);
    let events = server.handle.state().events;
    let reasons: Vec<_> = events.values().map(|event| event.reason.clone()).collect();
    assert!(
        reasons.ends_with(&["Lost".to_owned(), "Returned".to_owned()]),
        "{reasons:?}"
    );
}
