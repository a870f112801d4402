//! The network of the lab: a switch, a place for the server and hosts, each in a namespace of its
//! own, with a cable between each of them and the switch.
//!
//! What is done to a link is done in the switch, so that hosts and server notice it as they would
//! notice a broken cable. The server listens on loopback only; in place of the tunnels of a real
//! site, the kernel translates addresses at both ends: a host's `127.0.0.1:7400` leads over the
//! network to that of the server, in one TCP connection.

use std::{
    collections::BTreeMap,
    io::Write,
    process::{Command, Stdio},
    sync::Mutex,
};

use crate::harness::namespace::{Namespace, run};

/// The server's port, at its own loopback address and at that of each host.
pub(crate) const PORT: u16 = 7400;
/// The server's address on the network.
pub(crate) const SERVER: &str = "10.213.0.1";

/// What is wrong with the link of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing gets through.
    Cut,
    /// What the host sends is lost.
    CutFromHost,
    /// What is sent to the host is lost.
    CutToHost,
    /// Three of ten packets are lost, in each direction: always the same three, so that a test
    /// sees the same each time.
    Lossy,
}

/// The switch and its cables.
#[derive(Debug)]
pub(crate) struct Network {
    /// What the names of its namespaces begin with.
    prefix: String,
    switch: Namespace,
    /// By the name of the host.
    faults: Mutex<BTreeMap<String, Fault>>,
}

impl Network {
    pub(crate) fn create(prefix: String) -> Self {
        let switch = Namespace::create(&format!("{prefix}switch"));
        run(switch
            .command("ip")
            .args("link add lab type bridge".split(' ')));
        run(switch.command("ip").args("link set lab up".split(' ')));
        nft(
            &switch,
            "table bridge lab {\n chain forward { type filter hook forward priority 0; }\n}\n",
        );
        Self {
            prefix,
            switch,
            faults: Mutex::default(),
        }
    }

    /// A namespace with a cable to the switch.
    fn plug_in(&self, name: &str, address: &str) -> Namespace {
        let namespace = Namespace::create(&format!("{}{name}", self.prefix));
        let switch = self.switch.name();
        run(Command::new("ip")
            .args(["link", "add", name, "netns", switch, "type", "veth"])
            .args(["peer", "name", "eth0", "netns", namespace.name()]));
        for rest in ["master lab", "up"] {
            let words = ["link", "set", name].into_iter().chain(rest.split(' '));
            run(self.switch.command("ip").args(words));
        }
        let address = format!("{address}/24");
        run(namespace
            .command("ip")
            .args(["address", "add", &address, "dev", "eth0"]));
        run(namespace.command("ip").args("link set eth0 up".split(' ')));
        // Lets addresses of loopback be translated to and from others.
        let setting = "net.ipv4.conf.all.route_localnet=1";
        run(namespace.command("sysctl").args(["-qw", setting]));
        namespace
    }

    /// Where the server is to be.
    pub(crate) fn add_server(&self) -> Namespace {
        let namespace = self.plug_in("server", SERVER);
        nft(
            &namespace,
            &format!(
                "table ip lab {{\n chain arriving {{ type nat hook prerouting priority -100; \
                 iifname eth0 tcp dport {PORT} dnat to 127.0.0.1:{PORT}; }}\n}}\n"
            ),
        );
        namespace
    }

    /// Where a host is to be, from 1 on.
    pub(crate) fn add_host(&self, name: &str, number: usize) -> Namespace {
        let namespace = self.plug_in(name, &format!("10.213.0.{}", 10 + number));
        nft(
            &namespace,
            &format!(
                "table ip lab {{\n chain leaving {{ type nat hook output priority -100; \
                 ip daddr 127.0.0.1 tcp dport {PORT} dnat to {SERVER}:{PORT}; }}\n \
                 chain left {{ type nat hook postrouting priority 100; \
                 ip saddr 127.0.0.1 oifname eth0 masquerade; }}\n}}\n"
            ),
        );
        namespace
    }

    /// Does something to the link of a host, in place of what was done to it before.
    pub(crate) fn harm(&self, host: &str, fault: Fault) {
        let mut faults = self.faults.lock().expect("nobody panics with it");
        faults.insert(host.to_owned(), fault);
        self.enforce(&faults);
    }

    /// Mends the link of a host.
    pub(crate) fn heal(&self, host: &str) {
        let mut faults = self.faults.lock().expect("nobody panics with it");
        faults.remove(host);
        self.enforce(&faults);
    }

    fn enforce(&self, faults: &BTreeMap<String, Fault>) {
        let mut rules = "flush chain bridge lab forward\n".to_owned();
        for (host, fault) in faults {
            let (from, to) = ("iifname", "oifname");
            let (ways, verdict): (&[&str], _) = match fault {
                Fault::Cut => (&[from, to], "drop"),
                Fault::CutFromHost => (&[from], "drop"),
                Fault::CutToHost => (&[to], "drop"),
                Fault::Lossy => (
                    &[from, to],
                    "numgen inc mod 10 vmap { 0 : drop, 1 : drop, 5 : drop }",
                ),
            };
            for way in ways {
                rules.push_str(&format!(
                    "add rule bridge lab forward {way} {host} {verdict}\n"
                ));
            }
        }
        nft(&self.switch, &rules);
    }
}

/// Lets the kernel take over rules, all of them at once.
pub(crate) fn nft(namespace: &Namespace, rules: &str) {
    let mut child = namespace
        .command("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("`nft`, of nftables");
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(rules.as_bytes()).expect("nft reads them");
    drop(input);
    let status = child.wait().expect("it can be waited for");
    assert!(status.success(), "nft does not take these rules:\n{rules}");
}
