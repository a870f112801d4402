//! Streams whose client, server or agent is killed midway: whoever is left is told, nothing is left
//! open, and the container runs on untouched.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use tar::{EntryType, Header};

use super::{Forwarding, PROGRAM, Terminal, cluster, windlass};
use crate::harness::{
    Cluster, Docker, PATIENCE, demo, engine, http,
    proxy::{Mode, Proxy},
};

/// How soon whoever is left has to notice: it takes milliseconds on an idle machine, and without
/// being told a minute.
const PROMPT: Duration = Duration::from_secs(20);
/// More than the buffers on the way hold.
const MUCH: u64 = 256 << 20;

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Client,
    Server,
    Agent,
}

impl Victim {
    /// Those whose end a client has to notice.
    const OTHERS: [Self; 2] = [Self::Server, Self::Agent];

    /// What is said of its end.
    fn words(self) -> &'static str {
        match self {
            Self::Client => unreachable!("a client that is killed says nothing"),
            Self::Server => "connection",
            Self::Agent => "the agent of node n1",
        }
    }
}

/// A cluster whose one instance is watched.
struct Site {
    cluster: Cluster,
    container: String,
    started: String,
}

impl Site {
    fn new(cluster: Cluster) -> Self {
        let container = engine::running(&cluster.id()).remove(0);
        let started = engine::started_at(&container);
        Self {
            cluster,
            container,
            started,
        }
    }

    fn kill(&mut self, victim: Victim, client: &mut Client) {
        match victim {
            Victim::Client => client.child.kill().unwrap(),
            Victim::Server => self.cluster.kill_server(),
            Victim::Agent => self.cluster.kill_agent(0),
        }
    }

    fn revive(&mut self, victim: Victim) {
        match victim {
            Victim::Client => {}
            Victim::Server => self.cluster.start_server(),
            Victim::Agent => self.cluster.start_agent(0),
        }
    }

    /// Nothing is open any more but the session of the agent, and the container ran on.
    fn is_at_rest(&self) {
        self.cluster.eventually("no stream is left", |cluster| {
            open_streams(cluster) == 0 && connections(cluster) == 1
        });
        assert_eq!(
            engine::running(&self.cluster.id()),
            [self.container.as_str()]
        );
        assert_eq!(engine::started_at(&self.container), self.started);
    }

    /// How many commands run in the container besides its own.
    fn commands(&self) -> usize {
        engine::processes(&self.container) - 1
    }
}

/// How many streams the server says are open.
fn open_streams(cluster: &Cluster) -> u64 {
    let Ok(metrics) = http::get(cluster.address, "/metrics") else {
        return u64::MAX;
    };
    let text = metrics.text();
    let value = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    value("windlass_reach_streams_open") + value("windlass_log_streams_open")
}

/// How many connections to the server are open, by the kernel's own account.
fn connections(cluster: &Cluster) -> usize {
    let port = format!(":{:04X}", cluster.address.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let is_one = |line: &&str| {
        let mut fields = line.split_whitespace().skip(2);
        // The other end, and `established`.
        fields.next().is_some_and(|to| to.ends_with(&port)) && fields.next() == Some("01")
    };
    table.lines().filter(is_one).count()
}

/// A command of the command line, and what it has said up to now.
struct Client {
    child: Child,
    out: Arc<Mutex<Vec<u8>>>,
    err: Arc<Mutex<Vec<u8>>>,
}

fn gathered(mut from: impl Read + Send + 'static) -> Arc<Mutex<Vec<u8>>> {
    let seen = Arc::<Mutex<Vec<u8>>>::default();
    let also = Arc::clone(&seen);
    thread::spawn(move || {
        let mut bytes = [0; 16 << 10];
        while let Ok(read @ 1..) = from.read(&mut bytes) {
            also.lock().unwrap().extend_from_slice(&bytes[..read]);
        }
    });
    seen
}

impl Client {
    fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        Self {
            out: gathered(child.stdout.take().unwrap()),
            err: gathered(child.stderr.take().unwrap()),
            child,
        }
    }

    fn input(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&self.err.lock().unwrap()).into_owned()
    }

    fn printed(&self) -> usize {
        self.out.lock().unwrap().len()
    }

    /// It ends by itself, soon, and not well.
    fn fails(&mut self, victim: Victim) {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(began.elapsed() < PROMPT, "{victim:?}: it goes on");
            thread::sleep(Duration::from_millis(20));
        };
        let code = status.code();
        assert!(code.is_some_and(|code| code != 0), "{victim:?}: {status}");
        // The reader may still be at it.
        let words = victim.words();
        until(&format!("{victim:?}: {words}"), || {
            self.said().contains(words)
        });
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // One that has ended needs no killing.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "not so in time: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_command_whose_client_server_or_agent_is_killed_leaves_nothing() {
    let mut site = Site::new(cluster());
    for victim in [Victim::Client, Victim::Server, Victim::Agent] {
        let before = site.commands();
        // One that reads and one that does not: the agent, if it is killed, hangs up on nobody,
        // but its end is that of the input.
        let silent = [
            "exec", "web", "--", PROGRAM, "chore", "--say", "alive", "--every", "100ms",
        ];
        let reading = [
            "exec", "-i", "web", "--", PROGRAM, "chore", "--say", "alive", "--echo",
        ];
        let args = if victim == Victim::Agent {
            reading
        } else {
            silent
        };
        let mut client = Client::start(&mut windlass(&site.cluster, &args));
        until("the command speaks", || client.printed() > 0);
        assert_eq!(site.commands(), before + 1);
        site.kill(victim, &mut client);
        if victim != Victim::Client {
            client.fails(victim);
            assert_eq!(client.child.wait().unwrap().code(), Some(125));
        }
        until("the command has ended", || site.commands() == before);
        site.revive(victim);
        site.is_at_rest();
    }
}

#[test]
fn a_terminal_whose_client_server_or_agent_is_killed_is_hung_up_and_given_back() {
    let mut site = Site::new(cluster());
    for victim in [Victim::Client, Victim::Server, Victim::Agent] {
        let (terminal, slave) = Terminal::open(24, 80);
        let before = rustix::termios::tcgetattr(&slave).unwrap();
        let commands = site.commands();
        let chore = [PROGRAM, "chore", "--say", "alive", "--every", "100ms"];
        let child = windlass(
            &site.cluster,
            &[&["exec", "-it", "web", "--"], &chore[..]].concat(),
        )
        .stdin(slave.try_clone().unwrap())
        .stdout(slave.try_clone().unwrap())
        .stderr(slave.try_clone().unwrap())
        .spawn()
        .unwrap();
        let mut client = Client {
            child,
            out: Arc::default(),
            err: Arc::default(),
        };
        terminal.until("alive");
        site.kill(victim, &mut client);
        if victim != Victim::Client {
            let began = Instant::now();
            while client.child.try_wait().unwrap().is_none() {
                assert!(began.elapsed() < PROMPT, "{victim:?}: it goes on");
                thread::sleep(Duration::from_millis(20));
            }
            assert_eq!(client.child.wait().unwrap().code(), Some(125));
            terminal.until(victim.words());
            let after = rustix::termios::tcgetattr(&slave).unwrap();
            assert_eq!(after.local_modes, before.local_modes, "it is as it was");
        }
        // An agent that is killed hangs up on nobody, and Docker on none that has a terminal.
        if victim != Victim::Agent {
            until("the command has ended", || site.commands() == commands);
        }
        site.revive(victim);
        site.is_at_rest();
    }
}

#[test]
fn a_log_is_followed_on_when_server_or_agent_come_back_and_freed_when_nobody_reads() {
    let ticking = demo("web", "").replace("[demo]", "[chore, --say, tick, --every, 100ms]");
    let cluster = Cluster::start(1);
    cluster.apply(&ticking);
    let mut site = Site::new(cluster);
    let mut client = Client::start(&mut windlass(&site.cluster, &["logs", "-f", "web"]));
    for victim in Victim::OTHERS {
        until("it is followed", || client.printed() > 0);
        site.kill(victim, &mut client);
        let words = victim.words();
        until("it is told", || {
            let said = client.said();
            said.contains(words) && said.contains("read on when that is over")
        });
        client.out.lock().unwrap().clear();
        client.err.lock().unwrap().clear();
        site.revive(victim);
        until("it goes on", || client.printed() > 0);
        assert!(client.child.try_wait().unwrap().is_none());
    }
    site.kill(Victim::Client, &mut client);
    site.is_at_rest();
}

/// The beginning of an archive with a file that never comes to its end.
fn half_an_archive() -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_path("half").unwrap();
    header.set_mode(0o644);
    header.set_size(MUCH);
    header.set_cksum();
    let mut archive = header.as_bytes().to_vec();
    archive.resize(1 << 20, 7);
    archive
}

#[test]
fn a_copy_to_an_instance_that_breaks_off_says_what_it_may_have_left() {
    let mut site = Site::new(cluster());
    for victim in [Victim::Client, Victim::Server, Victim::Agent] {
        let mut client = Client::start(&mut windlass(&site.cluster, &["cp", "-", "web:/"]));
        let mut input = client.input();
        input.write_all(&half_an_archive()).unwrap();
        site.cluster
            .eventually("it is on its way", |c| open_streams(c) == 1);
        site.kill(victim, &mut client);
        if victim != Victim::Client {
            client.fails(victim);
            assert!(client.said().contains("copy it again"), "{}", client.said());
        }
        site.revive(victim);
        site.is_at_rest();
    }
}

#[test]
fn a_copy_from_an_instance_that_breaks_off_leaves_no_half_file_and_no_stream() {
    let dir = tempfile::TempDir::new().unwrap();
    let proxy = Proxy::start(dir.path());
    let cluster = Cluster::start_with(1, Docker::Through(proxy.address()));
    cluster.apply(&demo("web", ""));
    let mut site = Site::new(cluster);
    for victim in [Victim::Client, Victim::Server, Victim::Agent] {
        let folder = dir.path().join(format!("{victim:?}"));
        fs::create_dir(&folder).unwrap();
        let to = folder.join("copy");
        fs::write(&to, "as before").unwrap();
        let args = ["cp", "web:/windlass", to.to_str().unwrap()];
        let mut client = Client::start(&mut windlass(&site.cluster, &args));
        let names = || fs::read_dir(&folder).unwrap().count();
        until("it is being written", || names() == 2);
        proxy.set(Mode::Hang);
        site.kill(victim, &mut client);
        if victim != Victim::Client {
            client.fails(victim);
            assert_eq!(names(), 1, "only what was there before");
        }
        assert_eq!(fs::read_to_string(&to).unwrap(), "as before");
        proxy.set(Mode::Open);
        site.revive(victim);
        site.is_at_rest();
    }
    // An archive has no name to be kept back.
    for victim in Victim::OTHERS {
        let mut client = windlass(&site.cluster, &["cp", "web:/windlass", "-"]);
        let mut client = Client::start(&mut client);
        until("it comes", || client.printed() > 0);
        proxy.set(Mode::Hang);
        site.kill(victim, &mut client);
        client.fails(victim);
        assert!(client.said().contains("not the whole archive"));
        proxy.set(Mode::Open);
        site.revive(victim);
        site.is_at_rest();
    }
}

#[test]
fn an_interrupted_copy_cleans_up() {
    let dir = tempfile::TempDir::new().unwrap();
    let proxy = Proxy::start(dir.path());
    let cluster = Cluster::start_with(1, Docker::Through(proxy.address()));
    cluster.apply(&demo("web", ""));
    let site = Site::new(cluster);
    let folder = dir.path().join("here");
    fs::create_dir(&folder).unwrap();
    let to = folder.join("copy");
    let args = ["cp", "web:/windlass", to.to_str().unwrap()];
    let mut client = Client::start(&mut windlass(&site.cluster, &args));
    let names = || fs::read_dir(&folder).unwrap().count();
    until("it is being written", || names() == 1);
    proxy.set(Mode::Hang);
    crate::harness::signal(client.child.id(), rustix::process::Signal::INT);
    assert_eq!(client.child.wait().unwrap().code(), Some(1));
    until("it says so", || client.said().contains("interrupted"));
    assert_eq!(names(), 0);
    proxy.set(Mode::Open);
    site.is_at_rest();
}

#[test]
fn a_forwarded_connection_ends_with_server_or_agent_and_the_next_one_works() {
    let mut site = Site::new(cluster());
    let forwarding = Forwarding::start(&site.cluster, &["0:8080"]);
    let address = forwarding.addresses[0];
    let connect = || {
        let mut stream = TcpStream::connect(address).unwrap();
        // It waits for the rest of the request.
        stream.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
        stream.set_read_timeout(Some(PROMPT)).unwrap();
        stream
    };
    for victim in Victim::OTHERS {
        let mut stream = connect();
        site.cluster
            .eventually("it is open", |c| open_streams(c) == 1);
        match victim {
            Victim::Client => unreachable!("it is the last one"),
            Victim::Server => site.cluster.kill_server(),
            Victim::Agent => site.cluster.kill_agent(0),
        }
        // An end or a reset, but not nothing.
        match stream.read(&mut [0; 8]) {
            Ok(read) => assert_eq!(read, 0),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
        site.revive(victim);
        site.cluster.eventually("the next one works", |_| {
            http::get(address, "/healthz").is_ok_and(|page| page.status == 200)
        });
        site.is_at_rest();
    }
    let _open = connect();
    site.cluster
        .eventually("it is open", |c| open_streams(c) == 1);
    drop(forwarding);
    site.is_at_rest();
}
