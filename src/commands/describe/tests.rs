//! Stories, as a person reads them.

use serde_json::json;
use windlass_api::status::{ContainerPhase, Exit, Phase, Readiness};

use super::*;
use crate::fixtures::{self, NOW, RUNNING};

fn told(story: &Story<Subject>) -> String {
    let mut out = Vec::new();
    write(story, NOW, &mut out).unwrap();
    anstream::adapter::strip_str(std::str::from_utf8(&out).unwrap()).to_string()
}

#[test]
fn what_does_not_run_is_told_with_the_reason_and_its_log() {
    let mut workload = fixtures::workload("web", 0, 1);
    workload.status.reasons = vec!["exit code 1".to_owned()];
    let story = Story {
        subject: Subject::Workload(Box::new(workload)),
        instances: vec![fixtures::instance("web-0-1", Phase::Starting)],
        troubles: vec![Trouble {
            instance: "web-0-1".to_owned(),
            reason: "exit code 1".to_owned(),
            log: Ok(vec!["cannot open /data".to_owned()]),
        }],
        events: vec![fixtures::event(1, "BackingOff", "exit code 1")],
    };
    let text = told(&story);
    let (head, rest) = text.split_once("\nSpec\n").unwrap();
    assert_eq!(
        head,
        "Service default/web\n  \
           Status      in trouble: exit code 1\n  \
           Ready       0 of 1, 0 of them of revision 1\n  \
           Labels      app=web\n  \
           Created     10m ago\n  \
           Changed     10m ago\n\n\
         Containers\n  \
           NAME   ROLE   IMAGE        PROBES\n  \
           main   main   nginx:1.27   -\n"
    );
    assert!(rest.contains("nginx:1.27"), "{rest}");
    let (_, rest) = rest.split_once("\nInstances\n").unwrap();
    assert_eq!(
        rest,
        "  NAME      WORKLOAD   PHASE      READY   RESTARTS   NODE     AGE\n  \
           web-0-1   web        Starting   0/1     0          edge-1   10m\n\n\
         In trouble (with the last 10 lines of the log)\n  \
           web-0-1: exit code 1\n    \
             | cannot open /data\n\n\
         Events\n  \
           LAST   SEVERITY   REASON       SUBJECT        COUNT   MESSAGE\n  \
           10m    Warning    BackingOff   workload/web   2       exit code 1\n"
    );
}

#[test]
fn an_instance_is_told() {
    let mut instance = fixtures::instance("web-0-1", RUNNING);
    instance.status.address = Some("172.18.0.2".parse().unwrap());
    let story = Story {
        subject: Subject::Instance(Box::new(instance)),
        instances: Vec::new(),
        troubles: Vec::new(),
        events: Vec::new(),
    };
    assert_eq!(
        told(&story),
        "Instance default/web-0-1\n  \
           Phase       Running, for 10m\n  \
           Ready       yes, for 10m\n  \
           Workload    web, slot 0\n  \
           Revision    1\n  \
           Image       nginx:1.27\n  \
           Node        edge-1\n  \
           Address     172.18.0.2\n  \
           Restarts    0\n  \
           Created     10m ago\n\n\
         Events\n  none\n"
    );
}

#[test]
fn each_container_of_an_instance_is_told() {
    let mut instance = fixtures::instance("web-0-1", RUNNING);
    let mut init = fixtures::container("0123456789abcdef");
    init.name = "fill".parse().unwrap();
    init.state = ContainerPhase::Exited;
    init.last_exit = Some(Exit {
        code: 0,
        oom_killed: false,
        reason: None,
        finished_at: NOW,
    });
    let mut main = fixtures::container("c2");
    main.readiness = Readiness::NotReady {
        reason: Some("http 503".to_owned()),
    };
    main.restarts = 2;
    instance.status.containers = vec![init, main];
    let mut out = Vec::new();
    instance::write(&instance, NOW, &mut out).unwrap();
    let text = anstream::adapter::strip_str(std::str::from_utf8(&out).unwrap()).to_string();
    let (_, containers) = text.split_once("\nContainers\n").unwrap();
    assert_eq!(
        containers,
        "  NAME   STATE            READY          RESTARTS   LAST EXIT             ID             IMAGE ID\n  \
           fill   exited           no             0          exit code 0, 0s ago   0123456789ab   -\n  \
           main   running for 0s   no: http 503   2          -                     c2             -\n"
    );
}

#[test]
fn each_probe_of_an_instance_is_told_with_what_it_saw() {
    let mut instance = fixtures::instance("web-0-1", RUNNING);
    let probes = json!({ "main": {
        "startup": { "tcp": { "port": 8080 }, "interval": "1s" },
        "readiness": { "http": { "port": 8080, "path": "/readyz" } },
        "liveness": { "exec": { "command": ["check", "-v"] } },
    }});
    instance.probes = serde_json::from_value(probes).unwrap();
    let mut main = fixtures::container("c2");
    main.readiness = Readiness::NotReady {
        reason: Some("readiness probe: GET :8080/readyz answered 503".to_owned()),
    };
    instance.status.containers = vec![main];
    let told = |instance: &Instance| {
        let mut out = Vec::new();
        instance::write(instance, NOW, &mut out).unwrap();
        let text = anstream::adapter::strip_str(std::str::from_utf8(&out).unwrap()).to_string();
        text.split_once("\nProbes\n").unwrap().1.to_owned()
    };
    assert_eq!(
        told(&instance),
        "  CONTAINER   PROBE       CHECK                        RESULT\n  \
           main        startup     tcp 8080 every 1s            -\n  \
           main        readiness   http 8080/readyz every 10s   GET :8080/readyz answered 503\n  \
           main        liveness    exec check -v every 10s      -\n"
    );
    instance.status.containers[0].readiness = Readiness::Ready;
    let told = told(&instance);
    let results = told
        .lines()
        .skip(1)
        .map(|line| line.rsplit("  ").next().unwrap().trim());
    assert_eq!(results.collect::<Vec<_>>(), ["passed", "passed", "lives"]);
}

#[test]
fn a_rollout_that_failed_is_told_with_the_last_lines_of_the_log() {
    let mut workload = fixtures::workload("web", 3, 3);
    let state = json!({ "state": "RolledBack", "reason": "exit code 1\ncannot open /data" });
    let mut rollout = fixtures::rollout(state);
    rollout.order_reason = Some("the only copy has a host port".to_owned());
    workload.status.rollout = Some(rollout);
    let text = told(&Story {
        subject: Subject::Workload(Box::new(workload)),
        instances: Vec::new(),
        troubles: Vec::new(),
        events: Vec::new(),
    });
    let (_, rest) = text.split_once("\nRollout\n").unwrap();
    let (rollout, _) = rest.split_once("\n\n").unwrap();
    assert_eq!(
        rollout,
        "  State       RolledBack: exit code 1\n  \
           Change      from revision 1 to revision 2\n  \
           Order       startFirst (the only copy has a host port)\n  \
           Began       10m ago\n  \
           Progressed  10m ago\n    \
             | cannot open /data"
    );
}

#[test]
fn a_job_is_told_index_by_index() {
    let indices = json!([
        { "index": 0, "code": 0, "finishedAt": NOW, "failures": 0, "completed": true },
        { "index": 1, "code": 3, "finishedAt": NOW, "failures": 2, "completed": false },
    ]);
    let state = json!({ "state": "Failed", "finishedAt": NOW, "reason": "exit code 3", "indices": indices });
    let text = told(&Story {
        subject: Subject::Workload(Box::new(fixtures::job("load", state))),
        instances: Vec::new(),
        troubles: Vec::new(),
        events: Vec::new(),
    });
    assert!(
        text.contains("  Status      failed 2/5: exit code 3\n"),
        "{text}"
    );
    assert!(
        text.contains("  State       Failed 0s ago: exit code 3\n"),
        "{text}"
    );
    assert!(
        text.contains(
            "\nIndices\n  \
               INDEX   STATE       EXIT CODE   FAILURES   ENDED\n  \
               0       completed   0           0          0s ago\n  \
               1       failed      3           2          0s ago\n"
        ),
        "{text}"
    );
}

#[test]
fn a_schedule_is_told_with_its_next_time() {
    let status = json!({ "next": "2026-01-01T03:00:00Z" });
    let text = told(&Story {
        subject: Subject::Workload(Box::new(fixtures::schedule("backup", status))),
        instances: Vec::new(),
        troubles: Vec::new(),
        events: Vec::new(),
    });
    assert!(
        text.contains(
            "\nSchedule\n  \
               When        0 3 * * * (UTC)\n  \
               Next        2026-01-01T03:00:00Z, in 3h\n"
        ),
        "{text}"
    );
}

#[test]
fn a_node_is_told_with_its_instances_of_all_namespaces() {
    let story = Story {
        subject: Subject::Node(Box::new(fixtures::node("edge-1"))),
        instances: vec![fixtures::instance("web-0-1", RUNNING)],
        troubles: Vec::new(),
        events: Vec::new(),
    };
    let text = told(&story);
    assert!(
        text.starts_with("Node edge-1\n  State       Ready, for 10m\n"),
        "{text}"
    );
    assert!(
        text.contains("\n  CPU         0.25/2 cores set aside\n"),
        "{text}"
    );
    assert!(text.contains("\n  default     web-0-1   web "), "{text}");
}

#[test]
fn for_programs_it_is_one_object() {
    let story = Story {
        subject: Subject::Node(Box::new(fixtures::node("edge-1"))),
        instances: Vec::new(),
        troubles: Vec::new(),
        events: vec![fixtures::event(1, "Joined", "hello")],
    };
    let json = serde_json::to_value(story).unwrap();
    assert_eq!(json["node"]["name"], "edge-1");
    assert_eq!(json["events"][0]["reason"], "Joined");
}
