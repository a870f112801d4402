//! Changing what runs.

use std::time::Duration;

use crate::harness::{Cluster, demo, engine, free_address, http};

#[test]
fn a_changed_variable_makes_a_revision_and_replaces_one_by_one() {
    let cluster = Cluster::start(1);
    cluster.apply(&demo("web", "replicas: 3\nenv: { DEMO_MESSAGE: one }"));
    let id = cluster.id();
    let before = engine::running(&id);
    cluster.apply_no_wait(&demo("web", "replicas: 3\nenv: { DEMO_MESSAGE: two }"));
    cluster.eventually("all are of the new revision", |cluster| {
        let running = engine::running(&id).len();
        assert!(running >= 3, "only {running} run while it is updated");
        let status = cluster.workload("web")["status"].clone();
        status["settled"] == true && status["updated"] == 3
    });
    assert_eq!(engine::running(&id).len(), 3);
    assert!(engine::running(&id).iter().all(|c| !before.contains(c)));
    assert_eq!(cluster.workload("web")["status"]["revision"], 2);
    // The same once more is no change.
    cluster.apply(&demo("web", "replicas: 3\nenv: { DEMO_MESSAGE: two }"));
    assert_eq!(cluster.workload("web")["status"]["revision"], 2);
}

#[test]
fn an_image_that_does_not_exist_leaves_the_old_instances_and_says_why() {
    let cluster = Cluster::start(1);
    cluster.apply(&demo("web", "replicas: 2"));
    let id = cluster.id();
    let before: Vec<_> = engine::running(&id)
        .iter()
        .map(|c| engine::started_at(c))
        .collect();
    let missing = demo("web", "replicas: 2").replace(engine::IMAGE, "windlass:no-such-tag");
    cluster.apply_no_wait(&missing);
    cluster.eventually("the reason is shown", |cluster| {
        let reasons = cluster.workload("web")["status"]["reasons"].to_string();
        reasons.contains("windlass:no-such-tag")
    });
    cluster.always("the old ones run on", Duration::from_secs(5), |_| {
        let now: Vec<_> = engine::running(&id)
            .iter()
            .map(|c| engine::started_at(c))
            .collect();
        now == before
    });
    cluster.apply(&demo("web", "replicas: 2"));
}

#[test]
fn a_host_port_is_handed_over_after_the_image_is_there() {
    let cluster = Cluster::start(1);
    let page = free_address();
    let fields = |message: &str| {
        format!(
            "env: {{ DEMO_MESSAGE: {message} }}\nports: [{{ container: 8080, host: {} }}]",
            page.port()
        )
    };
    cluster.apply(&demo("web", &fields("one")));
    let missing = demo("web", &fields("two")).replace(engine::IMAGE, "windlass:no-such-tag");
    cluster.apply_no_wait(&missing);
    cluster.eventually("the reason is shown", |cluster| {
        cluster.workload("web")["status"]["reasons"]
            .to_string()
            .contains("no-such-tag")
    });
    cluster.always("the old one answers", Duration::from_secs(2), |_| {
        http::get(page, "/").is_ok_and(|answer| answer.json()["message"] == "one")
    });
    cluster.apply(&demo("web", &fields("two")));
    cluster.eventually("the new one answers", |_| {
        http::get(page, "/").is_ok_and(|answer| answer.json()["message"] == "two")
    });
}

#[test]
fn a_restart_replaces_every_instance_with_a_fresh_one() {
    let cluster = Cluster::start(1);
    cluster.apply(&demo("web", "replicas: 2"));
    let id = cluster.id();
    let before = engine::running(&id);
    cluster.ok(&["restart", "web"]);
    let after = engine::running(&id);
    assert_eq!(after.len(), 2);
    assert!(after.iter().all(|c| !before.contains(c)));
}

#[test]
fn a_dry_run_tells_what_would_happen_and_does_nothing() {
    let cluster = Cluster::start(1);
    cluster.apply(&demo("web", "env: { DEMO_MESSAGE: one }"));
    let path = cluster.write(
        "next.yaml",
        &demo("web", "replicas: 2\nenv: { DEMO_MESSAGE: two }"),
    );
    let plan = cluster.ok(&["plan", "-f", path.to_str().unwrap()]);
    assert!(plan.contains("spec.env.DEMO_MESSAGE"), "{plan}");
    assert!(plan.contains("one") && plan.contains("two"), "{plan}");
    assert!(plan.contains("n1"), "where it would run:\n{plan}");
    let version =
        |c: &Cluster| http::get(c.address, "/v1/server").unwrap().json()["version"].clone();
    let before = version(&cluster);
    cluster.ok(&["plan", "-f", path.to_str().unwrap()]);
    assert_eq!(version(&cluster), before);
    assert_eq!(cluster.workload("web")["status"]["revision"], 1);
}

/// The demo, whose readiness is probed often, with a message that makes a revision.
fn probed(message: &str, fields: &str) -> String {
    let probes = "ports: [{ name: http, container: 8080 }]\n\
                  probes: { readiness: { http: { port: http, path: /readyz }, interval: 500ms } }";
    demo(
        "web",
        &format!("env: {{ DEMO_MESSAGE: {message} }}\n{probes}\n{fields}"),
    )
}

/// Runs a command that must fail with this exit code, and returns what it said.
fn refused(cluster: &Cluster, args: &[&str], code: i32) -> String {
    let output = cluster.windlass(args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{args:?}: {printed}{said}"
    );
    said
}

fn state_of_rollout(cluster: &Cluster) -> String {
    let workload = cluster.workload("web");
    let state = workload["status"]["rollout"]["state"].as_str();
    state.unwrap_or_default().to_owned()
}

#[test]
fn an_update_that_ends_at_once_goes_back_by_itself_and_shows_what_it_said() {
    let cluster = Cluster::start(1);
    cluster.apply(&demo("web", "replicas: 3"));
    let id = cluster.id();
    let before = engine::running(&id);
    let broken = demo("web", "replicas: 3").replace("[demo]", "[demo, --no-such-option]");
    let path = cluster.write("broken.yaml", &broken);
    let path = path.to_str().unwrap();
    let said = refused(&cluster, &["apply", "-f", path], 1);
    assert!(said.contains("was rolled back to revision 1"), "{said}");
    assert!(said.contains("--no-such-option"), "its last lines: {said}");
    assert!(said.contains("windlass rollout restart"), "{said}");
    // Those that ran still run; none was stopped for it.
    assert!(before.iter().all(|c| engine::running(&id).contains(c)));
    refused(&cluster, &["rollout", "status", "web", "--no-wait"], 1);
    let table = cluster.ok(&["get", "workloads"]);
    assert!(table.contains("rolled back"), "{table}");
    let story = cluster.ok(&["describe", "workload", "web"]);
    assert!(story.contains("RolledBack"), "{story}");
    // The same once more changes nothing, and says so.
    refused(&cluster, &["apply", "-f", path], 1);
    assert_eq!(cluster.workload("web")["status"]["revision"], 1);
    cluster.apply(&demo("web", "replicas: 3\nenv: { DEMO_MESSAGE: mended }"));
    assert_eq!(state_of_rollout(&cluster), "Completed");
}

#[test]
fn an_update_that_never_turns_ready_goes_back_after_its_deadline() {
    let cluster = Cluster::start(1);
    let update = "update: { minReady: 0s, progressDeadline: 6s }";
    cluster.apply(&probed("one", update));
    let never = probed("two", update).replace("/readyz", "/no-such-page");
    let path = cluster.write("never.yaml", &never);
    let said = refused(&cluster, &["apply", "-f", path.to_str().unwrap()], 1);
    assert!(said.contains("was rolled back to revision 1"), "{said}");
    assert_eq!(cluster.workload("web")["status"]["ready"], 1);
}

#[test]
fn canaries_are_promoted_and_aborted() {
    let cluster = Cluster::start(1);
    let canary =
        |message: &str| probed(message, "replicas: 2\nupdate: { canary: 1, minReady: 1s }");
    cluster.apply(&canary("one"));
    let path = cluster.write("two.yaml", &canary("two"));
    let output = cluster.windlass(&["apply", "-f", path.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("windlass rollout promote default/web"),
        "{said}"
    );
    assert_eq!(state_of_rollout(&cluster), "Canary");
    let table = cluster.ok(&["get", "workloads"]);
    assert!(table.contains("canary 1/1"), "{table}");
    cluster.ok(&["rollout", "abort", "web"]);
    assert_eq!(state_of_rollout(&cluster), "RolledBack");
    let instances = cluster.instances("web");
    assert_eq!(instances.len(), 2);
    assert!(instances.iter().all(|i| i["revision"] == 1));

    cluster.apply(&canary("three"));
    assert_eq!(state_of_rollout(&cluster), "Canary");
    cluster.ok(&["rollout", "promote", "web"]);
    assert_eq!(state_of_rollout(&cluster), "Completed");
    assert!(cluster.instances("web").iter().all(|i| i["revision"] == 3));
}

/// A canary that ends a moment after each start is ready in between, since it has no probe.
#[test]
fn a_canary_that_ends_again_and_again_does_as_its_policy_says_and_the_old_ones_serve() {
    let cluster = Cluster::start(1);
    let spec = |policy: &str, fields: &str| {
        let update = format!("update: {{ canary: 1, onFailure: {policy} }}");
        demo("web", &format!("replicas: 2\n{update}\n{fields}"))
    };
    let ends = |policy: &str| {
        let env = format!("DEMO_MESSAGE: {policy}, DEMO_EXIT_AFTER: 300ms, DEMO_EXIT_CODE: '3'");
        spec(policy, &format!("env: {{ {env} }}"))
    };
    cluster.apply(&spec("rollback", ""));
    let id = cluster.id();
    let old = engine::running(&id);
    let old_ones_run = || old.iter().all(|c| engine::running(&id).contains(c));
    let outcomes = [
        ("rollback", "was rolled back", "RolledBack"),
        ("pause", "is paused", "Paused"),
    ];
    for (policy, words, state) in outcomes {
        let path = cluster.write("ends.yaml", &ends(policy));
        let said = refused(&cluster, &["apply", "-f", path.to_str().unwrap()], 1);
        assert!(
            said.contains(words) && said.contains("exit code 3"),
            "{said}"
        );
        assert!(said.contains("| time is up"), "its last lines: {said}");
        assert_eq!(state_of_rollout(&cluster), state);
        assert!(old_ones_run(), "{policy}");
        let status = cluster.windlass(&["rollout", "status", "web", "--no-wait"]);
        let told = String::from_utf8_lossy(&status.stdout);
        assert_eq!(status.status.code(), Some(1), "{told}");
        assert!(
            told.contains(words) && told.contains("| time is up"),
            "{told}"
        );
        if state == "Paused" {
            cluster.ok(&["rollout", "abort", "web"]);
        }
        cluster.ok(&["rollout", "restart", "web", "--no-wait"]);
        cluster.eventually("it ends as before", |c| state_of_rollout(c) == state);
        if state == "Paused" {
            cluster.ok(&["rollout", "abort", "web"]);
        }
        cluster.eventually("only the old ones are left", |_| {
            engine::running(&id) == old
        });
    }
    // Where it is to go on all the same it waits for somebody, and says what to do.
    let path = cluster.write("ends.yaml", &ends("continue"));
    let path = path.to_str().unwrap();
    let said = refused(&cluster, &["apply", "-f", path, "--timeout", "15s"], 4);
    assert!(said.contains("rollout abort default/web"), "{said}");
    assert!(old_ones_run());
    let told = cluster.ok(&["rollout", "status", "web", "--no-wait"]);
    assert!(
        told.contains("has canaries") && told.contains("exit code 3"),
        "{told}"
    );
}

/// A first deployment has nothing to go back to: it is tried on, and whoever looks is told why.
#[test]
fn a_first_deployment_that_ends_again_and_again_says_why_and_what_to_do() {
    let cluster = Cluster::start(1);
    let ends = demo(
        "web",
        "env: { DEMO_EXIT_AFTER: 100ms, DEMO_EXIT_CODE: '3' }",
    );
    let path = cluster.write("ends.yaml", &ends);
    let path = path.to_str().unwrap();
    let said = refused(&cluster, &["apply", "-f", path, "--timeout", "15s"], 4);
    assert!(
        said.contains("exit code 3") && said.contains("| time is up"),
        "{said}"
    );
    assert!(said.contains("nothing to go back to"), "{said}");
    assert!(said.contains("`windlass delete default/web`"), "{said}");
    let told = cluster.ok(&["rollout", "status", "web", "--no-wait"]);
    assert!(
        told.contains("exit code 3") && told.contains("| time is up"),
        "{told}"
    );
    let story = cluster.ok(&["describe", "workload", "web"]);
    assert!(
        story.contains("Progressing: web-0-1: exit code 3"),
        "{story}"
    );
    let events = cluster.ok(&["events"]);
    assert!(events.contains("so it is tried on"), "{events}");
}

#[test]
fn an_update_is_undone_by_hand() {
    let cluster = Cluster::start(1);
    let said = |cluster: &Cluster| refused(cluster, &["rollout", "undo", "web"], 1);
    cluster.apply(&demo("web", "env: { DEMO_MESSAGE: one }"));
    assert!(said(&cluster).contains("nothing to undo"));
    cluster.apply(&demo("web", "env: { DEMO_MESSAGE: two }"));
    let history = cluster.ok(&["rollout", "history", "web"]);
    assert!(history.contains("env.DEMO_MESSAGE"), "{history}");
    cluster.ok(&["rollout", "undo", "web"]);
    assert_eq!(cluster.workload("web")["status"]["revision"], 1);
    cluster.ok(&["rollout", "undo", "web", "--to", "2"]);
    assert_eq!(cluster.workload("web")["status"]["revision"], 2);
}
