//! Tables of each kind of object, as a person sees them.

use super::*;
use crate::fixtures::{self, NOW, RUNNING};

fn shown<T: Row>(items: &[T], detail: Detail, namespaces: Namespaces) -> String {
    let mut table = table::<T>(detail, namespaces);
    for item in items {
        table.row(cells(item, detail, namespaces, NOW));
    }
    let mut out = Vec::new();
    table.write(&mut out).unwrap();
    anstream::adapter::strip_str(std::str::from_utf8(&out).unwrap()).to_string()
}

#[test]
fn workloads_show_how_many_are_ready_and_why_not_more() {
    let mut late = fixtures::workload("api", 0, 2);
    late.status.reasons = vec!["1 of 1 nodes: too little memory".to_owned()];
    let workloads = [fixtures::workload("web", 3, 3), late];
    assert_eq!(
        shown(&workloads, Detail::Normal, Namespaces::One),
        "NAME   KIND      READY   UPDATED   STATE        REVISION   AGE\n\
         web    Service   3/3     3         settled      1          10m\n\
         api    Service   0/2     0         in trouble   1          10m\n"
    );
    assert_eq!(
        shown(&workloads, Detail::Wide, Namespaces::All),
        "NAMESPACE   NAME   KIND      READY   UPDATED   STATE        REVISION   AGE   IMAGE        REASON\n\
         default     web    Service   3/3     3         settled      1          10m   nginx:1.27   -\n\
         default     api    Service   0/2     0         in trouble   1          10m   nginx:1.27   \
         1 of 1 nodes: too little memory\n"
    );
}

#[test]
fn instances_show_where_they_are() {
    let backing_off = Phase::BackingOff {
        until: NOW,
        reason: "exit code 1".to_owned(),
    };
    let mut lost = fixtures::instance("web-2-3", RUNNING);
    lost.node_lost = true;
    let instances = [
        fixtures::instance("web-0-1", RUNNING),
        fixtures::instance("web-1-2", backing_off),
        lost,
    ];
    assert_eq!(
        shown(&instances, Detail::Wide, Namespaces::One),
        "NAME      WORKLOAD   PHASE        READY   RESTARTS   NODE     AGE   ADDRESS   REVISION   IMAGE        REASON\n\
         web-0-1   web        Running      0/1     0          edge-1   10m   -         1          nginx:1.27   -\n\
         web-1-2   web        BackingOff   0/1     0          edge-1   10m   -         1          nginx:1.27   exit code 1\n\
         web-2-3   web        Unknown      0/1     0          edge-1   10m   -         1          nginx:1.27   \
         node edge-1 is lost; last seen Running\n"
    );
}

#[test]
fn jobs_and_schedules_show_what_counts_for_them() {
    let running = serde_json::json!({ "state": "Running" });
    let next = serde_json::json!({ "next": "2026-01-01T03:00:00Z" });
    let workloads = [
        fixtures::job("load", running),
        fixtures::schedule("backup", next),
    ];
    assert_eq!(
        shown(&workloads, Detail::Normal, Namespaces::One),
        "NAME     KIND      READY   UPDATED   STATE         REVISION   AGE\n\
         load     Job       -       -         running 2/5   1          10m\n\
         backup   CronJob   -       -         next in 3h    1          10m\n"
    );
}

#[test]
fn init_containers_do_not_count_as_ready() {
    let mut instance = fixtures::instance("web-0-1", RUNNING);
    instance.images = vec!["nginx:1.27".to_owned(), "log:1".to_owned()];
    assert_eq!(containers_ready(&instance), "0/2");
    let mut ready = fixtures::container("c2");
    ready.readiness = windlass_api::status::Readiness::Ready;
    instance.status.containers = vec![ready.clone(), fixtures::container("c1"), ready];
    assert_eq!(containers_ready(&instance), "1/2");
}

#[test]
fn instances_are_in_the_order_of_their_slots() {
    let mut instances = ["web-10-1", "web-9-7", "api-3-2"]
        .map(|name| fixtures::instance(name, RUNNING))
        .to_vec();
    instances.sort_by(Row::compare);
    let names: Vec<&str> = instances.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["api-3-2", "web-9-7", "web-10-1"]);
}

#[test]
fn nodes_show_what_is_set_aside() {
    assert_eq!(
        shown(&[fixtures::node("edge-1")], Detail::Wide, Namespaces::All),
        "NAME     STATE   SCHEDULING   INSTANCES   CPU      MEMORY     AGE   ENGINE   OS/ARCH        LABELS    TAINTS\n\
         edge-1   Ready   Enabled      2           0.25/2   64Mi/4Gi   10m   27.1     linux/x86_64   zone=eu   gpu=yes\n"
    );
}

#[test]
fn events_are_in_the_order_in_which_they_happened() {
    let mut events = vec![
        fixtures::event(2, "Late", "b\nc"),
        fixtures::event(1, "Early", "a"),
    ];
    events.sort_by(Row::compare);
    assert_eq!(
        shown(&events, Detail::Normal, Namespaces::One),
        "LAST   SEVERITY   REASON   SUBJECT        COUNT   MESSAGE\n\
         10m    Warning    Early    workload/web   2       a\n\
         10m    Warning    Late     workload/web   2       b c\n"
    );
}

#[test]
fn names_are_ones_that_commands_take() {
    let workload = fixtures::workload("web", 1, 1);
    assert_eq!(reference(&workload, Namespaces::One), "workload/web");
    assert_eq!(
        reference(&workload, Namespaces::All),
        "workload/default/web"
    );
    assert_eq!(
        reference(&fixtures::node("edge-1"), Namespaces::All),
        "node/edge-1"
    );
    assert_eq!(
        reference(&fixtures::event(1, "X", "y"), Namespaces::One),
        "workload/web"
    );
}
