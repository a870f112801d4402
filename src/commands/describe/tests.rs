//! Stories, as a person reads them.

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
           Status      exit code 1\n  \
           Running     0 of 1, 0 of them of revision 1\n  \
           Labels      app=web\n  \
           Created     10m ago\n  \
           Changed     10m ago\n"
    );
    assert!(rest.contains("nginx:1.27"), "{rest}");
    let (_, rest) = rest.split_once("\nInstances\n").unwrap();
    assert_eq!(
        rest,
        "  NAME      WORKLOAD   PHASE      RESTARTS   NODE     AGE\n  \
           web-0-1   web        Starting   0          edge-1   10m\n\n\
         Does not run (with the last 10 lines of its log)\n  \
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
