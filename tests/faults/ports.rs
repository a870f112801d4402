//! A port of a host that somebody else has.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    harness::{demo, http, namespace::Namespace},
    lab::Lab,
};

const SECOND: Duration = Duration::from_secs(1);
/// The port that both want.
const CONTESTED: u16 = 8099;

/// A process of a host's own, as far as anybody can tell, that serves on the port.
struct Foreigner {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Foreigner {
    fn start(host: &Namespace) -> Self {
        let listener = host.inside(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, CONTESTED)));
        let listener = listener.expect("nobody has it yet");
        listener.set_nonblocking(true).expect("a socket");
        let is_over = Arc::<AtomicBool>::default();
        let over = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((mut client, _)) => {
                        let asked = client.read(&mut [0; 1024]);
                        assert!(asked.is_ok_and(|asked| asked > 0), "somebody asks");
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nforeign";
                        client.write_all(answer).expect("somebody listens");
                    }
                    Err(_) => thread::sleep(Duration::from_millis(20)),
                }
            }
        });
        Self { is_over, thread }
    }

    /// Its port is free when this returns.
    fn end(self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("it served");
    }
}

/// What is answered on the port of a host.
fn answer(host: &Namespace) -> String {
    let address = (Ipv4Addr::LOCALHOST, CONTESTED).into();
    let answer = host.inside(|| http::get(address, "/"));
    answer.expect("somebody serves").text()
}

#[test]
#[ignore = "needs root, and makes a lab"]
fn a_port_that_a_foreigner_has_is_named_and_the_copy_waits_for_it() {
    let mut lab = Lab::start(2);
    let h1 = lab.host("h1").namespace.clone();
    let foreigner = Foreigner::start(&h1);
    let fields = format!("replicas: 2\nports: [{{ container: 8080, host: {CONTESTED} }}]");
    lab.apply_no_wait(&demo("web", &fields));

    // A host has each port once, so that the copies are on different ones, and one cannot start.
    lab.eventually("it is said what it waits for", |lab| {
        let instances = lab.instances("web");
        let on_h1 = instances.iter().find(|i| i["node"] == "h1");
        let said = format!("port {CONTESTED} of the node is taken by something else");
        on_h1.is_some_and(|i| i["status"].to_string().contains(&said))
    });
    lab.eventually("the other copy runs", |lab| {
        let running = lab.recorder().running("web");
        running.len() == 1 && running[0].host == "h2"
    });
    assert_eq!(answer(&h1), "foreign");
    // It goes on trying, and takes nothing away.
    thread::sleep(5 * SECOND);
    assert_eq!(lab.recorder().running("web").len(), 1, "{}", lab.story());
    assert_eq!(answer(&h1), "foreign");

    foreigner.end();
    lab.eventually("both run", |lab| {
        let settled = lab.workload("web")["status"]["settled"] == true;
        settled && lab.recorder().running("web").len() == 2
    });
    assert!(answer(&h1).contains("web"), "{}", answer(&h1));
    assert_eq!(lab.recorder().runs("web").len(), 2, "{}", lab.story());
}
