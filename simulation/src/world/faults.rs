//! What breaks, and how it is mended.

use std::time::Duration;

use jiff::SignedDuration;
use windlass_api::ids::NodeName;

use super::{Event, Plan, Way, World};
use crate::{clock::Clock, engine::Health, random::Random, store};

mod lines;
mod nodes;
mod servers;

/// Something that is to be mended.
#[derive(Debug, Clone)]
pub(crate) enum Wound {
    Line(NodeName, Way),
    Network,
    AgentDisk(NodeName),
    Engine(NodeName),
    Events(NodeName),
    Disk,
    Everything,
}

/// How rough a run is. Some are calm, so that what must hold in calm times is seen, too.
pub(crate) fn plan(random: &mut Random) -> Plan {
    let rough = Duration::from_secs(random.between(60, 180));
    let fault_every_ms = match random.below(4) {
        0 => 0,
        1 => 30_000,
        2 => 12_000,
        _ => 4_000,
    };
    let nodes = match random.below(20) {
        0 => random.between(10, 50),
        _ => random.between(3, 6),
    };
    Plan {
        rough_until: rough,
        ends: rough + crate::checker::REST_WITHIN + crate::checker::REST_FOR,
        fault_every_ms,
        user_every_ms: *random.pick(&[700, 2_000, 8_000, 20_000]),
        nodes,
    }
}

/// The clocks of a machine that is switched on now: up to a thousandth wrong, and the time of day
/// by up to a minute.
pub(crate) fn clock(random: &mut Random, now: Duration) -> Clock {
    let ppm = i64::try_from(random.below(2_001)).expect("a small number") - 1_000;
    let ahead = i64::try_from(random.below(120_001)).expect("a small number") - 60_000;
    Clock {
        since: now,
        drift_ppm: ppm,
        ahead: SignedDuration::from_millis(ahead),
    }
}

impl World {
    /// Something breaks, and something will again.
    pub(crate) fn something_breaks(&mut self) {
        if !self.is_rough() {
            return;
        }
        let nodes: Vec<NodeName> = self.machines.keys().cloned().collect();
        let node = self.random.pick(&nodes).clone();
        match self.random.below(100) {
            0..22 => self.break_network(&node, &nodes),
            22..40 => self.break_agent(&node),
            40..58 => self.break_engine(&node),
            58..60 => self.break_power(&node),
            60..78 => self.break_server(),
            78..84 => self.break_clock(&node),
            84..88 => self.forge_report(&node),
            _ => self.end_a_container(&node),
        }
        let pause = self.random.millis(200, self.plan.fault_every_ms.max(201));
        self.after(pause, Event::Fault);
    }

    pub(crate) fn hurt(&mut self, node: &NodeName) {
        let now = self.now;
        if let Some(machine) = self.machines.get_mut(node) {
            machine.hurt_at = Some(now);
        }
    }

    pub(crate) fn mend(&mut self, wound: Wound) {
        match wound {
            Wound::Line(node, way) => {
                self.hurt(&node);
                self.mend_line(&node, way);
            }
            Wound::Network => self.network.slow_ms = 0,
            Wound::AgentDisk(node) => {
                if let Some(machine) = self.machines.get(&node) {
                    machine.disk.free();
                }
            }
            Wound::Engine(node) => {
                self.hurt(&node);
                let now = self.now;
                if let Some(machine) = self.machines.get_mut(&node) {
                    machine.helpless_at = Some(now);
                }
                if let Some(engine) = self.engines.get_mut(&node) {
                    engine.health = Health::Fine;
                }
            }
            Wound::Events(node) => {
                if let Some(engine) = self.engines.get_mut(&node) {
                    engine.loses_events = false;
                }
            }
            Wound::Disk => {
                self.disk_ms_max = 5;
                self.store.health = store::Health::Fine;
            }
            Wound::Everything => self.tidy_up(),
        }
    }

    /// The storm is over: everything is mended.
    pub(crate) fn heal(&mut self) {
        self.note(format_args!("everything is mended"));
        let nodes: Vec<NodeName> = self.machines.keys().cloned().collect();
        for node in nodes {
            for way in [Way::ToServer, Way::ToAgent] {
                self.mend(Wound::Line(node.clone(), way));
            }
            self.mend(Wound::AgentDisk(node.clone()));
            self.mend(Wound::Engine(node.clone()));
            self.mend(Wound::Events(node.clone()));
            self.agent_start(&node);
        }
        self.mend(Wound::Network);
        self.mend(Wound::Disk);
        self.resume_server();
        self.restore_newest();
        self.server_start();
        // By then the agents have told what they have seen, and it is known whether the state
        // went back.
        for seconds in [40, 60, 80] {
            self.after(Duration::from_secs(seconds), Event::Mend(Wound::Everything));
        }
    }
}
