//! Puts an export in the place of a store.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use windlass_api::ids::Epoch;

use super::{
    Error, Medium, Position, Records, Result, Summary, SystemMedium, Verifier,
    data_dir::DataDir,
    export, exports,
    high_water::{self, HighWater, Mark},
    opening, rewrite,
};

/// What a restore does with a store that is usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Refuses to replace it.
    Refuse,
    /// Moves it aside.
    MoveAside,
}

/// Makes the state of `export` that of the server in `data_dir`, in a new epoch. The export is
/// read in full before anything is touched. The store that was there is kept beside the new one
/// as `store.replaced-<n>`, only the last one.
///
/// Ended in the middle by a crash it leaves a directory in which no server starts, and which says
/// to restore again.
///
/// # Errors
/// [`Error::BadExport`], [`Error::Usable`], [`Error::Locked`] and [`Error::NoSpace`] changed
/// nothing.
pub fn restore(
    export: &Path,
    data_dir: &Path,
    existing: Existing,
    verifier: Option<&Verifier>,
) -> Result<Summary> {
    let medium = &SystemMedium;
    let records = export::read(export)?;
    let dir = DataDir::create(data_dir)?;
    let _lock = dir.lock()?;
    if existing == Existing::Refuse && dir.has_store() {
        refuse_usable(&dir, verifier, medium)?;
    }
    let position = Position {
        epoch: next_epoch(&dir, &records)?,
        version: records.version,
    };
    rewrite::build(&dir, &records, position, medium)?;
    put_in_place(&dir)?;
    let mark_path = dir.mark();
    HighWater::create(&mark_path, position, medium).map_err(Error::io("write", &mark_path))?;
    Ok(Summary {
        position,
        ..records.summary()
    })
}

/// Makes what is left of a store that no server opens an automatic export, for [`restore()`].
/// Returns its path. The store stays as it is.
///
/// # Errors
/// [`Error::Corrupt`] if what is left does not belong together, [`Error::Locked`], and
/// [`Error::NoSpace`].
pub fn salvage(data_dir: &Path, verifier: Option<&Verifier>) -> Result<(PathBuf, Summary)> {
    let medium = &SystemMedium;
    let dir = DataDir::new(data_dir);
    if !dir.has_store() {
        return Err(Error::io("find a store in", data_dir)(
            io::ErrorKind::NotFound.into(),
        ));
    }
    let dir = DataDir::create(data_dir)?;
    let _lock = dir.lock()?;
    verifier.map_or(Ok(()), |verifier| verifier.check(&dir))?;
    let records = opening::salvage(&dir, medium)?;
    dir.require_space(medium, records.bytes().saturating_mul(2))?;
    let path = exports::write(&dir.exports(), &records)?;
    Ok((path, records.summary()))
}

/// Only a store that is known to be damaged may be replaced without being asked for.
fn refuse_usable(dir: &DataDir, verifier: Option<&Verifier>, medium: &dyn Medium) -> Result<()> {
    let checked = verifier.map_or(Ok(()), |verifier| verifier.check(dir));
    match checked.and_then(|()| opening::open(dir, medium)) {
        // One in which nothing was ever written is no loss.
        Ok(opened) => opened.found.map_or(Ok(()), |(head, _)| {
            Err(Error::Usable {
                dir: dir.root().to_owned(),
                position: head.position,
            })
        }),
        Err(Error::Corrupt { .. } | Error::TailMissing { .. } | Error::MarkMissing { .. }) => {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// An epoch that no state of this server has had, as far as can be told.
fn next_epoch(dir: &DataDir, records: &Records) -> Result<Epoch> {
    let path = dir.mark();
    let marked = match high_water::read(&path).map_err(Error::io("read", &path))? {
        Mark::At(position) => Some(position.epoch),
        Mark::Absent | Mark::Unreadable => None,
    };
    let exported = exports::list(&dir.exports())?;
    let exported = exported.iter().map(|(position, _)| position.epoch).max();
    let newest = marked.max(exported).max(Some(records.epoch));
    Ok(Epoch(newest.map_or(0, |epoch| epoch.0) + 1))
}

fn put_in_place(dir: &DataDir) -> Result<()> {
    let (old, new) = (dir.store(), dir.new_store());
    let replaced = dir.replaced_stores()?;
    if dir.has_store() {
        let aside = dir.replaced_store(replaced.iter().max().map_or(1, |n| n + 1));
        fs::rename(&old, &aside).map_err(Error::io("move aside", &old))?;
        for number in replaced {
            let path = dir.replaced_store(number);
            fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
        }
    } else {
        // `rename` replaces an empty directory; what else is in this one is no store.
        fs::remove_dir_all(&old).map_err(Error::io("remove", &old))?;
    }
    fs::rename(&new, &old).map_err(Error::io("put in place", &new))?;
    dir.sync()
}
