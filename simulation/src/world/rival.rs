//! A second server on the same store, which should not be: the lock on the data directory keeps it
//! out, and where that fails the store takes the word of only one.

use std::time::Duration;

use uuid::Uuid;
use windlass_orchestrator::{
    controller::Look,
    simulation::{Request, Server},
};

use super::World;

impl World {
    /// Another server opens the store, and does what a user asks of it. The first one must find out
    /// with its next commit, and end. Without a first one, it is the only one.
    pub(crate) fn rival_acts(&mut self) {
        if self.server.is_none() {
            return self.server_start();
        }
        let (seed, wall) = (self.process_seed(), self.server_wall());
        let Ok(records) = self.store.load() else {
            return;
        };
        let loaded = Server::load(&records, Uuid::from_u64_pair(seed, 1), wall);
        let Ok((state, None)) = loaded else {
            return;
        };
        let (what, write) = self.wish(&state);
        let mut rival = Server::start(state, seed);
        let request = Request::Write(0, write, None);
        let mut step = rival.step(vec![request], (wall, Duration::ZERO), Look::AtEverything);
        let Some((batch, guard)) = step.to_store.take() else {
            return;
        };
        let stored = self.store.commit(&batch, guard);
        if stored.is_ok() && rival.settle(step, Some(stored), Duration::ZERO).is_ok() {
            self.note(format_args!("a second server does: {what}"));
            self.checker.rival_committed(&rival.state());
        }
    }
}
