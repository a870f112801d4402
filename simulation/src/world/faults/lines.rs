//! Lines that are cut, slow, or come and go.

use std::time::Duration;

use windlass_api::ids::NodeName;

use super::{
    super::{Event, Way, World},
    Wound,
};
use crate::coverage::Fault;

/// How long a line that comes and goes is away, and there.
const FLAP: Duration = Duration::from_secs(3);

impl World {
    fn cut(&mut self, node: &NodeName, ways: &[Way], time: Duration) {
        self.hurt(node);
        for way in ways {
            self.note(format_args!("{node} is cut off {way:?} for {time:?}"));
            self.network.cut.insert((node.clone(), *way));
            self.after(time, Event::Mend(Wound::Line(node.clone(), *way)));
        }
    }

    pub(super) fn break_network(&mut self, node: &NodeName, nodes: &[NodeName]) {
        let both = [Way::ToServer, Way::ToAgent];
        let time = match self.random.below(3) {
            0 => self.random.millis(500, 5_000),
            _ => self.random.millis(5_000, 60_000),
        };
        match self.random.below(14) {
            0 | 1 => {
                self.coverage.fired(Fault::Partition);
                self.cut(node, &both, time);
            }
            2 => {
                self.coverage.fired(Fault::DeafServer);
                self.cut(node, &both[..1], time);
            }
            3 => {
                self.coverage.fired(Fault::DeafAgent);
                self.cut(node, &both[1..], time);
            }
            4 => {
                self.coverage.fired(Fault::Flapping);
                let times = self.random.between(2, 15);
                self.flap(node, times);
            }
            5 => {
                self.coverage.fired(Fault::MostNodesDark);
                for node in &nodes[..nodes.len() * 2 / 3] {
                    self.cut(node, &both, time);
                }
            }
            6 | 7 => {
                let link = self.machines.get(node).and_then(|m| m.link);
                if let Some(link) = link {
                    self.coverage.fired(Fault::Disconnect);
                    self.note(format_args!("the connection of {node} breaks"));
                    self.break_link(link);
                }
            }
            8 => self.send_stale(node),
            9 | 10 => {
                let way = *self.random.pick(&both);
                self.repeat(node, way);
            }
            _ => {
                self.coverage.fired(Fault::SlowNetwork);
                self.network.slow_ms = self.random.between(50, 2_000);
                self.after(time, Event::Mend(Wound::Network));
            }
        }
    }

    /// A line comes and goes.
    pub(crate) fn flap(&mut self, node: &NodeName, times: u64) {
        if times > 0 && self.is_rough() {
            self.cut(node, &[Way::ToServer, Way::ToAgent], FLAP);
            self.after(2 * FLAP, Event::Flap(node.clone(), times - 1));
        }
    }
}
