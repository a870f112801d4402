//! The fake is held to the truth: it and a real engine are asked for the same things in the same
//! order, and must answer the same, as far as agents read it.

use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    engine::fake::FakeEngine,
    harness::{
        PATIENCE,
        engine::{self, IMAGE},
        http::{self, Answer},
    },
};

/// What agents look for in refusals.
const WORDS: [&str; 5] = [
    "no such container",
    "no such image",
    "is already in use by container",
    "not found",
    "has active endpoints",
];
/// The events that agents listen to, of those that happen here.
const EVENTS: &str = r#""create","start","die","destroy""#;

/// An engine that is asked, and what it said.
struct Play {
    socket: PathBuf,
    cluster: String,
    answers: Vec<(String, Value)>,
}

impl Play {
    fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        let stream = UnixStream::connect(&self.socket).expect("an engine");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        let path = format!("/{path}");
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        http::exchange(stream, "docker", method, &path, &[], body.as_bytes()).expect("an answer")
    }

    /// Asks, and notes the status, what was read of the answer, and which words are in it.
    fn step(&mut self, what: &str, (method, path): (&str, &str), body: &Value, read: Reader) {
        let answer = self.ask(method, path, body);
        let text = answer.text().to_lowercase();
        let words: Vec<&str> = WORDS
            .into_iter()
            .filter(|word| text.contains(word))
            .collect();
        let json = answer.json();
        let words = if answer.status < 400 { vec![] } else { words };
        let noted = json!({ "status": answer.status, "read": read(&json), "words": words });
        self.answers.push((what.to_owned(), noted));
    }

    fn filters(&self) -> String {
        encoded(&format!(
            r#"{{"label":["windlass.cluster={}"]}}"#,
            self.cluster
        ))
    }
}

/// Reads what agents read of an answer.
type Reader = fn(&Value) -> Value;

/// Everything but what a path of a request may hold.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// What sort of value it is, where two engines cannot have the same.
fn kind(value: &Value) -> Value {
    match value {
        Value::String(text) if text.is_empty() => json!("empty"),
        Value::String(text) if text.starts_with("0001-01-01") => json!("never"),
        Value::String(text) if text.parse::<Timestamp>().is_ok() => json!("a time"),
        Value::String(_) => json!("text"),
        Value::Number(_) => json!("a number"),
        other => other.clone(),
    }
}

fn nothing(_: &Value) -> Value {
    Value::Null
}

/// The containers of a list.
fn listed(list: &Value) -> Value {
    let read = |c: &Value| {
        let networks = c["NetworkSettings"]["Networks"].as_object();
        let addresses = networks.into_iter().flatten();
        let addresses = addresses.map(|(name, network)| json!([name, kind(&network["IPAddress"])]));
        json!({
            "id": kind(&c["Id"]), "names": c["Names"], "state": c["State"], "image": c["Image"],
            "image id": kind(&c["ImageID"]), "ours": c["Labels"]["windlass.node"],
            "networks": addresses.collect::<Vec<_>>(),
        })
    };
    list.as_array().into_iter().flatten().map(read).collect()
}

/// A container alone.
fn told(c: &Value) -> Value {
    let state = &c["State"];
    json!({
        "id": kind(&c["Id"]), "status": state["Status"], "oom": state["OOMKilled"],
        "code": kind(&state["ExitCode"]), "started": kind(&state["StartedAt"]),
        "finished": kind(&state["FinishedAt"]), "ours": c["Config"]["Labels"]["windlass.node"],
    })
}

/// The networks of a list that are not the engine's own.
fn networks(list: &Value) -> Value {
    let read = |n: &Value| json!({ "name": n["Name"], "id": kind(&n["Id"]), "ours": n["Labels"]["windlass.node"] });
    list.as_array().into_iter().flatten().map(read).collect()
}

/// Asks an engine for what an agent asks for in the life of a container.
fn play(socket: &Path, cluster: &str) -> Vec<(String, Value)> {
    let mut play = Play {
        socket: socket.to_owned(),
        cluster: cluster.to_owned(),
        answers: Vec::new(),
    };
    let since = Timestamp::now();
    ask_who_it_is(&mut play);
    let name = format!("windlass.{}.truth", &cluster[..8]);
    let labels = json!({ "windlass.cluster": cluster, "windlass.node": "n1" });
    make(&mut play, &name, &labels);
    run(&mut play, &name);
    end(&mut play, &name);
    hear(&mut play, since);
    play.answers
}

fn ask_who_it_is(play: &mut Play) {
    let none = Value::Null;
    play.step("version", ("GET", "version"), &none, |v| {
        kind(&v["ApiVersion"])
    });
    play.step("info", ("GET", "info"), &none, |info| {
        let keys = [
            "ID",
            "ServerVersion",
            "OSType",
            "Architecture",
            "NCPU",
            "MemTotal",
        ];
        keys.iter()
            .map(|key| json!([key, kind(&info[key])]))
            .collect()
    });
    play.step("too new", ("GET", "v1.999/containers/json"), &none, nothing);
    play.step("too old", ("GET", "v1.0/containers/json"), &none, nothing);
    play.step("images", ("GET", "images/json"), &none, |images| {
        let mut tags = images
            .as_array()
            .into_iter()
            .flatten()
            .map(|i| &i["RepoTags"]);
        json!(tags.any(|tags| *tags == json!([IMAGE])))
    });
    let image = format!("images/{IMAGE}/json");
    play.step("image", ("GET", &image), &none, |image| {
        json!([kind(&image["Id"]), image["RepoTags"]])
    });
    play.step(
        "no image",
        ("GET", "images/windlass-none:1/json"),
        &none,
        nothing,
    );
}

fn make(play: &mut Play, name: &str, labels: &Value) {
    let none = Value::Null;
    let of_name = format!(
        "networks?filters={}",
        encoded(&format!(r#"{{"name":["{name}"]}}"#))
    );
    play.step("no network", ("GET", &of_name), &none, networks);
    let network = json!({ "Name": name, "Driver": "bridge", "Labels": labels });
    let read: Reader = |made| kind(&made["Id"]);
    play.step(
        "make a network",
        ("POST", "networks/create"),
        &network,
        read,
    );
    play.step("a network", ("GET", &of_name), &none, networks);
    let of_label = format!("networks?filters={}", play.filters());
    play.step("networks of ours", ("GET", &of_label), &none, networks);
    let create = format!("containers/create?name={name}");
    let container = json!({
        "Image": IMAGE, "Cmd": ["demo"], "Labels": labels, "HostConfig": { "NetworkMode": name },
    });
    let mut missing = container.clone();
    missing["Image"] = json!("windlass-none:1");
    play.step("create without image", ("POST", &create), &missing, nothing);
    play.step("create", ("POST", &create), &container, |made| {
        kind(&made["Id"])
    });
    play.step("create again", ("POST", &create), &container, nothing);
}

fn run(play: &mut Play, name: &str) {
    let none = Value::Null;
    let list = format!("containers/json?all=true&filters={}", play.filters());
    let running = format!("containers/json?filters={}", play.filters());
    let inspect = format!("containers/{name}/json");
    let start = format!("containers/{name}/start");
    play.step("list", ("GET", &list), &none, listed);
    play.step("list of what runs", ("GET", &running), &none, listed);
    play.step("inspect", ("GET", &inspect), &none, told);
    play.step("start", ("POST", &start), &none, nothing);
    play.step("start again", ("POST", &start), &none, nothing);
    play.step("list", ("GET", &list), &none, listed);
    play.step("list of what runs", ("GET", &running), &none, listed);
    play.step("inspect", ("GET", &inspect), &none, told);
    let used = encoded(&format!(r#"{{"network":["{name}"]}}"#));
    let used = format!("containers/json?all=true&filters={used}");
    play.step("list of the network", ("GET", &used), &none, listed);
    let network = format!("networks/{name}");
    play.step("remove the network", ("DELETE", &network), &none, nothing);
    let container = format!("containers/{name}?v=true");
    play.step("remove what runs", ("DELETE", &container), &none, nothing);
}

fn end(play: &mut Play, name: &str) {
    let none = Value::Null;
    let list = format!("containers/json?all=true&filters={}", play.filters());
    let inspect = format!("containers/{name}/json");
    let stop = format!("containers/{name}/stop?t=5");
    let container = format!("containers/{name}?v=true");
    let network = format!("networks/{name}");
    play.step("stop", ("POST", &stop), &none, nothing);
    play.step("stop again", ("POST", &stop), &none, nothing);
    play.step("list", ("GET", &list), &none, listed);
    play.step("inspect", ("GET", &inspect), &none, told);
    let logs = play.ask(
        "GET",
        &format!("containers/{name}/logs?stdout=true&tail=1"),
        &none,
    );
    let frame = logs
        .body
        .get(..4)
        .map(|head| matches!(head, [1 | 2, 0, 0, 0]));
    play.answers
        .push(("logs".to_owned(), json!([logs.status, frame])));
    play.step("remove", ("DELETE", &container), &none, nothing);
    play.step("remove again", ("DELETE", &container), &none, nothing);
    play.step("inspect", ("GET", &inspect), &none, nothing);
    let start = format!("containers/{name}/start");
    play.step("start", ("POST", &start), &none, nothing);
    play.step("stop", ("POST", &stop), &none, nothing);
    play.step("list", ("GET", &list), &none, listed);
    play.step("remove the network", ("DELETE", &network), &none, nothing);
    play.step(
        "remove the network again",
        ("DELETE", &network),
        &none,
        nothing,
    );
    play.step(
        "volumes",
        (
            "GET",
            "volumes?filters=%7B%22label%22%3A%5B%22windlass.none%22%5D%7D",
        ),
        &none,
        |v| v["Volumes"].clone(),
    );
}

/// The events until now, in their order.
fn hear(play: &mut Play, since: Timestamp) {
    let time = |at: Timestamp| format!("{}.{:09}", at.as_second(), at.subsec_nanosecond());
    let filters = encoded(&format!(
        r#"{{"type":["container"],"event":[{EVENTS}],"label":["windlass.cluster={}"]}}"#,
        play.cluster
    ));
    let (since, until) = (time(since), time(Timestamp::now()));
    let path = format!("events?since={since}&until={until}&filters={filters}");
    let answer = play.ask("GET", &path, &Value::Null);
    for line in answer.text().lines() {
        let event: Value = serde_json::from_str(line).expect("an event");
        let read = json!({
            "type": event["Type"], "action": event["Action"], "id": kind(&event["Actor"]["ID"]),
            "nanos": kind(&event["timeNano"]),
        });
        play.answers.push(("event".to_owned(), read));
    }
}

/// Removes what a failure left.
struct Sweep(String);

impl Drop for Sweep {
    fn drop(&mut self) {
        engine::remove_all_of(&self.0);
    }
}

#[test]
fn the_pretended_engine_answers_as_a_real_one_does() {
    engine::ensure_image();
    let cluster = uuid::Uuid::new_v4().to_string();
    let _sweep = Sweep(cluster.clone());
    let real = play(Path::new("/var/run/docker.sock"), &cluster);
    let fake = FakeEngine::start();
    let pretended = play(&fake.socket(), &cluster);
    for (real, pretended) in real.iter().zip(&pretended) {
        assert_eq!(pretended, real, "not as a real engine answers");
    }
    assert_eq!(pretended.len(), real.len(), "{pretended:#?}\n{real:#?}");
    let events = real.iter().filter(|(what, _)| what == "event");
    assert_eq!(events.count(), 4, "{real:#?}");
}
