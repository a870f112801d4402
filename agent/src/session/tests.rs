use futures_util::{FutureExt, SinkExt};
use tokio_tungstenite::tungstenite::Message;
use windlass_api::{
    ids::{Epoch, Generation},
    status::Phase,
    wire::{AssignmentFrame, IMAGES_MAX, RuntimeHealth, Scope, StreamRequest},
};

use super::*;
use crate::testing::{cluster, delta, id, instance, node, whole};

mod rig;

use rig::{Rig, machine, names, welcome};

const HEARTBEAT: Duration = Duration::from_secs(2);

#[tokio::test(start_paused = true)]
async fn it_says_who_it_is_and_takes_an_assignment() {
    let mut rig = Rig::new();
    let mut peer = rig.dialled().await;
    let hello = peer.hello().await;
    assert_eq!((hello.protocol, hello.node), (PROTOCOL, node()));
    assert_eq!((hello.cluster, hello.seen), (None, None));
    peer.say(&welcome()).await;
    peer.assign(whole(3, vec![instance("web-0-1")])).await;
    rig.holds(3).await;
    assert_eq!(*rig.board.cluster.borrow(), Some(cluster()));
    drop(peer);
    let hello = rig.dialled().await.hello().await;
    assert_eq!(hello.cluster, Some(cluster()));
    assert_eq!(hello.seen, Some((Epoch(1), Generation(3))));
}

/// Found with a pretended engine: an update of Docker under a running agent was never told.
#[tokio::test(start_paused = true)]
async fn it_greets_anew_when_its_machine_is_another_one() {
    let mut rig = Rig::new();
    let _peer = rig.connected().await;
    let mut other = machine();
    other.info.engine_version = "2".to_owned();
    // Which boot it is does not come from what was kept of the machine.
    other.info.boot_id = "an earlier one".to_owned();
    rig.board.machine.send_replace(Some(other.clone()));
    let hello = rig.dialled().await.hello().await;
    other.info.boot_id = "boot".to_owned();
    assert_eq!(hello.info, other.info);
}

#[tokio::test(start_paused = true)]
async fn an_assignment_in_parts_takes_effect_with_the_last() {
    let mut rig = Rig::new();
    let mut peer = rig.connected().await;
    for (text, more) in [("web-0-1", true), ("web-1-2", true), ("web-2-3", false)] {
        assert_eq!(rig.ledger.held(), None);
        let part = whole(3, vec![instance(text)]);
        peer.assign(AssignmentFrame { more, ..part }).await;
    }
    rig.holds(3).await;
    assert_eq!(rig.ledger.held().unwrap().assignment.instances.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn all_is_told_first_and_then_what_changes() {
    let mut rig = Rig::new();
    rig.show(
        1,
        &[("web-0-1", Phase::Starting), ("web-1-2", Phase::Starting)],
    );
    let mut peer = rig.connected().await;
    let observed = peer.observed().await;
    assert_eq!(
        names(&observed),
        (Scope::Full, vec!["web-0-1", "web-1-2"], vec![])
    );
    rig.show(1, &[("web-1-2", Phase::Prepared)]);
    let observed = peer.observed().await;
    assert_eq!(
        names(&observed),
        (Scope::Delta, vec!["web-1-2"], vec!["web-0-1"])
    );
    peer.say(&ServerFrame::Resync).await;
    let observed = peer.observed().await;
    assert_eq!(names(&observed), (Scope::Full, vec!["web-1-2"], vec![]));
    drop(peer);
    let mut peer = rig.connected().await;
    let observed = peer.observed().await;
    assert_eq!(names(&observed), (Scope::Full, vec!["web-1-2"], vec![]));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_claimed_before_the_engine_was_seen() {
    let mut rig = Rig::new();
    let mut peer = rig.connected().await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(60) {
        let early = peer.hear().await;
        assert!(!matches!(early, Some(AgentFrame::Observed(_))), "{early:?}");
    }
    rig.show(0, &[]);
    assert_eq!(names(&peer.observed().await), (Scope::Full, vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn the_first_change_is_told_at_once_and_a_burst_together() {
    let mut rig = Rig::new();
    rig.show(1, &[]);
    let mut peer = rig.connected().await;
    peer.observed().await;
    sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    rig.show(1, &[("web-0-1", Phase::Starting)]);
    peer.observed().await;
    assert!(began.elapsed() <= Duration::from_millis(1));
    for n in 1..10 {
        sleep(Duration::from_millis(1)).await;
        rig.show(1, &[(&format!("web-{n}-{n}"), Phase::Starting)]);
    }
    let observed = peer.observed().await;
    assert_eq!(
        names(&observed),
        (Scope::Delta, vec!["web-9-9"], vec!["web-0-1"])
    );
    let took = began.elapsed().as_millis();
    assert!((20..25).contains(&took), "{took} ms");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_came_and_went_unseen_is_told_to_be_gone() {
    let mut rig = Rig::new();
    rig.show(1, &[]);
    let mut peer = rig.connected().await;
    peer.observed().await;
    peer.assign(whole(2, vec![instance("web-0-1")])).await;
    peer.assign(delta(2, 3, vec![], &["web-0-1"])).await;
    rig.holds(3).await;
    rig.show(3, &[]);
    let observed = peer.observed().await;
    assert_eq!(names(&observed), (Scope::Delta, vec![], vec!["web-0-1"]));
}

#[tokio::test(start_paused = true)]
async fn an_older_generation_is_rejected_and_the_session_goes_on() {
    let mut rig = Rig::new();
    let mut peer = rig.connected().await;
    peer.assign(whole(5, vec![instance("web-0-1")])).await;
    rig.holds(5).await;
    peer.assign(whole(4, vec![])).await;
    let (generation, reason) = peer.rejected().await;
    assert_eq!(generation, Generation(4));
    assert!(reason.contains("older than generation 5"), "{reason}");
    peer.assign(whole(6, vec![])).await;
    rig.holds(6).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_to_something_else_is_rejected_and_all_is_asked_for() {
    let mut rig = Rig::new();
    let mut peer = rig.connected().await;
    peer.assign(delta(8, 9, vec![], &[])).await;
    let (_, reason) = peer.rejected().await;
    assert!(reason.contains("needs the whole assignment"), "{reason}");
    assert_eq!(peer.hear_news().await, None);
    let mut peer = rig.connected().await;
    peer.assign(whole(9, vec![])).await;
    rig.holds(9).await;
}

#[tokio::test(start_paused = true)]
async fn heartbeats_tell_of_the_engine() {
    let mut rig = Rig::new();
    rig.board.health.send_replace(RuntimeHealth::Healthy);
    let mut peer = rig.connected().await;
    let began = Instant::now();
    let mut beats = 0;
    while began.elapsed() < Duration::from_secs(21) {
        if let Some(AgentFrame::Heartbeat { runtime, .. }) = peer.hear().await {
            assert_eq!(runtime, RuntimeHealth::Healthy);
            beats += 1;
        }
    }
    assert!((10..=13).contains(&beats), "{beats} heartbeats in 21 s");
    let reason = "no answer".to_owned();
    let sick = RuntimeHealth::Unhealthy { reason };
    let began = Instant::now();
    rig.board.health.send_replace(sick.clone());
    let Some(AgentFrame::Heartbeat { runtime, .. }) = peer.hear().await else {
        panic!("no heartbeat");
    };
    assert_eq!(runtime, sick);
    assert!(began.elapsed() < Duration::from_millis(10), "at once");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_falls_silent_is_dialled_again() {
    let mut rig = Rig::new();
    let peer = rig.connected().await;
    let began = Instant::now();
    // The connection stays open, but nobody reads from it or answers.
    rig.dialled().await;
    let took = began.elapsed();
    assert!(took > HEARTBEAT * 3, "{took:?}");
    assert!(took < HEARTBEAT * 5, "{took:?}");
    drop(peer);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_only_answers_pings_is_alive() {
    let mut rig = Rig::new();
    let mut peer = rig.connected().await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(120) {
        assert!(peer.hear().await.is_some(), "after {:?}", began.elapsed());
    }
    assert!(rig.server.recv().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_is_tried_for_ever_and_not_too_often() {
    let mut rig = Rig::new();
    let began = Instant::now();
    for _ in 0..100 {
        // Accepts, and hangs up.
        drop(rig.dialled().await);
    }
    let took = began.elapsed().as_secs();
    assert!((100..400).contains(&took), "100 attempts in {took} s");
    rig.connected().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_agent_asks_again_every_five_seconds() {
    let mut rig = Rig::new();
    let mut times = Vec::new();
    for _ in 0..4 {
        let mut peer = rig.dialled().await;
        peer.hello().await;
        times.push(Instant::now());
        let reason = "another agent has this name".to_owned();
        peer.say(&ServerFrame::Refused { reason }).await;
    }
    for pair in times.windows(2) {
        assert_eq!((pair[1] - pair[0]).as_secs(), 5);
    }
    rig.connected().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_of_another_cluster_is_not_followed() {
    let mut rig = Rig::new();
    let mut peer = rig.connected().await;
    peer.assign(whole(5, vec![instance("web-0-1")])).await;
    rig.holds(5).await;
    drop(peer);
    let mut peer = rig.dialled().await;
    peer.hello().await;
    let other = Welcome {
        cluster: ClusterId(Uuid::from_u128(99)),
        epoch: Epoch(1),
        heartbeat_ms: 2000,
        notice: None,
    };
    peer.say(&ServerFrame::Welcome(other)).await;
    assert_eq!(peer.hear().await, None);
    assert_eq!(*rig.board.cluster.borrow(), Some(cluster()));
    assert_eq!(
        rig.ledger.held().unwrap().assignment.generation,
        Generation(5)
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_talks_nonsense_is_left() {
    let mut rig = Rig::new();
    for message in [
        Message::text("{}"),
        Message::binary(vec![1]),
        Message::text(serde_json::to_string(&welcome()).unwrap()),
    ] {
        let mut peer = rig.connected().await;
        peer.0.send(message).await.unwrap();
        assert_eq!(peer.hear_news().await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn streams_are_passed_on_and_too_many_refused() {
    let mut rig = Rig::new();
    let mut peer = rig.connected().await;
    let open = |n| ServerFrame::OpenStream {
        stream: Uuid::from_u128(n),
        request: StreamRequest::Logs {
            instance: id("web-0-1"),
            container: None,
            options: Default::default(),
        },
    };
    peer.say(&open(1)).await;
    peer.say(&open(2)).await;
    let Some(AgentFrame::StreamFailed { stream, reason }) = peer.hear_news().await else {
        panic!("the queue has room for one");
    };
    assert_eq!(stream, Uuid::from_u128(2));
    assert!(reason.contains("too many streams"), "{reason}");
    let request = rig.requests.recv().await.unwrap();
    assert_eq!(request.stream, Uuid::from_u128(1));
    let failure = Failure {
        stream: request.stream,
        reason: "no container".to_owned(),
    };
    rig.failures.send(failure).await.unwrap();
    let heard = peer.hear_news().await;
    assert!(matches!(heard, Some(AgentFrame::StreamFailed { .. })));
}

#[tokio::test(start_paused = true)]
async fn images_are_told_when_they_change_and_bounded() {
    let mut rig = Rig::new();
    let mut peer = rig.connected().await;
    let many = (0..2000).map(|n| format!("web:{n:04}")).collect();
    rig.board.images.send_replace(Arc::new(many));
    loop {
        if let Some(AgentFrame::Images { images }) = peer.hear().await
            && !images.is_empty()
        {
            assert_eq!(images.len(), IMAGES_MAX);
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_is_a_farewell() {
    let mut rig = Rig::new();
    let mut peer = rig.connected().await;
    rig.shutdown.cancel();
    assert_eq!(peer.hear_news().await, None);
    rig.task.await.unwrap();
}
