//! The store on this machine's disk.
//!
//! A batch is acknowledged after four steps: the engine has written it, the engine's file is
//! synced, the high-water mark has moved, the mark is synced. What fails in between is not
//! acknowledged and may or may not be found at the next start.

use std::{
    fs::File,
    io::{self, Write},
    mem,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use windlass_api::ids::Version;

use super::{
    Batch, Error, ExportWhen, Guard, Landed, Maintenance, Medium, RESERVE_BYTES, Records, Recovery,
    Result, SPACE_NEEDED_BYTES, Store, Summary, SystemMedium, Task, Verifier,
    data_dir::DataDir,
    export,
    exports::{self, Schedule},
    fault::Fault,
    high_water::HighWater,
    opening,
    record::{self, Head, RawKey, RawValue, Stored},
    rewrite,
    sled::Engine,
};

/// A [`Store`] in a directory.
///
/// | path | what |
/// |---|---|
/// | `store/` | the engine's files |
/// | `hwm` | the high-water mark |
/// | `exports/` | the automatic exports |
/// | `store.lock` | locked while a server runs |
/// | `store.new/` | a store that is being written to take the place of `store/` |
/// | `store.replaced-<n>/` | what the last restore replaced |
pub struct DiskStore {
    dir: DataDir,
    medium: Arc<dyn Medium>,
    state: Mutex<State>,
    /// Held until the store is dropped.
    _lock: File,
}

struct State {
    health: Health,
    mark: HighWater,
    head: Head,
    schedule: Schedule,
}

enum Health {
    Serving(Engine),
    /// The engine failed for lack of space. It must be opened again.
    Full,
    /// For good.
    Failed(String),
}

impl DiskStore {
    /// Opens the store in `data_dir`, or makes a new one. Everything in it is read and checked
    /// first; if there is a `verifier`, in a process of its own before this one touches it.
    ///
    /// # Errors
    /// As [`Error`] says; each variant says what to do.
    pub fn open(data_dir: &Path, verifier: Option<&Verifier>) -> Result<Self> {
        Self::open_on(data_dir, verifier, Arc::new(SystemMedium))
    }

    /// [`DiskStore::open`] on a disk that may be made to fail.
    ///
    /// # Errors
    /// As [`DiskStore::open`].
    pub fn open_on(
        data_dir: &Path,
        verifier: Option<&Verifier>,
        medium: Arc<dyn Medium>,
    ) -> Result<Self> {
        let dir = DataDir::create(data_dir)?;
        let lock = dir.lock()?;
        // Opening writes, and must not be the last straw.
        dir.require_space(&*medium, 0)?;
        rewrite::clear(&dir)?;
        if let Some(verifier) = verifier.filter(|_| dir.has_store()) {
            verifier.check(&dir)?;
        }
        let opened = opening::open(&dir, &*medium)?;
        let settled = opened.settle(&dir, &*medium);
        let settled = settled.map_err(|fault| dir.unusable(fault, &*medium))?;
        let state = State {
            health: Health::Serving(settled.engine),
            mark: settled.mark,
            head: settled.head,
            schedule: Schedule::default(),
        };
        Ok(Self {
            dir,
            medium,
            state: Mutex::new(state),
            _lock: lock,
        })
    }

    /// A panic while the lock was held has left the health at `Failed`, so going on is safe.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serving<'a>(&self, state: &'a State) -> Result<&'a Engine> {
        match &state.health {
            Health::Serving(engine) => Ok(engine),
            Health::Full => Err(self.dir.no_space(&*self.medium, 0, Landed::Unknown)),
            Health::Failed(what) => Err(Error::Failed { what: what.clone() }),
        }
    }

    /// Takes the engine out for something that must not be left half done. It is put back when
    /// that has ended well; until then the store counts as failed.
    fn take_engine(&self, state: &mut State, what: &str) -> Result<Engine> {
        self.serving(state)?;
        let failed = Health::Failed(format!("{what} did not end"));
        match mem::replace(&mut state.health, failed) {
            Health::Serving(engine) => Ok(engine),
            Health::Full | Health::Failed(_) => unreachable!("it was found to be serving"),
        }
    }

    /// Lack of space passes; after anything else nothing can be promised any more.
    fn fail(&self, state: &mut State, fault: &Fault) -> Error {
        if let Fault::NoSpace = fault {
            state.health = Health::Full;
            return self.dir.no_space(&*self.medium, 0, Landed::Unknown);
        }
        let what = fault.to_string();
        state.health = Health::Failed(what.clone());
        Error::Failed { what }
    }

    fn records(&self, engine: &Engine) -> Result<Records> {
        match opening::read_all(engine).map_err(|fault| self.dir.unusable(fault, &*self.medium))? {
            Some((_, records)) => Ok(records),
            None => Err(self.dir.corrupt("the head is missing".to_owned())),
        }
    }

    fn write_export(&self, engine: &Engine) -> Result<PathBuf> {
        let records = self.records(engine)?;
        // As text, records take a little more. The file of the engine says nothing about that: it
        // can be mostly garbage, and giving that back begins with an export.
        let bytes = records.bytes().saturating_mul(2);
        self.dir.require_space(&*self.medium, bytes)?;
        exports::write(&self.dir.exports(), &records)
    }

    fn rewrite(&self, state: &mut State) -> Result<Task<u64>> {
        let before = match self.prepare_rewrite(self.serving(state)?) {
            Ok(Some(before)) => before,
            Ok(None) => return Ok(Task::NotDue),
            Err(error) => return Ok(Task::Failed(error)),
        };
        let old = self.take_engine(state, "rewriting the store")?;
        if let Err(error) = rewrite::exchange(&self.dir) {
            state.health = Health::Serving(old);
            return Ok(Task::Failed(error));
        }
        drop(old);
        self.dir.sync()?;
        let opened = opening::open(&self.dir, &*self.medium)?;
        if opened.found.as_ref().map(|(head, _)| *head) != Some(state.head) {
            return Err(self
                .dir
                .corrupt("it was not rewritten as it was".to_owned()));
        }
        let after = opened.engine.disk_bytes();
        state.health = Health::Serving(opened.engine);
        let after = match after.map_err(Error::io("measure", &self.dir.store())) {
            Ok(after) => after,
            Err(error) => return Ok(Task::Failed(error)),
        };
        Ok(match rewrite::clear(&self.dir) {
            Ok(()) => Task::Done(before.saturating_sub(after)),
            Err(error) => Task::Failed(error),
        })
    }

    /// Writes the records into a new store, if that is worth it. Returns the old one's size.
    fn prepare_rewrite(&self, engine: &Engine) -> Result<Option<u64>> {
        let bytes = engine
            .disk_bytes()
            .map_err(Error::io("measure", &self.dir.store()))?;
        if !rewrite::may_be_due(bytes) {
            return Ok(None);
        }
        let records = self.records(engine)?;
        if !rewrite::is_due(bytes, records.bytes()) {
            return Ok(None);
        }
        rewrite::build(&self.dir, &records, records.position(), &*self.medium)?;
        Ok(Some(bytes))
    }
}

impl Store for DiskStore {
    fn load(&self) -> Result<Records> {
        let state = self.lock();
        self.records(self.serving(&state)?)
    }

    fn commit(&self, batch: Batch, guard: Guard) -> Result<Version> {
        let mut state = self.lock();
        self.serving(&state)?;
        batch.check(state.head.position.version, guard)?;
        // A page is written whole from time to time, so more is written than the batch has.
        self.dir
            .require_space(&*self.medium, batch.bytes().saturating_mul(2))?;
        let engine = self.take_engine(&mut state, "a commit")?;
        let head = state.head;
        match write(&engine, &mut state.mark, &*self.medium, head, batch) {
            Ok(head) => {
                state.health = Health::Serving(engine);
                state.head = head;
                Ok(head.position.version)
            }
            Err(fault) => Err(self.fail(&mut state, &fault)),
        }
    }

    fn export(&self, to: &mut dyn Write) -> Result<Summary> {
        let state = self.lock();
        let records = self.records(self.serving(&state)?)?;
        export::write(to, &records).map_err(Error::io("export", &self.dir.store()))
    }

    fn try_recover(&self) -> Result<Recovery> {
        let mut state = self.lock();
        if let Health::Failed(what) = &state.health {
            return Err(Error::Failed { what: what.clone() });
        }
        let margin = SPACE_NEEDED_BYTES - RESERVE_BYTES;
        match self.dir.require_space(&*self.medium, margin) {
            Ok(()) => {}
            Err(Error::NoSpace { .. }) => return Ok(Recovery::StillFull),
            Err(error) => return Err(error),
        }
        if let Health::Serving(engine) = &state.health {
            return Ok(Recovery::Ready(self.records(engine)?));
        }
        let opened = match opening::open(&self.dir, &*self.medium) {
            Ok(opened) => opened,
            // The engine's threads can hold its file a moment longer.
            Err(Error::NoSpace { .. } | Error::Locked { .. }) => return Ok(Recovery::StillFull),
            Err(error) => return Err(error),
        };
        match opened.settle(&self.dir, &*self.medium) {
            Ok(settled) => {
                state.health = Health::Serving(settled.engine);
                state.mark = settled.mark;
                state.head = settled.head;
                Ok(Recovery::Ready(settled.records))
            }
            Err(Fault::NoSpace) => Ok(Recovery::StillFull),
            Err(fault) => Err(self.fail(&mut state, &fault)),
        }
    }

    fn maintain(&self, now: Timestamp, export: ExportWhen) -> Result<Maintenance> {
        let mut state = self.lock();
        let position = state.head.position;
        let due = export == ExportWhen::Now || state.schedule.is_due(now, position);
        if !due || matches!(state.health, Health::Full) {
            return Ok(Maintenance {
                export: Task::NotDue,
                rewrite: Task::NotDue,
            });
        }
        let engine = self.serving(&state)?;
        let exported = self.write_export(engine);
        state.schedule.ended(now, position, &exported);
        let (export, rewrite) = match exported {
            // Only with a fresh export at hand is the store itself touched.
            Ok(path) => (Task::Done(path), self.rewrite(&mut state)?),
            Err(error) => (Task::Failed(error), Task::NotDue),
        };
        Ok(Maintenance { export, rewrite })
    }
}

/// Makes `batch` durable. Returns the new head.
fn write(
    engine: &Engine,
    mark: &mut HighWater,
    medium: &dyn Medium,
    mut head: Head,
    batch: Batch,
) -> Result<Head, Fault> {
    head.position = head.position.after(&batch);
    let mut writes: Vec<(RawKey, Option<RawValue>)> = Vec::with_capacity(batch.changes.len() + 1);
    for (key, value) in batch.changes {
        let first = record::chunk_key(&key, 0);
        let old = engine
            .get(&first)?
            .map(|value| Stored::decode(&first, &value))
            .transpose()?;
        let (new, chunks) = value.map(|value| record::encode(&key, &value)).unzip();
        head.replace(old, new);
        writes.extend(
            chunks
                .into_iter()
                .flatten()
                .map(|(key, value)| (key, Some(value))),
        );
        let count = |stored: Option<Stored>| stored.map_or(0, |stored| stored.chunks);
        let leftover = count(new)..count(old);
        writes.extend(leftover.map(|chunk| (record::chunk_key(&key, chunk), None)));
    }
    writes.push((Head::key(), Some(head.encode())));
    engine.apply(writes)?;
    engine
        .sync(medium)
        .map_err(|error| sync_failed("store", error))?;
    mark.write(head.position, medium)
        .map_err(|error| sync_failed("high-water mark", error))?;
    Ok(head)
}

/// A failed sync is never lack of space: what was to be written may be gone from memory, too.
fn sync_failed(what: &str, error: io::Error) -> Fault {
    Fault::Io(io::Error::other(format!("cannot sync the {what}: {error}")))
}

#[cfg(test)]
mod tests;
