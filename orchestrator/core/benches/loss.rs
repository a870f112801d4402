//! How long the core takes to decide when a node is lost, and when nothing happened, in a large
//! cluster, on one core.
//!
//! Run it with `cargo bench -p windlass-core --bench loss`.

use divan::{Bencher, black_box};
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;
use windlass_api::{
    ids::{ClusterId, Generation, NodeName, Uid},
    quantity::CpuMillis,
    resource::Manifest,
    spec::WorkloadSpec,
    status::{InstanceStatus, Phase, Readiness},
    wire::{Hello, Observed, ObservedInstance, PROTOCOL, Scope as Told},
};
use windlass_core::{
    cluster::Cluster,
    command::{self, agent},
    plan::{Scope, plan},
    transaction::Transaction,
};

#[path = "shape/case.rs"]
mod case;

use case::Case;

/// How many replicas each service has.
const REPLICAS: usize = 1_000;
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn main() {
    divan::main();
}

const CASES: [Case; 2] = [Case::new(1_000, 10_000), Case::new(10_000, 100_000)];

fn name(index: usize) -> NodeName {
    format!("node-{index:05}").parse().expect("it is a name")
}

fn hello(index: usize) -> Hello {
    let hello = json!({
        "protocol": PROTOCOL, "node": name(index),
        "info": {
            "agentId": Uuid::from_u128(index as u128), "agentVersion": "0",
            "engineId": format!("engine-{index}"), "engineVersion": "0",
            "os": "linux", "arch": "x86_64",
        },
        "capacity": { "cpu": "16", "memory": "32Gi" }, "labels": {}, "taints": [],
        "cluster": null, "seen": null, "runtime": { "state": "healthy" },
    });
    serde_json::from_value(hello).expect("a greeting")
}

fn service(index: usize) -> Manifest {
    let manifest = json!({
        "kind": "Service", "name": format!("service-{index}"),
        "spec": {
            "image": "app:1", "replicas": REPLICAS,
            "resources": { "cpu": "100m", "memory": "64Mi" },
        },
    });
    Manifest::from_json(manifest).expect("the manifest is well-formed")
}

/// A cluster in which everything is placed and runs, and nothing is left to be done.
fn cluster(case: Case) -> Cluster {
    let mut txn = Transaction::new(&Cluster::new(ClusterId(Uuid::nil())), NOW);
    for index in 0..case.nodes {
        agent::hello(&mut txn, &hello(index)).expect("it is let in");
    }
    for index in 0..case.instances / REPLICAS {
        let uid = Uid(Uuid::from_u128(index as u128));
        command::apply(&mut txn, &[service(index)], &[uid]).expect("it is valid");
    }
    plan(&mut txn, &Scope::All);
    let mut running = InstanceStatus::new(Phase::Running { started_at: NOW });
    running.readiness = Readiness::Ready;
    for index in 0..case.nodes {
        let node = name(index);
        let placed = txn.cluster().instances_on(&node);
        let instances = placed.map(|instance| ObservedInstance {
            id: instance.id.clone(),
            status: running.clone(),
        });
        let observed = Observed {
            scope: Told::Full,
            instances: instances.collect(),
            gone: Vec::new(),
            generation: Generation(1),
        };
        agent::observed(&mut txn, &node, &observed);
    }
    plan(&mut txn, &Scope::All);
    let cluster = txn.finish().0;
    assert_eq!(cluster.instances.len(), case.instances);
    cluster
}

/// All that was on the node is replaced.
#[divan::bench(args = CASES, sample_count = 10, sample_size = 1)]
fn a_node_is_lost(bencher: Bencher<'_, '_>, case: Case) {
    let cluster = cluster(case);
    let lost = name(case.nodes / 2);
    let there = cluster.instances_on(&lost).count();
    assert!(there > 0);
    bencher
        .with_inputs(|| Transaction::new(&cluster, NOW))
        .bench_local_values(|mut txn| {
            agent::lose(&mut txn, &lost);
            let report = plan(&mut txn, &Scope::All);
            assert!(report.steps.len() >= there);
            black_box(txn)
        });
}

/// The periodic pass.
#[divan::bench(args = CASES, sample_count = 10, sample_size = 1)]
fn nothing_happened(bencher: Bencher<'_, '_>, case: Case) {
    let cluster = cluster(case);
    bencher
        .with_inputs(|| Transaction::new(&cluster, NOW))
        .bench_local_values(|mut txn| {
            let report = plan(&mut txn, &Scope::All);
            assert!(report.steps.is_empty() && txn.is_empty());
            black_box(txn)
        });
}

/// One of many services gets one more replica.
#[divan::bench(args = CASES, sample_count = 10, sample_size = 1)]
fn a_service_is_scaled(bencher: Bencher<'_, '_>, case: Case) {
    let cluster = cluster(case);
    let key = service(0).key();
    bencher
        .with_inputs(|| Transaction::new(&cluster, NOW))
        .bench_local_values(|mut txn| {
            let wanted = u32::try_from(REPLICAS).expect("it is small") + 1;
            command::scale(&mut txn, &key, wanted, None).expect("it is there");
            let report = plan(&mut txn, &Scope::Workloads([key.clone()].into()));
            assert_eq!(report.steps.len(), 1);
            black_box(txn)
        });
}

/// An instance is not ready any more, while as many as there are wait for a place that is nowhere.
#[divan::bench(args = [CASES[0]], sample_count = 10, sample_size = 1)]
fn a_report_while_others_wait(bencher: Bencher<'_, '_>, case: Case) {
    let mut txn = Transaction::new(&cluster(case), NOW);
    let waiting = case.instances / REPLICAS;
    for index in waiting..2 * waiting {
        let mut manifest = service(index);
        if let WorkloadSpec::Service(spec) = &mut manifest.spec {
            spec.resources.cpu = Some(CpuMillis(1_000_000));
        }
        let uid = Uid(Uuid::from_u128(index as u128));
        command::apply(&mut txn, &[manifest], &[uid]).expect("it is valid");
    }
    plan(&mut txn, &Scope::All);
    let cluster = txn.finish().0;
    assert_eq!(cluster.unplaced().count(), case.instances);
    let node = name(0);
    let instance = cluster.instances_on(&node).next().expect("it has some");
    let mut status = InstanceStatus::new(Phase::Running { started_at: NOW });
    status.readiness = Readiness::NotReady { reason: None };
    let observed = Observed {
        scope: Told::Delta,
        instances: vec![ObservedInstance {
            id: instance.id.clone(),
            status,
        }],
        gone: Vec::new(),
        generation: Generation(1),
    };
    bencher
        .with_inputs(|| Transaction::new(&cluster, NOW))
        .bench_local_values(|mut txn| {
            agent::observed(&mut txn, &node, &observed);
            let scope = Scope::of_changes(&cluster, &txn);
            plan(&mut txn, &scope);
            assert!(!txn.is_empty());
            black_box(txn)
        });
}
