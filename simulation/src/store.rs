//! The disk of a server: what survives a crash, and what only seemed to be written.

use std::collections::BTreeMap;

use windlass_api::ids::Version;
use windlass_orchestrator::store::{Batch, Error, Guard, Key, Landed, Position, Records};

/// What a store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) position: Position,
    records: BTreeMap<Key, Vec<u8>>,
}

/// How the disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    Fine,
    Full,
    /// The next sync fails, and with it the server.
    Broken,
}

/// The end of what was acknowledged is not there.
#[derive(Debug)]
pub(crate) struct TailMissing;

/// A store.
#[derive(Debug)]
pub(crate) struct Store {
    /// What survives a crash.
    durable: State,
    /// What survives one in which the disk loses the last thing that it called durable.
    shorter: State,
    /// What the disk may lose.
    last: Option<Batch>,
    /// What the running server sees.
    seen: State,
    /// How far it was acknowledged, which lies beside the store.
    mark: Position,
    pub(crate) health: Health,
}

impl Store {
    pub(crate) fn new() -> Self {
        let state = State {
            position: Position::START,
            records: BTreeMap::new(),
        };
        Self {
            durable: state.clone(),
            shorter: state.clone(),
            last: None,
            seen: state,
            mark: Position::START,
            health: Health::Fine,
        }
    }

    /// What a server reads, if nothing is missing of what was acknowledged.
    pub(crate) fn load(&self) -> Result<Records, TailMissing> {
        if self.seen.position < self.mark {
            return Err(TailMissing);
        }
        Ok(Records {
            version: self.seen.position.version,
            epoch: self.seen.position.epoch,
            records: self.seen.records.clone().into_iter().collect(),
        })
    }

    /// Makes a batch durable.
    pub(crate) fn commit(&mut self, batch: &Batch, guard: Guard) -> Result<Version, Error> {
        if !self.is_next(guard) {
            let Guard::Version(expected) = guard;
            let newest = self.seen.position.version;
            return Err(Error::Fenced { expected, newest });
        }
        match self.health {
            Health::Fine => {}
            Health::Full => return Err(no_space()),
            Health::Broken => {
                let what = "cannot sync the store: simulated".to_owned();
                return Err(Error::Failed { what });
            }
        }
        self.seen.apply(batch);
        #[cfg(feature = "mutants")]
        if windlass_api::mutants::Mutant::ForgottenFlush.is_on() {
            return Ok(batch.version());
        }
        self.durable.apply(batch);
        if let Some(before) = self.last.replace(batch.clone()) {
            self.shorter.apply(&before);
        }
        self.mark = self.durable.position;
        Ok(batch.version())
    }

    /// Whether a batch follows what is stored.
    pub(crate) fn is_next(&self, guard: Guard) -> bool {
        let Guard::Version(expected) = guard;
        expected == self.seen.position.version
    }

    /// A batch that nobody acknowledged lands all the same.
    pub(crate) fn land(&mut self, batch: &Batch) {
        self.durable.apply(batch);
        if let Some(before) = self.last.replace(batch.clone()) {
            self.shorter.apply(&before);
        }
        self.seen.clone_from(&self.durable);
    }

    /// The disk has lost the last thing that it called durable.
    pub(crate) fn lose_tail(&mut self) {
        if self.last.take().is_some() {
            self.durable.clone_from(&self.shorter);
            self.seen.clone_from(&self.shorter);
        }
    }

    /// The server or its machine crashed: what was not durable is gone.
    pub(crate) fn crash(&mut self) {
        self.seen.clone_from(&self.durable);
    }

    /// An export, or a copy of the disk.
    pub(crate) fn copy(&self) -> State {
        self.durable.clone()
    }

    /// The state of an export is restored, in an epoch of its own.
    pub(crate) fn restore(&mut self, export: State) {
        let epochs = [self.mark, self.durable.position, export.position].map(|p| p.epoch);
        let newest = epochs.into_iter().max().unwrap_or_default();
        let position = Position {
            epoch: newest.next(),
            ..export.position
        };
        self.go_back(State { position, ..export });
    }

    /// The disk comes back as it once was, with all that lies on it.
    pub(crate) fn go_back(&mut self, to: State) {
        self.mark = to.position;
        self.last = None;
        self.shorter.clone_from(&to);
        self.seen.clone_from(&to);
        self.durable = to;
    }
}

impl State {
    fn apply(&mut self, batch: &Batch) {
        self.position = self.position.after(batch);
        for (key, value) in batch.changes() {
            match value {
                Some(value) => self.records.insert(key.clone(), value.clone()),
                None => self.records.remove(key),
            };
        }
    }
}

fn no_space() -> Error {
    Error::NoSpace {
        dir: "simulated".into(),
        available_bytes: 0,
        needed_bytes: 1,
        landed: Landed::No,
    }
}
