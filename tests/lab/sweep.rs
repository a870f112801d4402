//! Removes whatever a lab left: processes, mounts, namespaces, control groups, files. It finds all of
//! that by itself, so that a lab whose process was killed is removed by the next one.

use std::{
    collections::{BTreeSet, HashSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::{
    mount::{UnmountFlags, unmount},
    process::{Pid, Signal, kill_process},
};

use crate::harness::namespace::Namespace;

use super::site::Site;

/// Where the kernel shows control groups.
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";
/// How often, 50 ms apart, it is tried until nothing is left: an engine takes a moment to die.
const ATTEMPTS_MAX: usize = 200;

/// Removes what a lab left at its site.
pub(crate) fn sweep(site: &Site) {
    let (dir, group) = (&site.dir(), &site.group());
    let namespaces = Namespace::with_prefix(&site.prefix());
    let inodes: BTreeSet<u64> = namespaces
        .iter()
        .filter_map(|namespace| Some(fs::metadata(namespace.path()).ok()?.ino()))
        .collect();
    until_nothing_is_left("processes", || {
        let processes = processes(&inodes, group);
        for pid in &processes {
            // It may have ended meanwhile.
            let _ = kill_process(*pid, Signal::KILL);
        }
        processes.is_empty()
    });
    until_nothing_is_left("mounts", || {
        let mounts = mounts_below(dir);
        for mount in mounts.iter().rev() {
            let _ = unmount(mount, UnmountFlags::DETACH);
        }
        mounts.is_empty()
    });
    for namespace in namespaces {
        namespace.delete();
    }
    until_nothing_is_left("control groups", || {
        let groups: Vec<PathBuf> = hierarchies(group).collect();
        for group in &groups {
            remove_group(group);
        }
        groups.iter().all(|group| !group.exists())
    });
    until_nothing_is_left("files", || {
        let _ = fs::remove_dir_all(dir);
        !dir.exists()
    });
}

fn until_nothing_is_left(what: &str, mut remove: impl FnMut() -> bool) {
    for _ in 0..ATTEMPTS_MAX {
        if remove() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    // No panic: it may be called during one, and whoever comes next tries again.
    eprintln!("the lab could not remove its {what}");
}

/// The processes in our networks, and those in our containers, which have networks of their own.
fn processes(namespaces: &BTreeSet<u64>, group: &str) -> HashSet<Pid> {
    let in_network = |pid: &Pid| {
        let network = format!("/proc/{}/ns/net", pid.as_raw_nonzero());
        fs::metadata(network).is_ok_and(|network| namespaces.contains(&network.ino()))
    };
    let all = fs::read_dir("/proc").into_iter().flatten();
    let all = all.filter_map(|entry| parse(entry.ok()?.file_name().to_str()?));
    let mut processes: HashSet<Pid> = all.filter(in_network).collect();
    for group in hierarchies(group) {
        in_group(&group, &mut processes);
    }
    processes.remove(&rustix::process::getpid());
    processes
}

/// Our control group, in every hierarchy that there is.
fn hierarchies(group: &str) -> impl Iterator<Item = PathBuf> {
    let root = Path::new(CONTROL_GROUPS);
    let split = fs::read_dir(root).into_iter().flatten();
    let split = split.filter_map(|entry| Some(entry.ok()?.path()));
    std::iter::once(root.to_owned())
        .chain(split)
        .map(move |hierarchy| hierarchy.join(group))
        .filter(|group| group.is_dir())
}

fn in_group(group: &Path, processes: &mut HashSet<Pid>) {
    let listed = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    processes.extend(listed.lines().filter_map(parse));
    for below in groups_in(group) {
        in_group(&below, processes);
    }
}

fn remove_group(group: &Path) {
    for below in groups_in(group) {
        remove_group(&below);
    }
    let _ = fs::remove_dir(group);
}

/// The control groups in another one.
pub(super) fn groups_in(group: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(group).into_iter().flatten();
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .collect()
}

fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    places
        .map(PathBuf::from)
        .filter(|place| place.starts_with(dir))
        .collect()
}

fn parse(pid: &str) -> Option<Pid> {
    Pid::from_raw(pid.parse().ok()?)
}

/// All that was there when the process of a lab was killed is removed by the next one, which begins
/// like this.
#[test]
#[ignore = "needs root, and makes a lab"]
fn nothing_is_left_of_a_lab_that_was_killed() {
    let mut lab = super::Lab::start(1);
    lab.apply(&crate::harness::demo("web", "replicas: 2"));
    lab.give_up();
    let site = lab.site();
    sweep(site);
    assert!(Namespace::with_prefix(&site.prefix()).is_empty());
    assert_eq!(hierarchies(&site.group()).count(), 0);
    assert_eq!(mounts_below(&site.dir()), Vec::<PathBuf>::new());
    assert!(!site.dir().exists());
    let of_lab = |pid: &Pid| {
        let args = fs::read_to_string(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
        args.is_ok_and(|args| args.contains(&*site.dir().to_string_lossy()))
    };
    let all = fs::read_dir("/proc").expect("a list").flatten();
    let mut all = all.filter_map(|entry| parse(entry.file_name().to_str()?));
    assert_eq!(all.find(of_lab), None);
}
