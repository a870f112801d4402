//! What needs processes of its own: a writer that is killed, a check of a damaged store. This
//! program starts itself again as those, so it has its own `main`.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::FileExt,
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use windlass_api::ids::Version;
use windlass_orchestrator::store::{
    Batch, DiskStore, Error, Guard, Key, Store, Verifier, verify_process,
};

/// How often the writer is killed.
const KILLS: u64 = 100;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    match args[..] {
        [_, "child-verify", dir] => return verify_process(Path::new(dir)),
        [_, "child-write", dir] => write_for_ever(Path::new(dir)),
        _ => {}
    }
    for (name, test) in [
        (
            "a_killed_writer_loses_no_acknowledged_write",
            killed_writer as fn(),
        ),
        ("a_flipped_bit_is_harmless_or_found", flipped_bits),
        ("a_cut_file_is_found", cut_files),
    ] {
        print!("test {name} ... ");
        std::io::stdout().flush().unwrap();
        test();
        println!("ok");
    }
    ExitCode::SUCCESS
}

/// A reproducible source of arbitrary numbers (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// The batch that leads to `version`: some puts, some of them large, and some deletes.
fn batch(version: u64) -> Vec<(Key, Option<Vec<u8>>)> {
    let mut random = Random(version.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let changes = (0..1 + random.below(8)).map(|_| {
        let key = Key::new("t", random.below(60));
        let size = match random.below(20) {
            0 => 30_000,
            _ => random.below(1_500),
        };
        let value = (random.below(5) > 0).then(|| vec![version as u8; size as usize]);
        (key, value)
    });
    // Of several changes to a key the last counts, as in a batch.
    changes.collect::<BTreeMap<_, _>>().into_iter().collect()
}

fn commit(store: &DiskStore, version: u64) {
    let mut next = Batch::new(Version(version));
    for (key, value) in batch(version) {
        match value {
            Some(value) => next.put(key, value),
            None => next.delete(key),
        }
    }
    store
        .commit(next, Guard::Version(Version(version - 1)))
        .unwrap();
}

/// The state after all batches up to `version`.
fn state(version: u64) -> Vec<(Key, Vec<u8>)> {
    let mut state = BTreeMap::new();
    for (key, value) in (1..=version).flat_map(batch) {
        match value {
            Some(value) => state.insert(key, value),
            None => state.remove(&key),
        };
    }
    state.into_iter().collect()
}

/// Says each version that is acknowledged.
fn write_for_ever(dir: &Path) {
    let store = DiskStore::open(dir, None).unwrap();
    let mut version = store.load().unwrap().version.0;
    loop {
        version += 1;
        commit(&store, version);
        println!("{version}");
    }
}

fn killed_writer() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random(0x5eed);
    let mut acknowledged = 0;
    for round in 0..KILLS {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .arg("child-write")
            .arg(dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let wait_for = random.below(40);
        let mut said: Vec<u64> = Vec::new();
        while (said.len() as u64) < wait_for {
            said.push(lines.next().unwrap().unwrap().parse().unwrap());
        }
        std::thread::sleep(Duration::from_micros(random.below(3_000)));
        writer.kill().unwrap();
        writer.wait().unwrap();
        // Lines are written whole.
        said.extend(lines.map(|line| line.unwrap().parse::<u64>().unwrap()));
        acknowledged = said.last().copied().unwrap_or(acknowledged);

        let store = DiskStore::open(dir.path(), None).unwrap();
        let found = store.load().unwrap();
        let version = found.version.0;
        assert!(
            version >= acknowledged,
            "round {round}: {acknowledged} became {version}"
        );
        assert!(
            version <= acknowledged + 1,
            "round {round}: {version} was never acknowledged"
        );
        assert!(
            found.records == state(version),
            "round {round}: version {version} is not whole"
        );
        acknowledged = version;
    }
    assert!(
        acknowledged > KILLS,
        "the writer was always killed too early"
    );
}

/// A closed store and its state's version.
fn closed_store() -> (tempfile::TempDir, u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut version = 0;
    // Reopened in between, so that there is a snapshot with something in it.
    for _ in 0..2 {
        let store = DiskStore::open(dir.path(), None).unwrap();
        for _ in 0..60 {
            version += 1;
            commit(&store, version);
        }
    }
    (dir, version)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    Harmless,
    Damage,
}

/// Opens a copy of the store that was changed, as a server does.
fn open_changed(store: &Path, version: u64, change: impl FnOnce(&Path)) -> Found {
    let dir = tempfile::tempdir().unwrap();
    copy(store, dir.path());
    change(dir.path());
    let verifier = Verifier {
        program: std::env::current_exe().unwrap(),
        args: vec!["child-verify".into()],
        limit: Verifier::LIMIT,
    };
    match DiskStore::open(dir.path(), Some(&verifier)) {
        Ok(store) => {
            let records = store.load().unwrap();
            assert!(records.version == Version(version) && records.records == state(version));
            Found::Harmless
        }
        Err(Error::Corrupt { .. } | Error::TailMissing { .. }) => Found::Damage,
        Err(error) => panic!("{error}"),
    }
}

/// Where the last byte lies that was ever written to.
fn used_bytes(store: &Path) -> u64 {
    let data = fs::read(store.join("store/db")).unwrap();
    let end = data.iter().rposition(|byte| *byte != 0).unwrap();
    end as u64 + 1
}

/// Opens a copy of the store in which one bit of a file was flipped, within its first bytes.
fn open_flipped(store: &Path, version: u64, file: &Path, used: u64, random: &mut Random) -> Found {
    let (offset, bit) = (random.below(used), random.below(8));
    open_changed(store, version, |dir| {
        let file = fs::File::options()
            .read(true)
            .write(true)
            .open(dir.join(file))
            .unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ (1 << bit)], offset).unwrap();
    })
}

fn flipped_bits() {
    let (dir, version) = closed_store();
    let used = used_bytes(dir.path());
    let mut random = Random(0xb17);
    let mut found = 0;
    for _ in 0..150 {
        let db = Path::new("store/db");
        let opened = open_flipped(dir.path(), version, db, used, &mut random);
        found += u64::from(opened == Found::Damage);
    }
    assert!(found > 0, "no flipped bit did any harm in {used} bytes");
    // The store can do without the other files, or there are two of what counts in them.
    let snapshot = fs::read_dir(dir.path().join("store")).unwrap();
    let snapshot = snapshot
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .find(|name| name.starts_with("snap."))
        .expect("there is a snapshot");
    for name in [
        "hwm".into(),
        "store/conf".into(),
        format!("store/{snapshot}"),
    ] {
        let file = Path::new(&name);
        let length = fs::metadata(dir.path().join(file)).unwrap().len();
        for _ in 0..30 {
            let opened = open_flipped(dir.path(), version, file, length, &mut random);
            assert_eq!(opened, Found::Harmless, "in {name}");
        }
    }
}

fn cut_files() {
    let (dir, version) = closed_store();
    let used = used_bytes(dir.path());
    for part in 0..40 {
        let length = used * part / 40;
        let opened = open_changed(dir.path(), version, |dir| {
            let file = fs::File::options()
                .write(true)
                .open(dir.join("store/db"))
                .unwrap();
            file.set_len(length).unwrap();
        });
        assert_eq!(opened, Found::Damage, "cut to {length} of {used} bytes");
    }
}
