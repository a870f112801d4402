//! A server that comes back with an older state removes nothing until an operator accepts it.

use std::{path::Path, process::Command, time::Duration};

use crate::harness::{Cluster, demo, engine};

/// The ids of the containers of a cluster that run, in order.
fn running(id: &str) -> Vec<String> {
    let mut ids = engine::running(id);
    ids.sort();
    ids
}

/// A cluster with `web`, that then gets another state, in which `web` has another revision and
/// there is `late`, too; `go_back` puts the state in place that was there when `remember` was
/// called. Neither runs while the server does.
fn comes_back_older(
    remember: impl FnOnce(&mut Cluster),
    go_back: impl FnOnce(&Cluster),
    cause: &str,
) {
    let mut cluster = Cluster::start(1);
    let id = cluster.id();
    cluster.apply(&demo("kept", ""));
    cluster.apply(&demo("web", ""));
    remember(&mut cluster);
    cluster.apply(&demo("web", "env: { NEWER: yes }"));
    cluster.apply(&demo("late", "replicas: 2"));
    let before = running(&id);
    assert_eq!(before.len(), 4);
    cluster.stop_server();
    go_back(&cluster);
    cluster.start_server();

    cluster.eventually("the agent keeps back", |cluster| {
        cluster.ok(&["get", "nodes"]).contains("keeps back")
    });
    cluster.always("everything runs on", Duration::from_secs(5), |_| {
        running(&id) == before
    });
    let status = cluster.ok(&["cluster", "status"]);
    assert!(status.contains(cause), "{status}");
    assert!(
        status.contains("windlass cluster accept-restore"),
        "{status}"
    );
    // Not even what an operator asks for is removed, nor by an agent that lost its ledger.
    cluster.ok(&["delete", "--no-wait", "kept"]);
    cluster.stop_agent(0);
    std::fs::remove_file(cluster.dir.path().join("n1/ledger.json")).unwrap();
    cluster.start_agent(0);
    cluster.always("everything still runs", Duration::from_secs(3), |_| {
        running(&id) == before
    });

    cluster.ok(&["cluster", "accept-restore"]);
    let web = |cluster: &Cluster| cluster.workload("web")["status"]["settled"] == true;
    cluster.eventually("what is known is so", web);
    // A copy of the older revision is started anew: none of what ran stays.
    cluster.eventually(
        "the rest is removed",
        |_| matches!(&*running(&id), [only] if !before.contains(only)),
    );
    assert!(!cluster.ok(&["get", "nodes"]).contains("keeps back"));
    let again = cluster.windlass(&["cluster", "accept-restore"]);
    assert!(!again.status.success());
    // It works as any other from here on.
    cluster.apply(&demo("late", "replicas: 2"));
    assert_eq!(running(&id).len(), 3);
}

#[test]
fn a_restored_backup_stops_nothing_until_it_is_accepted() {
    let file = tempfile::TempDir::new().unwrap();
    let backup = file.path().join("backup");
    let backup = backup.to_str().unwrap();
    comes_back_older(
        |cluster| {
            cluster.ok(&["backup", "create", backup]);
            cluster.ok(&["backup", "verify", backup]);
        },
        |cluster| {
            let dir = cluster.server_dir();
            let dir = dir.to_str().unwrap();
            let refused = cluster.windlass(&["backup", "restore", backup, "--data-dir", dir]);
            assert!(!refused.status.success(), "the store is usable");
            cluster.ok(&["backup", "restore", backup, "--data-dir", dir, "--replace"]);
        },
        "from an export",
    );
}

/// As when a virtual machine is set back to a snapshot: nobody tells the server.
#[test]
fn a_disk_that_came_back_older_stops_nothing_until_it_is_accepted() {
    let kept = tempfile::TempDir::new().unwrap();
    let copy = |from: &Path, to: &Path| {
        let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
        assert!(copied.unwrap().success());
    };
    let aside = kept.path().join("server");
    comes_back_older(
        |cluster| {
            cluster.stop_server();
            copy(&cluster.server_dir(), &aside);
            cluster.start_server();
        },
        |cluster| {
            std::fs::remove_dir_all(cluster.server_dir()).unwrap();
            copy(&aside, &cluster.server_dir());
        },
        "older than what node n1 has seen",
    );
}
