//! What lies where in a server's data directory.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::{
    Error, Landed, Medium, RESERVE_BYTES, Remedy, Result, exports, fault::Fault, lock, record, sled,
};

/// Nobody else on the machine may read the state.
const MODE: u32 = 0o700;

/// The data directory.
#[derive(Debug, Clone)]
pub(super) struct DataDir {
    root: PathBuf,
}

impl DataDir {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Makes what is missing of the directories, and closes ours to others.
    pub(super) fn create(root: &Path) -> Result<Self> {
        let dir = Self::new(root);
        for path in [root, &dir.store(), &dir.exports()] {
            let made = DirBuilder::new().recursive(true).mode(MODE).create(path);
            made.map_err(Error::io("create", path))?;
        }
        for path in [dir.store(), dir.exports()] {
            fs::set_permissions(&path, fs::Permissions::from_mode(MODE))
                .map_err(Error::io("set the permissions of", &path))?;
        }
        dir.sync()?;
        Ok(dir)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The engine's directory.
    pub(super) fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// Where a new store is written before it takes the place of the old one.
    pub(super) fn new_store(&self) -> PathBuf {
        self.root.join("store.new")
    }

    /// Where the `n`th restore keeps the store that it replaced.
    pub(super) fn replaced_store(&self, n: u64) -> PathBuf {
        self.root.join(format!("store.replaced-{n}"))
    }

    /// The numbers of the replaced stores that are kept.
    pub(super) fn replaced_stores(&self) -> Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(Error::io("list", &self.root))? {
            let name = entry.map_err(Error::io("list", &self.root))?.file_name();
            let number = name
                .to_str()
                .and_then(|name| name.strip_prefix("store.replaced-"));
            numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        Ok(numbers)
    }

    /// The high-water mark.
    pub(super) fn mark(&self) -> PathBuf {
        self.root.join("hwm")
    }

    /// The automatic exports.
    pub(super) fn exports(&self) -> PathBuf {
        self.root.join("exports")
    }

    /// Whether there are exports, of whatever state.
    pub(super) fn has_exports(&self) -> bool {
        // A directory that cannot be listed offers none.
        exports::list(&self.exports()).is_ok_and(|exports| !exports.is_empty())
    }

    pub(super) fn has_store(&self) -> bool {
        sled::exists(&self.store())
    }

    /// Makes renamed and created entries durable.
    pub(super) fn sync(&self) -> Result<()> {
        sync_dir(&self.root).map_err(Error::io("sync", &self.root))
    }

    /// Keeps other processes out for as long as the file is open.
    pub(super) fn lock(&self) -> Result<File> {
        let path = self.root.join("store.lock");
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        let held = || match lock::is_held(&file).map_err(Error::io("lock", &path))? {
            true => Err(self.locked()),
            false => Ok(()),
        };
        lock::patiently(held, |error| matches!(error, Error::Locked { .. }))?;
        Ok(file)
    }

    /// Refuses a write of `bytes` if that would leave less than the reserve.
    pub(super) fn require_space(&self, medium: &dyn Medium, bytes: u64) -> Result<()> {
        let available = medium
            .available_bytes(&self.root)
            .map_err(Error::io("see how much space is free in", &self.root))?;
        if available < RESERVE_BYTES.saturating_add(bytes) {
            return Err(self.no_space(medium, bytes, Landed::No));
        }
        Ok(())
    }

    pub(super) fn no_space(&self, medium: &dyn Medium, bytes: u64, landed: Landed) -> Error {
        Error::NoSpace {
            dir: self.root.clone(),
            // Unknown is as good as none where there is too little anyway.
            available_bytes: medium.available_bytes(&self.root).unwrap_or(0),
            needed_bytes: RESERVE_BYTES.saturating_add(bytes),
            landed,
        }
    }

    /// What it means that the store cannot be opened or read.
    pub(super) fn unusable(&self, fault: Fault, medium: &dyn Medium) -> Error {
        match fault {
            Fault::NoSpace => self.no_space(medium, 0, Landed::No),
            Fault::Locked => self.locked(),
            Fault::Io(source) => Error::io("open the store", &self.store())(source),
            Fault::Corrupt(what) => self.corrupt(what),
            Fault::UnknownFormat(found) => Error::UnknownFormat {
                what: format!("the store in {}", self.root.display()),
                found: found.into(),
                known: record::FORMAT.into(),
            },
        }
    }

    pub(super) fn corrupt(&self, what: String) -> Error {
        let remedy = self.remedy();
        Error::Corrupt { what, remedy }
    }

    pub(super) fn remedy(&self) -> Remedy {
        Remedy {
            data_dir: self.root.clone(),
            newest_export: exports::newest_usable(&self.exports()),
        }
    }

    fn locked(&self) -> Error {
        Error::Locked {
            dir: self.root.clone(),
        }
    }
}

/// Makes the entries of a directory durable.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
