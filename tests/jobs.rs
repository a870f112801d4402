//! What ends, what runs at its time, and what runs everywhere.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Cluster, chore, engine};

/// Applies a manifest that comes to nothing, and returns what was said.
fn fails(cluster: &Cluster, yaml: &str) -> String {
    let path = cluster.write("fails.yaml", yaml);
    let output = cluster.windlass(&["apply", "-f", path.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    said
}

#[test]
fn a_job_that_fails_says_with_which_code_each_index_ended() {
    let cluster = Cluster::start(1);
    let fields = "completions: 3\nparallelism: 3\nbackoffLimit: 0";
    let args = "--say, at work, --fail-index, '1', --exit-code, '42', --take, 1s";
    let said = fails(&cluster, &chore("Job", "load", args, fields));
    assert!(said.contains("job default/load failed"), "{said}");
    let job = cluster.workload("load")["status"]["job"].clone();
    assert_eq!(job["state"], "Failed", "{job}");
    let indices = job["indices"].as_array().unwrap();
    let failed: Vec<&Value> = indices.iter().filter(|i| i["completed"] == false).collect();
    assert_eq!(failed.len(), 1, "{job}");
    assert_eq!(
        (&failed[0]["index"], &failed[0]["code"]),
        (&Value::from(1), &Value::from(42))
    );
    let table = cluster.ok(&["get", "jobs"]);
    assert!(table.contains("failed"), "{table}");
    let story = cluster.ok(&["describe", "job", "load"]);
    assert!(story.contains("42"), "{story}");
}

#[test]
fn a_job_that_fails_once_completes_with_its_next_attempt() {
    let cluster = Cluster::start(1);
    let fields = "restart: OnFailure\nvolumes: [{ name: state, scratch: {} }]\n\
                  mounts: [{ volume: state, path: /state }]";
    let args = "--fail-once, /state/tried";
    cluster.apply(&chore("Job", "load", args, fields));
    let status = cluster.workload("load")["status"].clone();
    assert_eq!(status["job"]["state"], "Completed", "{status}");
    assert_eq!(status["job"]["succeeded"], 1, "{status}");
    cluster.ok(&["wait", "load", "--for", "completed"]);
}

#[test]
fn a_job_is_run_again_with_its_output_and_its_exit_code() {
    let cluster = Cluster::start(1);
    // Each attempt after a failure waits longer; here the first one decides.
    cluster.apply(&chore("Job", "load", "--say, first", "backoffLimit: 0"));
    let run = |args: &[&str]| cluster.windlass(&[&["job", "run", "load"], args].concat());
    let again = run(&[]);
    let said = String::from_utf8_lossy(&again.stderr);
    assert_eq!(again.status.code(), Some(0), "{said}");
    let printed = String::from_utf8_lossy(&again.stdout);
    assert!(printed.contains("first"), "{printed}{said}");
    let other = run(&["--", "chore", "--say", "second", "--exit-code", "42"]);
    let said = String::from_utf8_lossy(&other.stderr);
    assert_eq!(other.status.code(), Some(42), "{said}");
    assert!(
        String::from_utf8_lossy(&other.stdout).contains("second"),
        "{said}"
    );
    let name = cluster.ok(&["job", "run", "load", "--no-wait", "-e", "MODE=slow"]);
    let name = name.trim();
    assert!(name.starts_with("default/load-run-"), "{name}");
    cluster.ok(&["wait", name, "--for", "completed"]);
    let refused = cluster.windlass(&["job", "run", "nope"]);
    assert_eq!(refused.status.code(), Some(5));
}

/// A machine that loses its power: its agent and its containers end together, and nobody is told.
#[test]
fn a_job_whose_node_dies_completes_each_index_once_on_the_others() {
    let mut cluster = Cluster::start(3);
    let fields = "completions: 4\nparallelism: 3\nbackoffLimit: 0";
    cluster.apply_no_wait(&chore("Job", "load", "--say, done, --take, 10s", fields));
    let id = cluster.id();
    let on_n1 = |cluster: &Cluster| {
        let instances = cluster.instances("load").into_iter();
        let mut running =
            instances.filter(|i| i["node"] == "n1" && i["status"]["phase"] == "Running");
        running
            .next()
            .map(|i| i["name"].as_str().unwrap().to_owned())
    };
    cluster.eventually("an index runs on n1", |c| on_n1(c).is_some());
    // Before its containers: it would report what became of them.
    cluster.kill_agent(0);
    let died = on_n1(&cluster).expect("it takes its time");
    let of_n1 = engine::containers(&id).into_iter().filter(|container| {
        let labels = container.labels.clone().unwrap_or_default();
        labels.values().any(|value| value == "n1")
    });
    let killed: Vec<String> = of_n1.filter_map(|container| container.id).collect();
    assert!(!killed.is_empty(), "its containers are known");
    killed
        .iter()
        .for_each(|container| engine::remove(container));
    cluster.eventually("the job has completed", |cluster| {
        cluster.workload("load")["status"]["job"]["state"] == "Completed"
    });
    let job = cluster.workload("load")["status"]["job"].clone();
    assert_eq!((&job["succeeded"], &job["failed"]), (&4.into(), &0.into()));
    let ended = cluster.list("instances").into_iter();
    let mut slots: Vec<u64> = ended
        .filter(|i| i["status"]["phase"] == "Succeeded")
        .inspect(|i| assert_ne!(i["name"], died.as_str(), "it did not end well: {i}"))
        .map(|i| i["slot"].as_u64().unwrap())
        .collect();
    slots.sort_unstable();
    assert_eq!(slots, [0, 1, 2, 3], "each index once");
}

#[test]
fn a_job_that_has_ended_is_not_run_again_when_agent_and_server_come_back() {
    let mut cluster = Cluster::start(1);
    cluster.apply(&chore("Job", "good", "--say, once", ""));
    fails(
        &cluster,
        &chore("Job", "bad", "--exit-code, '3'", "backoffLimit: 0"),
    );
    let id = cluster.id();
    let runs = || {
        let ids = engine::containers(&id).into_iter().filter_map(|c| c.id);
        let mut runs: Vec<(String, String)> = ids.map(|id| (engine::started_at(&id), id)).collect();
        runs.sort();
        runs
    };
    let before = runs();
    assert_eq!(before.len(), 2, "each was run once");
    cluster.stop_agent(0);
    cluster.start_agent(0);
    cluster.stop_server();
    cluster.start_server();
    cluster.kill_agent(0);
    cluster.kill_server();
    cluster.start_server();
    cluster.start_agent(0);
    // What comes after them is done, so that whatever is to be done about them has been, too.
    cluster.apply(&chore("Job", "later", "--say, now", ""));
    let later: Vec<_> = runs()
        .into_iter()
        .filter(|run| !before.contains(run))
        .collect();
    assert_eq!(later.len(), 1, "only the new one is run");
    let all = runs();
    // Longer than a relist.
    cluster.always("nothing is run again", Duration::from_secs(11), |_| {
        runs() == all
    });
    for (name, state) in [("good", "Completed"), ("bad", "Failed")] {
        assert_eq!(cluster.workload(name)["status"]["job"]["state"], state);
    }
}

#[test]
fn a_daemon_has_one_instance_on_each_node() {
    let cluster = Cluster::start(3);
    cluster.apply(&chore("Daemon", "watch", "--every, 30s", ""));
    let nodes = |cluster: &Cluster| {
        let instances = cluster.instances("watch");
        let mut nodes: Vec<String> = instances
            .iter()
            .map(|i| i["node"].as_str().unwrap_or_default().to_owned())
            .collect();
        nodes.sort();
        nodes
    };
    assert_eq!(nodes(&cluster), ["n1", "n2", "n3"]);
    let refused = cluster.windlass(&["scale", "watch", "2"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("only a Service can be scaled"), "{said}");
    cluster.apply(&chore("Daemon", "watch", "--every, 31s", ""));
    let instances = cluster.instances("watch");
    assert!(instances.iter().all(|i| i["revision"] == 2));
    assert_eq!(nodes(&cluster), ["n1", "n2", "n3"]);
}

#[test]
fn a_schedule_makes_a_job_when_the_minute_begins() {
    // A minute until it is due, and ample time for the container of a busy machine.
    const WITHIN: Duration = Duration::from_secs(150);
    let cluster = Cluster::start(1);
    cluster.apply(&chore(
        "CronJob",
        "tick",
        "--say, tock",
        "schedule: '* * * * *'",
    ));
    let table = cluster.ok(&["get", "cronjobs"]);
    assert!(table.contains("next in"), "{table}");
    let began = Instant::now();
    let made = loop {
        let jobs = cluster.list("workloads");
        let made = jobs.into_iter().find(|w| w["meta"]["owner"] == "tick");
        if let Some(job) = made.filter(|job| job["status"]["job"]["state"] == "Completed") {
            break job;
        }
        assert!(began.elapsed() < WITHIN, "no job has completed");
        std::thread::sleep(Duration::from_millis(200));
    };
    let name = made["name"].as_str().unwrap();
    assert!(name.starts_with("tick-"), "{name}");
    assert!(cluster.ok(&["logs", name]).contains("tock"));
    assert!(cluster.workload("tick")["status"]["schedule"]["last"].is_string());
    // What it made goes with it.
    cluster.ok(&["delete", "tick"]);
    cluster.eventually("its jobs are gone", |c| c.list("workloads").is_empty());
}
