//! The automatic exports beside the store: when they are due, which are kept.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};
use windlass_api::ids::{Epoch, Version};

use super::{Error, Position, Records, Result, data_dir::sync_dir, export};

/// How old the newest export may get while the state changes. What was changed since is what a
/// lost disk costs beyond it; an hour's changes can still be told from memory.
const INTERVAL: SignedDuration = SignedDuration::from_hours(1);

/// When an export that failed is tried again.
const RETRY: SignedDuration = SignedDuration::from_mins(5);

/// How many are kept: enough to go back before a mistake that was noticed within hours.
const KEPT: usize = 5;

const PREFIX: &str = "state-";
const SUFFIX: &str = ".windlass-export";

/// When the next export is due.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    last: Option<(Timestamp, Position)>,
    failed_at: Option<Timestamp>,
}

impl Schedule {
    pub(super) fn is_due(&self, now: Timestamp, position: Position) -> bool {
        // A clock that went back must not put exports off.
        let passed = |since: Timestamp, wait| now < since || now.duration_since(since) >= wait;
        let changed =
            |&(at, exported): &(_, Position)| exported != position && passed(at, INTERVAL);
        self.last.as_ref().is_none_or(changed) && self.failed_at.is_none_or(|at| passed(at, RETRY))
    }

    pub(super) fn ended<T>(&mut self, now: Timestamp, position: Position, result: &Result<T>) {
        if result.is_ok() {
            self.last = Some((now, position));
            self.failed_at = None;
        } else {
            self.failed_at = Some(now);
        }
    }
}

/// Writes an export into `dir`, reads it back, and removes those that are too many.
pub(super) fn write(dir: &Path, records: &Records) -> Result<PathBuf> {
    let path = dir.join(name(records.position()));
    let unfinished = dir.join("unfinished");
    let written = write_file(&unfinished, records).and_then(|()| {
        fs::rename(&unfinished, &path).map_err(Error::io("rename", &unfinished))?;
        sync_dir(dir).map_err(Error::io("sync", dir))
    });
    if written.is_err() && unfinished.exists() {
        fs::remove_file(&unfinished).map_err(Error::io("remove", &unfinished))?;
    }
    written?;
    let kept = list(dir)?;
    for (_, old) in kept.iter().rev().skip(KEPT) {
        fs::remove_file(old).map_err(Error::io("remove", old))?;
    }
    Ok(path)
}

fn write_file(path: &Path, records: &Records) -> Result<()> {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(Error::io("create", path))?;
    let mut out = BufWriter::new(file);
    let written = export::write(&mut out, records).and_then(|summary| {
        out.flush()?;
        out.get_ref().sync_all()?;
        Ok(summary)
    });
    let written = written.map_err(Error::io("write", path))?;
    let read = export::verify_export(path)?;
    if written == read {
        Ok(())
    } else {
        let path = path.to_owned();
        let what = "it is not what was written".to_owned();
        Err(Error::BadExport { path, what })
    }
}

/// The newest export in `dir` that is whole.
pub(super) fn newest_usable(dir: &Path) -> Option<(Position, PathBuf)> {
    // A directory that cannot be listed offers none.
    let exports = list(dir).unwrap_or_default();
    let mut newest_first = exports.into_iter().rev();
    newest_first.find(|(_, path)| export::verify_export(path).is_ok())
}

/// The exports in `dir`, the oldest first.
pub(super) fn list(dir: &Path) -> Result<Vec<(Position, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let path = entry.map_err(Error::io("list", dir))?.path();
        let position = path.file_name().and_then(|name| parse(name.to_str()?));
        found.extend(position.map(|position| (position, path)));
    }
    found.sort();
    Ok(found)
}

/// The epoch comes first: after a restore lower versions are newer.
fn name(position: Position) -> String {
    format!("{PREFIX}{}-{}{SUFFIX}", position.epoch, position.version)
}

fn parse(name: &str) -> Option<Position> {
    let (epoch, version) = name
        .strip_prefix(PREFIX)?
        .strip_suffix(SUFFIX)?
        .split_once('-')?;
    Some(Position {
        epoch: Epoch(epoch.parse().ok()?),
        version: Version(version.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(epoch: u64, version: u64) -> Records {
        Records {
            version: Version(version),
            epoch: Epoch(epoch),
            records: Vec::new(),
        }
    }

    #[test]
    fn the_newest_five_are_kept_and_a_damaged_one_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        for (epoch, version) in [(1, 8), (1, 9), (1, 10), (1, 100), (2, 7), (2, 11)] {
            write(dir.path(), &records(epoch, version)).unwrap();
        }
        let kept = list(dir.path()).unwrap();
        let kept: Vec<_> = kept
            .iter()
            .map(|(at, _)| (at.epoch.0, at.version.0))
            .collect();
        assert_eq!(kept, [(1, 9), (1, 10), (1, 100), (2, 7), (2, 11)]);

        let newest = dir.path().join("state-2-11.windlass-export");
        let usable = || newest_usable(dir.path()).map(|(_, path)| path);
        assert_eq!(usable(), Some(newest.clone()));
        fs::write(newest, "{").unwrap();
        assert_eq!(usable(), Some(dir.path().join("state-2-7.windlass-export")));
    }

    #[test]
    fn an_export_is_due_at_start_and_an_hour_after_a_change() {
        let now = Timestamp::UNIX_EPOCH;
        let at = |version| records(1, version).position();
        let mut schedule = Schedule::default();
        assert!(schedule.is_due(now, at(1)));
        schedule.ended(now, at(1), &Ok(()));
        let later = now + INTERVAL;
        assert!(!schedule.is_due(later, at(1)), "nothing changed");
        assert!(
            !schedule.is_due(later - SignedDuration::from_secs(1), at(2)),
            "too early"
        );
        assert!(schedule.is_due(later, at(2)));
        assert!(
            schedule.is_due(now - INTERVAL, at(2)),
            "the clock went back"
        );

        let what = String::new();
        schedule.ended(later, at(2), &Err::<(), _>(Error::Failed { what }));
        assert!(!schedule.is_due(later, at(2)), "it has just failed");
        assert!(schedule.is_due(later + RETRY, at(2)));
    }
}
