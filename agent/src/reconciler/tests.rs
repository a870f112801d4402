use tokio::{task::JoinHandle, time::timeout};
use windlass_api::{
    ids::{InstanceId, Namespace, RevisionNumber},
    resource::Goal,
    spec::PullPolicy,
    status::{InstanceStatus, Phase},
    wire::AssignedInstance,
};

use super::*;
use crate::{
    fake::{Call, Fake},
    fence::boot_clock,
    history::Histories,
    runtime::{ContainerState, ErrorKind},
    testing::{self, cluster, id, instance, owner, template},
};

/// A reconciler at work on a fake engine.
struct Rig {
    fake: Fake,
    held: watch::Sender<Option<Arc<Held>>>,
    board: Arc<Board>,
    shutdown: CancellationToken,
    task: JoinHandle<std::result::Result<(), JoinError>>,
}

impl Rig {
    /// Begins with an engine that has `web:1`, and nothing assigned.
    fn new() -> Self {
        let fake = Fake::default();
        fake.add_image("web:1");
        Self::on(fake, None)
    }

    fn on(fake: Fake, held: Option<Held>) -> Self {
        let held = watch::Sender::new(held.map(Arc::new));
        let board = Arc::new(Board::new(
            Some(cluster()),
            None,
            Histories::new(),
            boot_clock(),
        ));
        Self::begin(fake, held, board)
    }

    fn begin(fake: Fake, held: watch::Sender<Option<Arc<Held>>>, board: Arc<Board>) -> Self {
        let shutdown = CancellationToken::new();
        let clock = fake.clone();
        let reconciler = Reconciler::new(
            Arc::new(fake.clone()),
            owner(),
            local(),
            Clock::new(move || clock.now()),
            Arc::clone(&board),
            held.subscribe(),
        );
        let task = tokio::spawn(reconciler.run(shutdown.clone()));
        Self {
            fake,
            held,
            board,
            shutdown,
            task,
        }
    }

    fn assign(&self, generation: u64, instances: Vec<AssignedInstance>) {
        let held = testing::held(generation, instances);
        self.held.send_replace(Some(Arc::new(held)));
    }

    fn status(&self, text: &str) -> Option<InstanceStatus> {
        let snapshot = self.board.snapshot.borrow();
        snapshot.as_ref()?.statuses.get(&id(text)).cloned()
    }

    /// Waits until an instance has such a phase; returns how long that took.
    #[track_caller]
    fn until(&self, text: &str, is: impl Fn(&Phase) -> bool) -> impl Future<Output = Duration> {
        let caller = std::panic::Location::caller();
        let mut snapshots = self.board.snapshot.subscribe();
        let wanted: InstanceId = id(text);
        async move {
            let began = Instant::now();
            let found = snapshots.wait_for(|snapshot| {
                let status = snapshot.as_ref().and_then(|s| s.statuses.get(&wanted));
                status.is_some_and(|s| is(&s.phase))
            });
            let result = timeout(Duration::from_secs(3600), found).await;
            assert!(result.is_ok(), "{wanted} did not get there: {caller}");
            began.elapsed()
        }
    }

    async fn until_gone(&self, text: &str) {
        let mut snapshots = self.board.snapshot.subscribe();
        let wanted = id(text);
        let gone = snapshots.wait_for(|snapshot| {
            let snapshot = snapshot.as_ref();
            snapshot.is_some_and(|s| !s.statuses.contains_key(&wanted))
        });
        timeout(Duration::from_secs(3600), gone)
            .await
            .unwrap()
            .unwrap();
    }

    async fn stop(self) -> Fake {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
        self.fake
    }
}

fn local() -> Local {
    Local {
        agent: AgentId(uuid::Uuid::nil()),
        offer: Offer::default(),
    }
}

/// The calls that change something, in all.
fn changes(fake: &Fake) -> usize {
    [Call::Create, Call::Start, Call::Stop, Call::Remove]
        .into_iter()
        .map(|call| fake.count(call))
        .sum()
}

async fn secs(n: u64) {
    sleep(Duration::from_secs(n)).await;
}

#[tokio::test(start_paused = true)]
async fn an_assigned_instance_runs_within_milliseconds_of_the_engine() {
    let rig = Rig::new();
    rig.fake.delay(Call::Create, Duration::from_millis(100));
    rig.fake.delay(Call::Start, Duration::from_millis(200));
    secs(1).await;
    rig.assign(1, vec![instance("web-0-1")]);
    let took = rig.until("web-0-1", Phase::is_running).await;
    assert!(took <= Duration::from_millis(310), "{took:?}");
    assert_eq!(changes(&rig.fake), 2);
    secs(60).await;
    assert_eq!(changes(&rig.stop().await), 2);
}

#[tokio::test(start_paused = true)]
async fn a_killed_container_is_started_again_at_once() {
    let rig = Rig::new();
    rig.assign(1, vec![instance("web-0-1")]);
    rig.until("web-0-1", Phase::is_running).await;
    secs(5).await;
    rig.fake.delay(Call::Start, Duration::from_millis(200));
    rig.fake.exit(&id("web-0-1"), 137);
    rig.until("web-0-1", |p| !p.is_running()).await;
    let took = rig.until("web-0-1", Phase::is_running).await;
    assert!(took <= Duration::from_millis(210), "{took:?}");
    let status = rig.status("web-0-1").unwrap();
    assert_eq!(status.restarts, 1);
    assert_eq!(status.last_exit.unwrap().code, 137);
    assert_eq!(rig.fake.count(Call::Create), 1, "the container stays");
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_backs_off_and_shows_why() {
    let rig = Rig::new();
    rig.fake.crash_on_start(&id("web-0-1"), 3);
    rig.assign(1, vec![instance("web-0-1")]);
    rig.until("web-0-1", |p| matches!(p, Phase::BackingOff { .. }))
        .await;
    let status = rig.status("web-0-1").unwrap();
    assert_eq!(status.phase.reason(), Some("exit code 3"));
    // Starts at 0, 0, about 1, 3, 7, 15 and 31 s.
    secs(20).await;
    let starts = rig.fake.count(Call::Start);
    assert!((5..=7).contains(&starts), "{starts} starts within 20 s");
    // Every five minutes in the end, less the jitter.
    secs(3600).await;
    let before = rig.fake.count(Call::Start);
    secs(3600).await;
    let starts = rig.fake.count(Call::Start) - before;
    assert!((11..=15).contains(&starts), "{starts} starts in an hour");
}

#[tokio::test(start_paused = true)]
async fn a_container_removed_behind_our_back_comes_back() {
    let rig = Rig::new();
    rig.assign(1, vec![instance("web-0-1")]);
    rig.until("web-0-1", Phase::is_running).await;
    secs(5).await;
    rig.fake.remove_behind(&id("web-0-1"));
    rig.until("web-0-1", |p| !p.is_running()).await;
    let took = rig.until("web-0-1", Phase::is_running).await;
    assert!(took < Duration::from_millis(50), "{took:?}");
    assert_eq!(rig.status("web-0-1").unwrap().restarts, 1);
}

#[tokio::test(start_paused = true)]
async fn what_no_event_tells_is_found_within_ten_seconds() {
    let rig = Rig::new();
    rig.assign(1, vec![instance("web-0-1")]);
    rig.until("web-0-1", Phase::is_running).await;
    rig.fake.lose_events();
    secs(30).await;
    rig.fake.exit(&id("web-0-1"), 1);
    secs(11).await;
    assert_eq!(rig.fake.count(Call::Start), 2);
    assert!(rig.status("web-0-1").unwrap().phase.is_running());
}

#[tokio::test(start_paused = true)]
async fn a_broken_event_stream_is_opened_again_and_no_exit() {
    let rig = Rig::new();
    rig.assign(1, vec![instance("web-0-1")]);
    rig.until("web-0-1", Phase::is_running).await;
    let (changed, opened) = (changes(&rig.fake), rig.fake.count(Call::Events));
    rig.fake.break_events();
    secs(5).await;
    assert_eq!(changes(&rig.fake), changed);
    assert_eq!(rig.fake.count(Call::Events), opened + 1);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_hangs_for_a_minute_is_told_and_survived() {
    let rig = Rig::new();
    rig.assign(1, vec![instance("web-0-1"), instance("web-1-2")]);
    rig.until("web-1-2", Phase::is_running).await;
    rig.until("web-0-1", Phase::is_running).await;
    let changed = changes(&rig.fake);
    rig.fake.hang();
    secs(25).await;
    let health = rig.board.health.borrow().clone();
    let RuntimeHealth::Unhealthy { reason } = health else {
        panic!("it is not noticed")
    };
    assert_eq!(reason, "the engine does not answer");
    // Neither what is newly assigned nor what is dropped is acted on.
    rig.assign(2, vec![instance("web-1-2"), instance("web-2-3")]);
    secs(35).await;
    assert_eq!(changes(&rig.fake), changed);
    assert!(rig.status("web-0-1").unwrap().phase.is_running());
    rig.fake.resume();
    rig.until("web-2-3", Phase::is_running).await;
    rig.until_gone("web-0-1").await;
    assert_eq!(*rig.board.health.borrow(), RuntimeHealth::Healthy);
    let still = rig.status("web-1-2").unwrap();
    assert_eq!(still.restarts, 0);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_comes_back_adopts_what_runs() {
    let fake = Fake::default();
    fake.add_image("web:1");
    let all: Vec<_> = (0..20).map(|n| instance(&format!("web-{n}-{n}"))).collect();
    for assigned in &all {
        fake.run(&owner(), assigned);
    }
    let rig = Rig::on(fake, Some(testing::held(4, all)));
    rig.until("web-19-19", Phase::is_running).await;
    secs(120).await;
    let snapshot = rig.board.snapshot.borrow().clone().unwrap();
    assert_eq!(snapshot.generation.0, 4);
    assert!(snapshot.statuses.values().all(|s| s.phase.is_running()));
    assert_eq!(changes(&rig.fake), 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_touched_before_an_assignment_is_known() {
    let fake = Fake::default();
    fake.add_image("web:1");
    fake.run(&owner(), &instance("web-0-1"));
    let rig = Rig::on(fake, None);
    rig.until("web-0-1", Phase::is_running).await;
    secs(60).await;
    assert_eq!(changes(&rig.fake), 0);
    assert_eq!(rig.fake.count(Call::PruneNetworks), 0);
    rig.assign(1, vec![]);
    rig.until_gone("web-0-1").await;
}

#[tokio::test(start_paused = true)]
async fn containers_of_others_are_not_touched() {
    let rig = Rig::new();
    let mut other = owner();
    other.node = "n2".parse().unwrap();
    rig.fake.run(&other, &instance("web-0-1"));
    rig.assign(1, vec![]);
    secs(60).await;
    assert_eq!(changes(&rig.fake), 0);
    assert_eq!(rig.status("web-0-1"), None);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_answers_some_calls_only_is_not_the_instances_failure() {
    let rig = Rig::new();
    for _ in 0..20 {
        let kind = ErrorKind::Unreachable;
        rig.fake
            .fail_next(Call::Start, kind, "no answer within 60 s");
    }
    rig.assign(1, vec![instance("web-0-1")]);
    // One attempt a second, without doubling.
    let took = rig.until("web-0-1", Phase::is_running).await;
    assert!((19..25).contains(&took.as_secs()), "{took:?}");
    assert_eq!(rig.fake.count(Call::Create), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_is_stopped_and_removed_while_others_start() {
    let rig = Rig::new();
    rig.assign(1, vec![instance("web-0-1")]);
    rig.until("web-0-1", Phase::is_running).await;
    rig.fake.delay(Call::Stop, Duration::from_secs(10));
    rig.assign(2, vec![instance("web-1-2")]);
    let took = rig.until("web-1-2", Phase::is_running).await;
    assert!(took < Duration::from_millis(50), "{took:?}");
    let phase = rig.status("web-0-1").unwrap().phase;
    assert_eq!(phase, Phase::Stopping);
    rig.until_gone("web-0-1").await;
    assert_eq!(rig.fake.containers().len(), 1);
    assert!(rig.board.histories.borrow().contains_key(&id("web-1-2")));
    assert!(!rig.board.histories.borrow().contains_key(&id("web-0-1")));
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_dropped_while_it_starts_does_not_stay() {
    let rig = Rig::new();
    rig.fake.delay(Call::Create, Duration::from_secs(2));
    rig.assign(1, vec![instance("web-0-1")]);
    secs(1).await;
    rig.assign(2, vec![]);
    rig.until("web-0-1", |p| *p == Phase::Stopping).await;
    rig.until_gone("web-0-1").await;
    assert_eq!(rig.fake.containers(), []);
}

#[tokio::test(start_paused = true)]
async fn another_revision_of_an_instance_takes_its_place() {
    let rig = Rig::new();
    rig.assign(1, vec![instance("web-0-1")]);
    rig.until("web-0-1", Phase::is_running).await;
    let newer = AssignedInstance {
        revision: RevisionNumber(2),
        ..instance("web-0-1")
    };
    rig.assign(2, vec![newer]);
    secs(5).await;
    let containers = rig.fake.containers();
    assert_eq!(containers.len(), 1);
    assert_eq!(containers[0].revision, RevisionNumber(2));
    assert!(matches!(
        containers[0].state,
        ContainerState::Running { .. }
    ));
}

#[tokio::test(start_paused = true)]
async fn restarts_are_remembered_by_the_next_agent() {
    let rig = Rig::new();
    rig.fake.crash_on_start(&id("web-0-1"), 3);
    rig.assign(1, vec![instance("web-0-1")]);
    secs(100).await;
    let (held, board) = (rig.held.clone(), Arc::clone(&rig.board));
    let restarts = rig.status("web-0-1").unwrap().restarts;
    let fake = rig.stop().await;
    let starts = fake.count(Call::Start);
    let kept = board.histories.borrow().clone();
    let board = Arc::new(Board::new(Some(cluster()), None, kept, boot_clock()));
    let rig = Rig::begin(fake, held, board);
    secs(1).await;
    assert_eq!(rig.fake.count(Call::Start), starts, "it still waits");
    assert_eq!(rig.status("web-0-1").unwrap().restarts, restarts);
}

#[tokio::test(start_paused = true)]
async fn networks_of_namespaces_that_are_gone_are_removed_when_idle() {
    let rig = Rig::new();
    let mut shop = instance("web-0-1");
    shop.workload.namespace = "shop".parse().unwrap();
    rig.assign(1, vec![shop, instance("web-1-2")]);
    rig.until("web-1-2", Phase::is_running).await;
    secs(30).await;
    assert_eq!(rig.fake.networks().len(), 2);
    rig.assign(2, vec![instance("web-1-2")]);
    secs(30).await;
    let left: Vec<_> = rig.fake.networks().into_iter().collect();
    assert_eq!(left, [Namespace::default()]);
    let prunes = rig.fake.count(Call::PruneNetworks);
    secs(600).await;
    assert_eq!(
        rig.fake.count(Call::PruneNetworks),
        prunes,
        "once is enough"
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_while_networks_are_removed() {
    let rig = Rig::new();
    rig.fake.delay(Call::PruneNetworks, Duration::from_secs(3));
    rig.assign(1, vec![]);
    secs(1).await;
    assert_eq!(rig.fake.count(Call::PruneNetworks), 1);
    rig.assign(2, vec![instance("web-0-1")]);
    secs(1).await;
    assert_eq!(rig.fake.count(Call::Create), 0);
    let took = rig.until("web-0-1", Phase::is_running).await;
    assert!(took < Duration::from_millis(1100), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_events_leaves_the_engine_most_of_its_time() {
    let rig = Rig::new();
    rig.assign(1, vec![instance("web-0-1")]);
    rig.until("web-0-1", Phase::is_running).await;
    secs(1).await;
    rig.fake.delay(Call::List, Duration::from_millis(40));
    rig.fake.delay(Call::Start, Duration::from_secs(60));
    let (began, before) = (Instant::now(), rig.fake.count(Call::List));
    for _ in 0..400 {
        rig.fake.exit(&id("web-0-1"), 1);
        sleep(Duration::from_millis(5)).await;
    }
    // A list and the pause after it take 120 ms.
    let lists = rig.fake.count(Call::List) - before;
    let longest = began.elapsed().as_millis() / 120 + 2;
    assert!(lists as u128 <= longest, "{lists} lists");
}

#[tokio::test(start_paused = true)]
async fn the_end_leaves_containers_running() {
    let rig = Rig::new();
    rig.assign(1, vec![instance("web-0-1")]);
    rig.until("web-0-1", Phase::is_running).await;
    let fake = rig.stop().await;
    assert_eq!(fake.containers().len(), 1);
    assert_eq!(fake.count(Call::Stop), 0);
}

#[tokio::test(start_paused = true)]
async fn before_the_cluster_is_known_the_engine_is_only_asked_who_it_is() {
    let fake = Fake::default();
    fake.fail_next(Call::Info, ErrorKind::Unreachable, "no socket");
    let board = Arc::new(Board::new(None, None, Histories::new(), boot_clock()));
    let asking = tokio::spawn({
        let (fake, board) = (fake.clone(), Arc::clone(&board));
        async move { wait_for_cluster(&fake, &local(), &board).await }
    });
    secs(1).await;
    let reason = "no socket".to_owned();
    assert_eq!(*board.health.borrow(), RuntimeHealth::Unhealthy { reason });
    secs(5).await;
    assert_eq!(*board.health.borrow(), RuntimeHealth::Healthy);
    assert!(board.machine.borrow().is_some());
    board.cluster.send_replace(Some(cluster()));
    assert_eq!(asking.await.unwrap(), cluster());
}

#[tokio::test(start_paused = true)]
async fn a_step_that_breaks_down_brings_the_reconciler_down() {
    let rig = Rig::new();
    rig.fake.panic_next(Call::Create);
    rig.assign(1, vec![instance("web-0-1")]);
    let error = rig.task.await.unwrap().unwrap_err();
    assert!(error.is_panic());
}

mod crashes;
mod images;
mod probes;
