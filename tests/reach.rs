//! Reaching into instances: commands with pipes and with a real terminal, ports, files, and what
//! is used.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    harness::{self, Cluster, PATIENCE, demo, engine, http},
    terminal::Terminal,
};

mod broken;
mod files;

/// The program in the image, which has no other.
const PROGRAM: &str = "/windlass";

/// A cluster on whose one node the demo runs as `web`.
fn cluster() -> Cluster {
    let cluster = Cluster::start(1);
    cluster.apply(&demo("web", "replicas: 1"));
    cluster
}

fn windlass(cluster: &Cluster, args: &[&str]) -> Command {
    let mut command = harness::windlass();
    command.args(args).env("WINDLASS_SERVER", cluster.url());
    command
}

/// Runs a command in `web`, with this for standard input.
fn exec(cluster: &Cluster, flags: &[&str], command: &[&str], input: &[u8]) -> Output {
    let args = [&["exec"], flags, &["web", "--"], command].concat();
    let mut child = windlass(cluster, &args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // Beside it: more than a pipe holds, while the output has to be read.
    let feeding = thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap();
    output
}

#[test]
fn a_command_has_its_input_output_and_exit_code() {
    let cluster = cluster();
    for code in ["0", "3", "255"] {
        let chore = [PROGRAM, "chore", "--exit-code", code];
        let output = exec(&cluster, &[], &chore, b"");
        assert_eq!(output.status.code(), code.parse().ok(), "{output:?}");
    }
    let much: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let echoed = exec(&cluster, &["-i"], &[PROGRAM, "chore", "--echo"], &much);
    assert!(echoed.status.success(), "{echoed:?}");
    assert!(echoed.stdout == much, "{} bytes", echoed.stdout.len());
    // Without -i there is an end of the input at once.
    let silent = exec(
        &cluster,
        &[],
        &[PROGRAM, "chore", "--echo"],
        b"not passed on",
    );
    assert_eq!(
        (silent.status.code(), &silent.stdout[..]),
        (Some(0), &b""[..])
    );

    let error = exec(
        &cluster,
        &[],
        &[PROGRAM, "chore", "--read", "/nowhere"],
        b"",
    );
    assert_eq!(error.status.code(), Some(1));
    assert!(error.stdout.is_empty(), "errors are apart: {error:?}");
    let text = String::from_utf8(error.stderr).unwrap();
    assert!(text.contains("using instance web-0-"), "{text}");
    assert!(text.contains("/nowhere"), "{text}");

    for (command, code) in [("/nope", 127), ("/proc", 126)] {
        let output = exec(&cluster, &[], &[command], b"");
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains("cannot be run"), "{text}");
    }
    let plain = exec(&cluster, &["-t"], &[PROGRAM], b"");
    assert_eq!(plain.status.code(), Some(125));
    assert!(
        String::from_utf8(plain.stderr)
            .unwrap()
            .contains("-t needs a terminal")
    );
    let unknown = cluster.windlass(&["exec", "nothing", "--", "ls"]);
    assert_eq!(unknown.status.code(), Some(125));
}

#[test]
fn a_terminal_has_its_size_and_passes_on_keys() {
    let cluster = cluster();
    let (terminal, slave) = Terminal::open(31, 97);
    let before = rustix::termios::tcgetattr(&slave).unwrap();
    let chore = [PROGRAM, "chore", "--size", "--every", "100ms"];
    let args = [&["exec", "-it", "web", "--"], &chore[..]].concat();
    let mut child = windlass(&cluster, &args)
        .stdin(slave.try_clone().unwrap())
        .stdout(slave.try_clone().unwrap())
        .stderr(slave.try_clone().unwrap())
        .spawn()
        .unwrap();
    terminal.until("31 x 97");
    terminal.resize(50, 132);
    // The terminal is not the one that the program was started from, so nobody signals it.
    crate::harness::signal(child.id(), rustix::process::Signal::WINCH);
    terminal.until("50 x 132");
    // Ctrl-C is a key, which the command's terminal makes a signal of.
    terminal.press(b"\x03");
    assert_eq!(ended(&mut child), Some(130));
    let after = rustix::termios::tcgetattr(&slave).unwrap();
    let modes = |t: &rustix::termios::Termios| (t.local_modes, t.input_modes, t.output_modes);
    assert_eq!(modes(&after), modes(&before), "it is as it was");
}

/// A `port-forward` of `web`, which is killed when this is dropped.
struct Forwarding {
    child: Child,
    /// Where it listens.
    addresses: Vec<SocketAddr>,
}

impl Forwarding {
    fn start(cluster: &Cluster, ports: &[&str]) -> Self {
        let mut child = windlass(cluster, &[&["port-forward", "web"], ports].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = |line: String| line.split(' ').nth(1).unwrap().parse().unwrap();
        let lines = lines.take(ports.len());
        let addresses = lines.map(|line| address(line.unwrap())).collect();
        Self { child, addresses }
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        // One that has ended needs no killing.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// Regression: Docker held Ctrl-P back until the next key, and Ctrl-P Ctrl-Q left the command, which
/// was then waited for without an end.
#[test]
fn a_terminal_holds_no_key_back() {
    let cluster = cluster();
    let (terminal, slave) = Terminal::open(24, 80);
    let args = [
        "exec", "-it", "web", "--", PROGRAM, "chore", "--say", "begun", "--echo",
    ];
    let mut child = windlass(&cluster, &args)
        .stdin(slave.try_clone().unwrap())
        .stdout(slave.try_clone().unwrap())
        .stderr(slave)
        .spawn()
        .unwrap();
    terminal.until("begun");
    // The terminal of the command shows it as soon as it comes.
    terminal.press(b"\x10");
    terminal.until("^P");
    terminal.press(b"\x11\x10\x11still there\r");
    terminal.until("still there");
    // The end of the input.
    terminal.press(b"\x04");
    assert_eq!(ended(&mut child), Some(0));
}

#[test]
fn signals_reach_a_command_without_a_terminal_and_a_second_one_leaves_it() {
    use rustix::process::Signal;
    let cluster = cluster();
    let start = |chore: &[&str]| {
        let args = [
            &["exec", "web", "--", PROGRAM, "chore", "--say", "begun"],
            chore,
        ]
        .concat();
        let mut child = windlass(&cluster, &args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "begun");
        (child, lines)
    };
    // Ctrl-C ends it, as it would here: 128 and the number of the signal.
    let (mut child, _lines) = start(&["--take", "1h"]);
    crate::harness::signal(child.id(), Signal::INT);
    assert_eq!(ended(&mut child), Some(130));
    // It has an answer to SIGTERM, and a code of its own.
    let (mut child, mut lines) = start(&["--take", "1h"]);
    crate::harness::signal(child.id(), Signal::TERM);
    assert_eq!(lines.next().unwrap().unwrap(), "stopping on SIGTERM");
    assert_eq!(ended(&mut child), Some(0));
    // One that does not mind is left with the second one.
    let container = engine::running(&cluster.id()).remove(0);
    let before = engine::processes(&container);
    let (mut child, _lines) = start(&["--ignore-interrupt", "--take", "1h"]);
    let began = Instant::now();
    // Two that come at once are one.
    while child.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < PATIENCE, "it is not left");
        crate::harness::signal(child.id(), Signal::INT);
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(ended(&mut child), Some(130));
    cluster.eventually("it was hung up on", |_| {
        engine::processes(&container) == before
    });
}

/// The exit code of a process that ends by itself.
fn ended(child: &mut Child) -> Option<i32> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        assert!(began.elapsed() < PATIENCE, "it does not end");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_page_is_reached_through_a_forwarded_port() {
    let cluster = cluster();
    let mut forwarding = Forwarding::start(&cluster, &["0:8080", "0:9"]);
    let (web, closed) = (forwarding.addresses[0], forwarding.addresses[1]);
    for _ in 0..3 {
        let page = http::get(web, "/healthz").unwrap();
        assert_eq!(page.status, 200, "{}", page.text());
    }
    // Nobody listens there: the connection ends, and the others go on.
    let mut stream = TcpStream::connect(closed).unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap_or(0), 0);
    assert_eq!(http::get(web, "/healthz").unwrap().status, 200);
    let taken = cluster.windlass(&["port-forward", "web", &format!("{}:8080", web.port())]);
    let text = String::from_utf8(taken.stderr).unwrap();
    assert!(text.contains("cannot listen on port"), "{text}");
    crate::harness::signal(forwarding.child.id(), rustix::process::Signal::INT);
    assert!(forwarding.child.wait().unwrap().success());
}

#[test]
fn what_is_used_is_shown() {
    let cluster = cluster();
    let stats: Value = serde_json::from_str(&cluster.ok(&["top", "-o", "json"])).unwrap();
    let usage = &stats["nodes"][0]["usage"];
    assert_eq!(stats["nodes"][0]["node"], "n1", "{stats}");
    let instance = &usage["instances"][0];
    assert!(
        instance["name"].as_str().unwrap().starts_with("web-0-"),
        "{stats}"
    );
    assert_ne!(instance["usage"]["memory"], "0", "{stats}");
    assert_ne!(usage["machine"]["memory"], "0", "{stats}");
    let table = cluster.ok(&["top", "nodes"]);
    assert!(table.contains("CPU") && table.contains("n1"), "{table}");
}

/// A page, and somebody beside it who asks for it again and again.
const TWO_CONTAINERS: &str = "
kind: Service
name: web
spec:
  containers:
    - { name: page, image: IMAGE, imagePullPolicy: Never, args: [demo] }
    - { name: asker, image: IMAGE, imagePullPolicy: Never, sidecar: true,
        args: [chore, --ask, 8080/healthz, --every, 200ms] }
";

#[test]
fn one_of_several_containers_is_reached_by_its_name() {
    let cluster = Cluster::start(1);
    cluster.apply(&TWO_CONTAINERS.replace("IMAGE", engine::IMAGE));
    let says = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();

    // Files: what is written in one is not in the other, unless one asks for it.
    let write = [
        "--", PROGRAM, "chore", "--say", "of asker", "--write", "/note",
    ];
    cluster.ok(&[&["exec", "-c", "asker", "web"], &write[..]].concat());
    let to = cluster.dir.path().join("note");
    let to = to.to_str().unwrap();
    cluster.ok(&["cp", "-c", "asker", "web:/note", to]);
    assert_eq!(fs::read_to_string(to).unwrap(), "of asker\n");
    let missing = cluster.windlass(&["cp", "web:/note", to]);
    assert_eq!(missing.status.code(), Some(5), "{}", says(&missing));
    let there = cluster.write("there", "from here");
    cluster.ok(&["cp", "-c", "asker", there.to_str().unwrap(), "web:/there"]);
    let read = ["web", "--", PROGRAM, "chore", "--read", "/there"];
    let read_it = cluster.ok(&[&["exec", "-c", "asker"], &read[..]].concat());
    assert_eq!(read_it, "from here\n");
    let in_main = cluster.windlass(&[&["exec"], &read[..]].concat());
    assert_eq!(in_main.status.code(), Some(1), "{}", says(&in_main));

    let nobody = cluster.windlass(&[&["exec", "-c", "nobody"], &read[..]].concat());
    assert_eq!(nobody.status.code(), Some(125));
    let names = "has no container nobody: it has page, asker";
    assert!(says(&nobody).contains(names), "{}", says(&nobody));

    // Output.
    cluster.eventually("what the asker says is read, and nothing else", |cluster| {
        let asked = cluster.ok(&["logs", "-c", "asker", "web"]);
        assert!(!asked.contains("listens on port"), "{asked}");
        asked.contains("healthy")
    });
    let page = cluster.ok(&["logs", "-c", "page", "web"]);
    assert!(page.contains("listens on port"), "{page}");
    let both = cluster.ok(&["logs", "web"]);
    assert!(both.contains("/page") && both.contains("/asker"), "{both}");

    // They are one instance: of its ports, and of what it uses.
    let forwarding = Forwarding::start(&cluster, &["0:8080"]);
    assert_eq!(
        http::get(forwarding.addresses[0], "/healthz")
            .unwrap()
            .status,
        200
    );
    let stats: Value = serde_json::from_str(&cluster.ok(&["top", "-o", "json"])).unwrap();
    let instances = stats["nodes"][0]["usage"]["instances"].as_array().unwrap();
    assert_eq!(instances.len(), 1, "{stats}");
    assert_ne!(instances[0]["usage"]["memory"], "0", "{stats}");
}
