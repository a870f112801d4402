use serde_json::json;
use windlass_api::spec::ContainerSpec;

use super::*;
use crate::{
    fake::{Call, Fake},
    probe::{Health, Verdict},
    runtime::ErrorKind,
    testing::{instance, owner},
};

/// What the probes of these tests run.
const CHECK: [&str; 2] = ["check", "-v"];

const START: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn spec(role: &str, probe: serde_json::Value) -> ContainerSpec {
    let spec = json!({ "name": "web", "image": "web:1", "probes": { role: probe } });
    serde_json::from_value(spec).unwrap()
}

/// A liveness probe that runs a command each second, of which the second failure is too many.
fn exec() -> ContainerSpec {
    spec(
        "liveness",
        json!({
            "exec": { "command": CHECK }, "interval": "1s", "failureThreshold": 2,
        }),
    )
}

fn id(name: &str) -> ContainerId {
    ContainerId(name.to_owned())
}

fn subject<'a>(container: &'a ContainerId, spec: &'a ContainerSpec) -> Subject<'a> {
    Subject {
        container,
        started_at: START,
        address: Some(IpAddr::from([127, 0, 0, 1])),
        spec,
        healthcheck: None,
    }
}

fn run(fake: &Fake, name: &str) -> ContainerId {
    fake.run(&owner(), &instance(name))
}

fn prober(fake: &Fake) -> Prober<Fake> {
    Prober::new(Arc::new(fake.clone()), Memory::default())
}

fn reason(health: &Health) -> &str {
    match &health.verdict {
        Verdict::Restart { reason } => reason,
        Verdict::Fine => "fine",
    }
}

/// Probes for that long, whatever changes.
async fn probe_for(prober: &mut Prober<Fake>, span: Duration) {
    let probing = async {
        loop {
            prober.changed().await.unwrap();
        }
    };
    assert!(timeout(span, probing).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_command_that_fails_restarts_its_container() {
    let fake = Fake::default();
    let (a, spec) = (run(&fake, "web-0-1"), exec());
    let mut prober = prober(&fake);
    prober.observe(&[subject(&a, &spec)], START);
    probe_for(&mut prober, Duration::from_secs(10)).await;
    assert_eq!(reason(&prober.healths()[&a]), "fine");
    assert_eq!(fake.count(Call::Exec), 10);
    fake.set_exec(&CHECK, Duration::ZERO, 3, "one\ntwo\n");
    prober.changed().await.unwrap();
    let saw = "liveness probe: `check -v` ended with 3: two (2 times in a row)";
    assert_eq!(reason(&prober.healths()[&a]), saw);
    assert_eq!(fake.count(Call::Exec), 12);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_does_not_answer_is_not_the_fault_of_a_container() {
    let fake = Fake::default();
    let (a, spec) = (run(&fake, "web-0-1"), exec());
    let mut prober = prober(&fake);
    prober.observe(&[subject(&a, &spec)], START);
    for _ in 0..20 {
        fake.fail_next(Call::Exec, ErrorKind::Unreachable, "no answer");
    }
    probe_for(&mut prober, Duration::from_secs(15)).await;
    assert_eq!(reason(&prober.healths()[&a]), "fine");
    prober.pause();
    probe_for(&mut prober, Duration::from_secs(15)).await;
    assert_eq!(fake.count(Call::Exec), 15);
    prober.observe(&[subject(&a, &spec)], START);
    probe_for(&mut prober, Duration::from_secs(5)).await;
    assert!((20..=21).contains(&fake.count(Call::Exec)));
}

#[tokio::test(start_paused = true)]
async fn no_command_is_started_beside_one_that_hangs() {
    let fake = Fake::default();
    fake.set_exec(&CHECK, Duration::from_secs(60), 0, "");
    let (a, spec) = (run(&fake, "web-0-1"), exec());
    let spec = ContainerSpec {
        probes: windlass_api::spec::Probes {
            readiness: spec.probes.liveness,
            ..Default::default()
        },
        ..spec
    };
    let mut prober = prober(&fake);
    prober.observe(&[subject(&a, &spec)], START);
    prober.changed().await.unwrap();
    let told = |prober: &Prober<Fake>| format!("{:?}", prober.healths()[&a].readiness);
    let overdue = "readiness probe: `check -v` did not end within 1s";
    assert!(told(&prober).contains(overdue), "{}", told(&prober));
    probe_for(&mut prober, Duration::from_secs(30)).await;
    assert_eq!(fake.count(Call::Exec), 1);
    let beside = "`check -v` of an earlier check has not ended";
    assert!(told(&prober).contains(beside), "{}", told(&prober));
    // It ended after a minute, and the next one is well.
    fake.set_exec(&CHECK, Duration::ZERO, 0, "");
    probe_for(&mut prober, Duration::from_secs(40)).await;
    assert!(fake.count(Call::Exec) > 1);
    assert!(prober.healths()[&a].readiness.is_ready());
}

#[tokio::test(start_paused = true)]
async fn few_commands_are_left_behind_for_ever() {
    let fake = Fake::default();
    fake.set_exec(&CHECK, Duration::from_secs(86_400), 0, "");
    let (a, spec) = (run(&fake, "web-0-1"), exec());
    let spec = ContainerSpec {
        probes: windlass_api::spec::Probes {
            readiness: spec.probes.liveness,
            ..Default::default()
        },
        ..spec
    };
    let mut prober = prober(&fake);
    prober.observe(&[subject(&a, &spec)], START);
    probe_for(&mut prober, Duration::from_secs(7200)).await;
    assert_eq!(fake.count(Call::Exec), 3);
    let told = format!("{:?}", prober.healths()[&a].readiness);
    assert!(told.contains("did not end 3 times"), "{told}");
    // The next life begins anew.
    let later = Subject {
        started_at: START + Duration::from_secs(7200),
        ..subject(&a, &spec)
    };
    prober.observe(&[later], START + Duration::from_secs(7200));
    probe_for(&mut prober, Duration::from_secs(10)).await;
    assert_eq!(fake.count(Call::Exec), 4);
}

#[tokio::test(start_paused = true)]
async fn what_hangs_delays_nobody_else() {
    let fake = Fake::default();
    fake.set_exec(&CHECK, Duration::from_secs(60), 0, "");
    let (hanging, refused) = (
        exec(),
        spec(
            "liveness",
            json!({
                "tcp": { "port": 1 }, "interval": "1s", "failureThreshold": 2,
            }),
        ),
    );
    let ids = (0..200).map(|n| run(&fake, &format!("web-{n}-{n}")));
    let ids: Vec<ContainerId> = ids.collect();
    let mut subjects: Vec<_> = ids.iter().map(|id| subject(id, &hanging)).collect();
    let last = id("last");
    // Nobody is there: it fails at once.
    subjects.push(Subject {
        address: None,
        ..subject(&last, &refused)
    });
    let mut prober = prober(&fake);
    prober.observe(&subjects, START);
    let began = Instant::now();
    while reason(&prober.healths()[&last]) == "fine" {
        prober.changed().await.unwrap();
    }
    assert!(began.elapsed() < Duration::from_millis(1_300));
}

#[tokio::test(start_paused = true)]
async fn two_hundred_containers_with_slow_commands_are_probed_on_time() {
    let fake = Fake::default();
    // As measured on two cores with eight at a time.
    fake.delay(Call::Exec, Duration::from_millis(400));
    fake.set_exec(&CHECK, Duration::from_secs(1), 0, "");
    let probe = json!({ "exec": { "command": CHECK }, "timeout": "3s" });
    let spec = spec("liveness", probe);
    let ids: Vec<_> = (0..200)
        .map(|n| run(&fake, &format!("web-{n}-{n}")))
        .collect();
    let subjects: Vec<_> = ids.iter().map(|id| subject(id, &spec)).collect();
    let mut prober = Prober::with_cores(Arc::new(fake.clone()), Memory::default(), 2);
    prober.observe(&subjects, START);
    // In the first round they come one after the other, as fast as the machine can.
    probe_for(&mut prober, Duration::from_secs(10)).await;
    assert_eq!(fake.count(Call::Exec), 200);
    for round in 2..8 {
        probe_for(&mut prober, Duration::from_secs(10)).await;
        let late = (round * 200_usize).saturating_sub(fake.count(Call::Exec));
        assert!(late <= 8, "{late} are late in round {round}");
    }
    let unwell = prober
        .healths()
        .values()
        .filter(|h| h.verdict != Verdict::Fine);
    assert_eq!(unwell.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_command_that_is_not_started_gives_its_turn_back_when_its_time_is_over() {
    let fake = Fake::default();
    fake.delay(Call::Exec, Duration::from_secs(60));
    let spec = exec();
    let ids: Vec<_> = (0..20)
        .map(|n| run(&fake, &format!("web-{n}-{n}")))
        .collect();
    let subjects: Vec<_> = ids.iter().map(|id| subject(id, &spec)).collect();
    let mut prober = Prober::with_cores(Arc::new(fake.clone()), Memory::default(), 1);
    prober.observe(&subjects, START);
    probe_for(&mut prober, Duration::from_secs(6)).await;
    assert_eq!(fake.count(Call::Exec), 20, "four each second");
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_gone_ends_its_checks() {
    let fake = Fake::default();
    fake.set_exec(&CHECK, Duration::from_secs(60), 0, "");
    let (a, spec) = (run(&fake, "web-0-1"), exec());
    let mut prober = prober(&fake);
    prober.observe(&[subject(&a, &spec)], START);
    probe_for(&mut prober, Duration::from_secs(2)).await;
    prober.observe(&[], START);
    probe_for(&mut prober, Duration::from_secs(1)).await;
    assert!(prober.checks.is_empty() && prober.overdue.is_empty());
    assert!(prober.running.is_empty());
}

/// A port of which connections are made, and nothing is ever said over them.
async fn mute() -> (tokio::net::TcpListener, u16) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port that swallows what is sent to it, as behind a firewall: it has as many connections
/// waiting as it takes, so that the kernel does not answer another one.
async fn black_hole() -> (Vec<tokio::net::TcpStream>, tokio::net::TcpListener, u16) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    let connect = || tokio::net::TcpStream::connect(address);
    while let Ok(connected) = timeout(Duration::from_millis(200), connect()).await {
        waiting.push(connected.unwrap());
    }
    (waiting, listener, address.port())
}

#[tokio::test]
async fn whatever_hangs_fails_at_its_time_limit_and_holds_up_nobody() {
    let (_listener, mute) = mute().await;
    let (_waiting, _full, hole) = black_hole().await;
    let fake = Fake::default();
    fake.set_exec(&CHECK, Duration::from_secs(3600), 0, "");
    let cases = [
        (
            json!({ "http": { "port": mute } }),
            format!("GET :{mute}/: no answer within 300ms"),
        ),
        (
            json!({ "grpc": { "port": mute } }),
            format!("grpc :{mute}: no answer within 300ms"),
        ),
        (
            json!({ "tcp": { "port": hole } }),
            format!("tcp :{hole}: no answer within 300ms"),
        ),
        (
            json!({ "exec": { "command": CHECK } }),
            "`check -v` did not end within 300ms".to_owned(),
        ),
    ];
    let hanging = |mut probe: serde_json::Value| {
        probe["timeout"] = json!("300ms");
        probe["failureThreshold"] = json!(1);
        spec("liveness", probe)
    };
    let cases = cases.map(|(probe, saw)| (hanging(probe), saw));
    let ids: Vec<_> = (0..cases.len())
        .map(|n| run(&fake, &format!("web-{n}-{n}")))
        .collect();
    let mut subjects: Vec<_> = ids
        .iter()
        .zip(&cases)
        .map(|(id, (spec, _))| subject(id, spec))
        .collect();
    // Another one is made ten times within the time limit of those.
    let well = run(&fake, "well-0-9");
    let quick = json!({ "exec": { "command": ["quick"] }, "interval": "30ms" });
    let quick = spec("liveness", quick);
    subjects.push(subject(&well, &quick));
    let mut prober = Prober::with_cores(Arc::new(fake.clone()), Memory::default(), 1);
    prober.observe(&subjects, START);
    let began = Instant::now();
    let is_doomed = |prober: &Prober<Fake>, id| reason(&prober.healths()[id]) != "fine";
    while !ids.iter().all(|id| is_doomed(&prober, id)) {
        prober.changed().await.unwrap();
    }
    assert!(began.elapsed() >= Duration::from_millis(300));
    // On a machine that has other things to do, too.
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    for (id, (_, saw)) in ids.iter().zip(&cases) {
        assert_eq!(
            reason(&prober.healths()[id]),
            format!("liveness probe: {saw}")
        );
    }
    let quick = |(_, command): &&(ContainerId, Vec<String>)| command[..] == ["quick".to_owned()];
    let made = fake.executed().iter().filter(quick).count();
    assert!(made >= 5, "the other one was probed {made} times");
    assert_eq!(reason(&prober.healths()[&well]), "fine");
}

/// The time that this thread has computed for.
fn computed() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanos = stat.split(' ').next().unwrap().parse().unwrap();
    Duration::from_nanos(nanos)
}

/// A server for everybody who asks, in a thread of its own, so that it is not measured. Tells its
/// port.
fn serve() -> u16 {
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let asked = stream.read(&mut [0; 1024]);
            assert!(asked.unwrap() > 0);
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";
            stream.write_all(answer).unwrap();
        }
    });
    port
}

/// What a node with 200 probed containers pays, each asked over HTTP every second.
#[tokio::test]
#[ignore = "a measurement of ten seconds, which a busy machine falsifies"]
async fn what_200_probed_containers_cost() {
    let port = serve();
    let spec = spec(
        "readiness",
        json!({ "http": { "port": port, "path": "/healthz" }, "interval": "1s" }),
    );
    let ids: Vec<ContainerId> = (0..200).map(|n| id(&n.to_string())).collect();
    let subjects = ids.iter().zip(1..).map(|(id, n)| Subject {
        address: Some(IpAddr::from([127, 0, 1, n])),
        ..subject(id, &spec)
    });
    let subjects: Vec<_> = subjects.collect();
    let mut prober = prober(&Fake::default());
    prober.observe(&subjects, START);
    probe_for(&mut prober, Duration::from_secs(2)).await;
    let before = computed();
    probe_for(&mut prober, Duration::from_secs(10)).await;
    let cost = (computed() - before) / 10;
    println!("{cost:?} of computing a second for 200 checks a second");
    assert!(
        prober
            .healths()
            .values()
            .all(|health| health.readiness.is_ready())
    );
}
