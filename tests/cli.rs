//! What a person sees of the command line.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::harness::{Cluster, PATIENCE, WINDLASS, demo, engine, free_address, http, signal};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(output: &str) -> Value {
    serde_json::from_str(output).unwrap_or_else(|e| panic!("{e}: {output}"))
}

#[test]
fn a_wrong_address_is_named_with_what_to_do() {
    let address = free_address();
    let output = Command::new(WINDLASS)
        .args(["get", "workloads", "--server", &format!("http://{address}")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    let error = text(&output.stderr);
    assert!(error.contains(&address.to_string()), "{error}");
    assert!(
        error.contains("windlass dev") || error.contains("windlass server"),
        "{error}"
    );
    assert!(output.stdout.is_empty());
}

#[test]
fn every_output_form_of_get() {
    let cluster = Cluster::start(1);
    cluster.apply(&demo("web", "replicas: 2"));
    let table = cluster.ok(&["get", "workloads"]);
    assert!(table.starts_with("NAME"), "{table}");
    assert!(table.contains("web") && table.contains("2/2"), "{table}");
    assert!(!table.contains('\u{1b}'), "colours only on a terminal");
    let wide = cluster.ok(&["get", "wl", "-o", "wide"]);
    assert!(wide.contains(engine::IMAGE), "{wide}");
    let list = json(&cluster.ok(&["get", "instances", "-o", "json"]));
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2));
    let names = cluster.ok(&["get", "instances", "-o", "name"]);
    assert_eq!(names.lines().count(), 2, "{names}");
    let yaml = cluster.ok(&["get", "workload", "web", "-o", "yaml"]);
    assert!(yaml.contains("replicas: 2"), "{yaml}");
    // What is shown can be applied again, and is no change.
    let path = cluster.write("shown.yaml", &yaml);
    let again = json(&cluster.ok(&["apply", "-f", path.to_str().unwrap(), "-o", "json"]));
    assert_eq!(again["results"][0]["outcome"], "unchanged", "{again}");
    let nodes = cluster.ok(&["get", "nodes"]);
    assert!(nodes.contains("n1") && nodes.contains("Ready"), "{nodes}");
    let events = cluster.ok(&["events"]);
    assert!(events.contains("Placed"), "{events}");
}

/// What `get` writes of workloads of any kind can be applied again, and is no change.
#[test]
fn what_get_writes_of_every_kind_is_what_apply_reads() {
    let cluster = Cluster::start(0);
    let kinds = [
        (
            "Service",
            "web",
            "replicas: 2\nupdate: { canary: 1, maxSurge: 1 }",
        ),
        ("Daemon", "each", "env: { A: \"1\", B: \"yes\" }"),
        ("Job", "once", "completions: 3\nactiveDeadline: 90s"),
        (
            "CronJob",
            "nightly",
            "schedule: \"0 3 * * 1\"\ntimeZone: Europe/Berlin",
        ),
    ];
    for (kind, name, fields) in kinds {
        let manifest = demo(name, fields).replace("kind: Service", &format!("kind: {kind}"));
        cluster.apply_no_wait(&manifest);
    }
    for format in ["json", "yaml"] {
        let shown = cluster.ok(&["get", "workloads", "-o", format]);
        let mut apply = Command::new(WINDLASS)
            .args(["apply", "-f", "-", "--no-wait", "-o", "json"])
            .args(["--server", &cluster.url()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = apply.stdin.take().unwrap();
        stdin.write_all(shown.as_bytes()).unwrap();
        drop(stdin);
        let output = apply.wait_with_output().unwrap();
        assert!(output.status.success(), "{format}: {shown}");
        let results = json(&text(&output.stdout));
        let outcomes: Vec<_> = results["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|result| result["outcome"].as_str().unwrap())
            .collect();
        assert_eq!(outcomes, ["unchanged"; 4], "{format}: {results}");
    }
}

#[test]
fn a_second_server_on_the_same_state_does_not_say_that_it_listens() {
    let cluster = Cluster::start(0);
    let output = Command::new(WINDLASS)
        .args(["server", "--listen", &free_address().to_string()])
        .arg("--data-dir")
        .arg(cluster.server_dir())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(!said.contains("listening"), "{said}");
    assert!(
        said.contains("in use") || said.contains("another server"),
        "{said}"
    );
}

/// Labels are given to a node when it joins. Later ones were ignored in silence.
#[test]
fn an_agent_whose_labels_are_not_heeded_says_so() {
    let cluster = Cluster::start(0);
    let dir = tempfile::TempDir::new().unwrap();
    let says = |label: &str, what: &str| {
        let mut agent = Command::new(WINDLASS)
            .args(["agent", "--node", "n1", "--server", &cluster.url()])
            .args(["--label", label, "--data-dir"])
            .arg(dir.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(agent.stderr.take().unwrap()).lines();
        let line = lines.find(|line| line.as_ref().unwrap().contains(what));
        signal(agent.id(), rustix::process::Signal::TERM);
        // It must not wait for somebody to read what it says last.
        lines.for_each(drop);
        agent.wait().unwrap();
        line.unwrap_or_else(|| panic!("it did not say {what}"))
            .unwrap()
    };
    says("zone=eu", "connected to the server");
    let warning = says("zone=us", "WARN");
    for part in ["--label zone=us", "windlass node label n1"] {
        assert!(warning.contains(part), "{warning}");
    }
    let events = cluster.ok(&["events", "-A"]);
    assert!(events.contains("windlass node label n1"), "{events}");
}

#[test]
fn labels_and_namespaces_select() {
    let cluster = Cluster::start(0);
    let labelled = |name: &str, app: &str| {
        demo(name, "replicas: 0").replace("spec:", &format!("labels: {{ app: {app} }}\nspec:"))
    };
    cluster.apply_no_wait(&labelled("one", "a"));
    cluster.apply_no_wait(&labelled("two", "b"));
    let path = cluster.write("other.yaml", &labelled("three", "a"));
    cluster.ok(&[
        "apply",
        "--no-wait",
        "-n",
        "other",
        "-f",
        path.to_str().unwrap(),
    ]);
    let names = |args: &[&str]| {
        cluster
            .ok(args)
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(&["get", "workloads", "-l", "app=a", "-o", "name"]),
        ["workload/one"]
    );
    assert_eq!(
        names(&["get", "workloads", "-n", "other", "-o", "name"]),
        ["workload/three"]
    );
    assert_eq!(names(&["get", "workloads", "-A", "-o", "name"]).len(), 3);
}

#[test]
fn exit_codes_tell_failures_apart() {
    let cluster = Cluster::start(0);
    let code = |args: &[&str]| cluster.windlass(args).status.code();
    assert_eq!(code(&["get", "workloads"]), Some(0));
    assert_eq!(code(&["get", "workload", "nope"]), Some(5));
    assert_eq!(code(&["scale", "nope", "3"]), Some(5));
    assert_eq!(code(&["get", "nonsense"]), Some(2));
    assert_eq!(code(&["scale", "nope", "many"]), Some(2));
    let path = cluster.write("web.yaml", &demo("web", ""));
    let path = path.to_str().unwrap();
    // No node will ever join.
    let output = cluster.windlass(&["apply", "-f", path, "--timeout", "1s"]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    let said = text(&output.stderr) + &text(&output.stdout);
    assert!(said.contains("no node has joined"), "{said}");
}

#[test]
fn mistakes_in_manifests_are_shown_all_at_once_where_they_are() {
    let cluster = Cluster::start(0);
    let bad = "kind: Service\nname: Web\nspec:\n  imagee: nginx\n  replicas: many\n";
    let path = cluster.write("bad.yaml", bad);
    let output = cluster.windlass(&["apply", "-f", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    for part in [
        "bad.yaml:2:7",
        "bad.yaml:4:3",
        "did you mean `image`",
        "bad.yaml:5:13",
    ] {
        assert!(error.contains(part), "{part} is missing:\n{error}");
    }
    assert!(cluster.list("workloads").is_empty());
}

#[test]
fn output_that_nobody_reads_any_more_ends_quietly() {
    let cluster = Cluster::start(0);
    let script = format!("{WINDLASS} schema | head -c 10");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(output.status.success());
    assert_eq!(text(&output.stderr), "");
    drop(cluster);
}

/// A development cluster in the foreground.
struct Dev {
    child: std::process::Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Dev {
    fn start(args: &[&str]) -> Self {
        engine::ensure_image();
        let mut child = Command::new(WINDLASS)
            .arg("dev")
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = std::sync::mpsc::sync_channel(1_000);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// Waits for a line that contains `part`.
    fn line(&self, part: &str) -> String {
        let began = Instant::now();
        let mut seen = String::new();
        while began.elapsed() < PATIENCE {
            if let Ok(line) = self.lines.recv_timeout(Duration::from_millis(100)) {
                if line.contains(part) {
                    return line;
                }
                seen.push_str(&line);
                seen.push('\n');
            }
        }
        panic!("no line with {part:?} in:\n{seen}");
    }

    /// Ctrl-C, and waits for the end.
    fn interrupt(mut self) -> ExitStatus {
        signal(self.child.id(), rustix::process::Signal::INT);
        let began = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < PATIENCE, "it does not end on Ctrl-C");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.child.wait().unwrap()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // After a failure it may still run. Its containers are then removed by what it does on
        // this signal.
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            signal(self.child.id(), rustix::process::Signal::INT);
            let _ = self.child.wait();
        }
    }
}

#[test]
fn the_first_session_of_the_readme() {
    let server = free_address();
    let page = free_address();
    let dir = tempfile::TempDir::new().unwrap();
    let manifest = dir.path().join("hello.yaml");
    let fields = format!("ports: [{{ container: 8080, host: {} }}]", page.port());
    std::fs::write(&manifest, demo("hello", &fields)).unwrap();
    let dev = Dev::start(&["--listen", &server.to_string(), manifest.to_str().unwrap()]);
    let url = dev.line("http://");
    assert!(url.contains(&page.port().to_string()), "{url}");
    // The engine takes connections for a container a moment before the program in it does.
    let began = Instant::now();
    while !http::get(page, "/").is_ok_and(|answer| answer.status == 200) {
        assert!(began.elapsed() < PATIENCE, "the page is not there");
        std::thread::sleep(Duration::from_millis(20));
    }
    let answer = http::get(server, "/v1/server").unwrap().json();
    let id = answer["cluster"].as_str().unwrap();
    assert_eq!(engine::running(id).len(), 1);
    let status = dev.interrupt();
    assert!(status.success(), "{status}");
    assert!(
        engine::containers(id).is_empty(),
        "Ctrl-C removes what it started"
    );
    assert!(engine::networks(id).is_empty());
}

#[test]
fn a_development_cluster_takes_the_runs_of_a_job_with_it() {
    let server = free_address();
    let dir = tempfile::TempDir::new().unwrap();
    let manifest = dir.path().join("load.yaml");
    let job = demo("load", "").replace("kind: Service", "kind: Job");
    let job = job.replace("[demo]", "[chore, --say, done]");
    std::fs::write(&manifest, job).unwrap();
    let dev = Dev::start(&["--listen", &server.to_string(), manifest.to_str().unwrap()]);
    dev.line("Ctrl-C");
    let output = Command::new(WINDLASS)
        .args([
            "job",
            "run",
            "load",
            "--server",
            &format!("http://{server}"),
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "index 0\ndone\n");
    let answer = http::get(server, "/v1/server").unwrap().json();
    let id = answer["cluster"].as_str().unwrap();
    assert_eq!(engine::containers(id).len(), 2);
    let status = dev.interrupt();
    assert!(status.success(), "{status}");
    assert!(engine::containers(id).is_empty());
}

#[test]
fn a_development_cluster_of_three_nodes_that_is_kept() {
    let server = free_address();
    let dir = tempfile::TempDir::new().unwrap();
    let data = dir.path().join("data");
    let manifest = dir.path().join("web.yaml");
    std::fs::write(&manifest, demo("web", "replicas: 6")).unwrap();
    let args = [
        "--nodes",
        "3",
        "--keep",
        "--listen",
        &server.to_string(),
        "--data-dir",
    ];
    let args = [&args[..], &[data.to_str().unwrap()]].concat();
    let dev = Dev::start(&[&args[..], &[manifest.to_str().unwrap()]].concat());
    dev.line("ready");
    let id = http::get(server, "/v1/server").unwrap().json()["cluster"]
        .as_str()
        .unwrap()
        .to_owned();
    let began = Instant::now();
    while engine::running(&id).len() < 6 && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut started: Vec<_> = engine::running(&id)
        .iter()
        .map(|c| engine::started_at(c))
        .collect();
    assert_eq!(started.len(), 6);
    assert!(dev.interrupt().success());
    assert_eq!(engine::running(&id).len(), 6, "--keep keeps them");

    // The same directory again takes them over as they are.
    let dev = Dev::start(&args);
    let settled = || {
        let answer = http::get(server, "/v1/workloads").ok()?.json();
        (answer["items"][0]["status"]["settled"] == true).then_some(())
    };
    let began = Instant::now();
    while settled().is_none() && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut after: Vec<_> = engine::running(&id)
        .iter()
        .map(|c| engine::started_at(c))
        .collect();
    started.sort();
    after.sort();
    assert_eq!(after, started);
    dev.interrupt();
    engine::remove_all_of(&id);
}
