//! Opens a store and proves that everything is there that was ever acknowledged.

use super::{
    Error, Medium, Position, Records, Result,
    data_dir::DataDir,
    fault::Fault,
    high_water::{self, HighWater, Mark},
    record::{Assembly, Head},
    sled::{self, Engine},
};

/// A store that was opened and read in full.
pub(super) struct Opened {
    pub(super) engine: Engine,
    /// `None` for a store in which nothing was ever written.
    pub(super) found: Option<(Head, Records)>,
}

/// Opens the store and reads all of it.
///
/// # Errors
/// [`Error::Corrupt`], [`Error::TailMissing`] and [`Error::MarkMissing`] if not everything is
/// there, or nobody can tell.
pub(super) fn open(dir: &DataDir, medium: &dyn Medium) -> Result<Opened> {
    let mark_path = dir.mark();
    let mark = high_water::read(&mark_path).map_err(Error::io("read", &mark_path))?;
    let acknowledged = match mark {
        Mark::Absent => None,
        Mark::At(position) => Some(position),
        Mark::Unreadable => {
            let what = format!("its high-water mark {} cannot be read", mark_path.display());
            return Err(dir.corrupt(what));
        }
    };
    let nothing = Position::default();
    if !dir.has_store() && acknowledged.is_some() {
        // Opening would create an empty one.
        return Err(tail_missing(dir, nothing, acknowledged.unwrap_or(nothing)));
    }
    if !dir.has_store() && dir.has_exports() {
        let what = "it is gone, while exports of its state are there; to begin anew instead, move \
                    the directory `exports` away"
            .to_owned();
        return Err(dir.corrupt(what));
    }
    let opened = read(dir).map_err(|fault| dir.unusable(fault, medium))?;
    let found = opened
        .found
        .as_ref()
        .map_or(nothing, |(head, _)| head.position);
    match acknowledged {
        Some(acknowledged) if found < acknowledged => Err(tail_missing(dir, found, acknowledged)),
        // The first start may have ended before it made the mark.
        None if found > Position::START => Err(Error::MarkMissing {
            mark: mark_path,
            found,
            remedy: dir.remedy(),
        }),
        Some(_) | None => Ok(opened),
    }
}

fn tail_missing(dir: &DataDir, found: Position, expected: Position) -> Error {
    Error::TailMissing {
        found,
        expected,
        remedy: dir.remedy(),
    }
}

/// Reads the store, if need be without what the engine can do without: its snapshot is only a short
/// cut through the log, and whether the log tells the whole story is seen from the records.
fn read(dir: &DataDir) -> Result<Opened, Fault> {
    let store = dir.store();
    let read = || {
        let engine = Engine::open(&store)?;
        let found = read_all(&engine)?;
        Ok(Opened { engine, found })
    };
    match read() {
        Err(Fault::Corrupt(what)) if sled::set_aside(&store)? => {
            tracing::warn!(
                what,
                dir = %store.display(),
                "the store's snapshot, or its settings, cannot be read; it is opened without"
            );
            read()
        }
        result => result,
    }
}

/// What is left of a store whose end may be missing. Everything in it belongs together.
///
/// # Errors
/// [`Error::Corrupt`] if not even that.
pub(super) fn salvage(dir: &DataDir, medium: &dyn Medium) -> Result<Records> {
    let opened = read(dir).map_err(|fault| dir.unusable(fault, medium))?;
    match opened.found {
        Some((_, records)) => Ok(records),
        None => Err(dir.corrupt("nothing is in it".to_owned())),
    }
}

/// Reads everything that is stored, and proves that nothing is missing.
pub(super) fn read_all(engine: &Engine) -> Result<Option<(Head, Records)>, Fault> {
    let mut assembly = Assembly::default();
    engine.scan(|key, value| Ok(assembly.add(key, value)?))?;
    Ok(assembly.finish()?)
}

/// A store whose whole content is durable and marked as acknowledged.
pub(super) struct Settled {
    pub(super) engine: Engine,
    pub(super) mark: HighWater,
    pub(super) head: Head,
    pub(super) records: Records,
}

impl Opened {
    /// Makes what was found durable and marks it as acknowledged: from here on it is shown to
    /// others, even if it was written just before a crash and never acknowledged.
    pub(super) fn settle(self, dir: &DataDir, medium: &dyn Medium) -> Result<Settled, Fault> {
        let Self { engine, found } = self;
        let (head, records) = match found {
            Some(found) => found,
            None => {
                let head = Head::empty(Position::START);
                engine.apply([(Head::key(), Some(head.encode()))])?;
                (head, Records::none(Position::START))
            }
        };
        engine.sync(medium)?;
        let mark = HighWater::create(&dir.mark(), head.position, medium)?;
        Ok(Settled {
            engine,
            mark,
            head,
            records,
        })
    }
}
