//! A server that dies, its disk, and clocks that jump.

use std::time::Duration;

use jiff::SignedDuration;
use windlass_api::ids::NodeName;

use super::{
    super::{Event, World},
    Wound,
};
use crate::{coverage::Fault, store};

impl World {
    pub(super) fn break_server(&mut self) {
        let time = self.random.millis(100, 20_000);
        match self.random.below(16) {
            0..4 => {
                self.coverage.fired(Fault::ServerCrash);
                self.server_dies();
                self.after(time, Event::ServerStart);
            }
            4..6 => {
                self.coverage.fired(Fault::SlowDisk);
                self.disk_ms_max = 3_000;
                self.after(time, Event::Mend(Wound::Disk));
            }
            6 => {
                self.coverage.fired(Fault::DiskFull);
                self.store.health = store::Health::Full;
                self.after(time, Event::Mend(Wound::Disk));
            }
            7 => {
                self.coverage.fired(Fault::DiskBroken);
                self.store.health = store::Health::Broken;
                self.after(time, Event::Mend(Wound::Disk));
            }
            8 => {
                self.coverage.fired(Fault::SecondServer);
                self.rival_acts();
            }
            11 | 12 => {
                self.coverage.fired(Fault::ServerSuspended);
                self.suspend_server(time);
            }
            13 => {
                self.coverage.fired(Fault::TailMissing);
                self.server_dies();
                self.store.lose_tail();
                // It is not started on that until an operator has restored an export.
                self.after(time, Event::ServerStart);
                self.after(time + Duration::from_secs(5), Event::Restore);
            }
            9 | 10 => {
                let copy = self.store.copy();
                self.exports.push(copy);
            }
            _ => self.go_back(time),
        }
    }

    /// The server's state becomes an earlier one.
    fn go_back(&mut self, time: Duration) {
        if self.exports.is_empty() {
            let copy = self.store.copy();
            self.exports.push(copy);
            return;
        }
        let copy = self.random.pick(&self.exports).clone();
        self.server_dies();
        if self.random.percent(50) {
            self.restore_from(copy);
        } else {
            self.coverage.fired(Fault::WentBack);
            self.note(format_args!("the disk goes back to {}", copy.position));
            self.store.go_back(copy);
            self.state_went_back();
        }
        self.after(time, Event::ServerStart);
    }

    fn restore_from(&mut self, export: store::State) {
        self.coverage.fired(Fault::Restored);
        self.note(format_args!("{} is restored", export.position));
        self.store.restore(export);
        self.state_went_back();
    }

    /// An operator restores the newest export, if the server cannot be started without.
    pub(crate) fn restore_newest(&mut self) {
        if self.store.load().is_err() {
            let export = self.exports.last().cloned();
            self.restore_from(export.unwrap_or_else(|| self.store.copy()));
            self.server_start();
        }
    }

    pub(super) fn break_clock(&mut self, node: &NodeName) {
        self.coverage.fired(Fault::ClockJump);
        let jumps = [86_400, -3_600, 60, -60, 5];
        let jump = SignedDuration::from_secs(*self.random.pick(&jumps));
        self.note(format_args!("a clock jumps by {jump:#}"));
        if self.random.percent(30) {
            self.server_clock.ahead += jump;
            self.checker.clock_jumped = true;
        } else if let Some(machine) = self.machines.get_mut(node) {
            machine.clock.ahead += jump;
        }
    }
}
