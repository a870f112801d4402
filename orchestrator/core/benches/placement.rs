//! How fast bursts of instances are placed, in groups of 1,000, on one core.
//!
//! Run it with `cargo bench -p windlass-core --bench placement`; the column of items per second
//! counts instances.

use std::{collections::BTreeMap, sync::Arc};

use divan::{Bencher, black_box, counter::ItemsCount};
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;
use windlass_api::{
    ids::{AgentId, ClusterId, InstanceId, RevisionNumber, Slot, Version, WorkloadKey},
    quantity::{CpuMillis, MemoryBytes},
    resource::{Capacity, Goal, Manifest, NodeInfo, Scheduling},
    spec::{Placement, WorkloadSpec},
    status::{InstanceStatus, NodeState, Phase},
    template::InstanceTemplate,
};
use windlass_core::{
    cluster::Cluster,
    record::{
        Accounted, Change, Declared, InstanceRecord, NodeRecord, RevisionKey, RevisionRecord,
    },
    scheduler::{Group, Scheduler},
};

#[path = "shape/case.rs"]
mod case;

use case::Case;

const GROUP: usize = 1_000;
const NODES_PER_RACK: usize = 40;
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn main() {
    divan::main();
}

const CASES: [Case; 4] = [
    Case::new(1_000, 10_000),
    Case::new(1_000, 100_000),
    Case::new(10_000, 10_000),
    Case::new(10_000, 100_000),
];

struct Service {
    key: WorkloadKey,
    placement: Placement,
    template: Arc<InstanceTemplate>,
}

impl Service {
    fn new(index: usize, placement: &serde_json::Value) -> Self {
        let manifest = Manifest::from_json(json!({
            "kind": "Service",
            "name": format!("service-{index}"),
            "spec": {
                "image": "app:1",
                "resources": { "cpu": "100m", "memory": "64Mi" },
                "placement": placement,
            },
        }));
        let manifest = manifest.expect("the manifest is well-formed");
        let WorkloadSpec::Service(spec) = &manifest.spec else {
            panic!("the benchmark has services");
        };
        Self {
            key: manifest.key(),
            placement: spec.placement.clone(),
            template: Arc::new(manifest.spec.template(0)),
        }
    }
}

fn services(count: usize, placement: &serde_json::Value) -> Vec<Service> {
    (0..count)
        .map(|index| Service::new(index, placement))
        .collect()
}

fn node(index: usize) -> NodeRecord {
    let labels = [
        ("zone".to_owned(), format!("zone-{}", index % 3)),
        (
            "rack".to_owned(),
            format!("rack-{}", index / NODES_PER_RACK),
        ),
    ];
    NodeRecord {
        name: format!("node-{index:05}").parse().expect("it is a name"),
        labels: labels.into(),
        taints: Vec::new(),
        declared: Declared::default(),
        scheduling: Scheduling::Enabled,
        state: NodeState::Ready,
        state_since: NOW,
        info: NodeInfo {
            agent_id: AgentId(Uuid::nil()),
            agent_version: "0".to_owned(),
            engine_id: format!("engine-{index}"),
            boot_id: "boot".to_owned(),
            engine_version: "0".to_owned(),
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
        },
        // Room for the largest burst on the smallest cluster, and nodes of several sizes.
        capacity: Capacity {
            cpu: CpuMillis(16_000 << (index % 3)),
            memory: MemoryBytes(16 << (30 + index % 3)),
        },
        rejects: None,
        sight: Default::default(),
        returned_at: None,
        created_at: NOW,
        version: Version(1),
    }
}

fn cluster(nodes: usize) -> Cluster {
    let mut cluster = Cluster::new(ClusterId(Uuid::nil()));
    for node in (0..nodes).map(node) {
        let images = (0..20).map(|image| format!("app:{image}")).collect();
        cluster.apply(&Change::Images(node.name.clone(), Some(Arc::new(images))));
        cluster.apply(&Change::Node(node.name.clone(), Some(Arc::new(node))));
    }
    cluster
}

/// Runs `count` instances of each service, on one node after the other.
fn run(cluster: &mut Cluster, services: &[Service], count: usize) {
    let nodes: Vec<_> = cluster.nodes.keys().cloned().collect();
    let mut nodes = nodes.iter().cycle();
    for service in services {
        let key = RevisionKey {
            workload: service.key.clone(),
            number: RevisionNumber(1),
        };
        let template = Arc::clone(&service.template);
        let record = RevisionRecord {
            key: key.clone(),
            template,
            created_at: NOW,
            good_since: None,
            images: BTreeMap::new(),
        };
        cluster.apply(&Change::Revision(key, Some(Arc::new(record))));
        for slot in (0..count as u32).map(Slot) {
            let id = InstanceId::new(&service.key.name, slot, cluster.instances.len() as u64);
            let record = InstanceRecord {
                id: id.clone(),
                workload: service.key.clone(),
                slot,
                revision: RevisionNumber(1),
                pinned: None,
                node: nodes.next().cloned(),
                goal: Goal::Run,
                stop_generation: None,
                created_at: NOW,
                phase_since: NOW,
                ready_since: Some(NOW),
                moved_at: None,
                status: InstanceStatus::new(Phase::Running { started_at: NOW }),
                accounted: Accounted::default(),
                images: BTreeMap::new(),
                relocation: None,
                version: Version(1),
            };
            cluster.apply(&Change::Instance(id, Some(Arc::new(record))));
        }
    }
}

fn place(bencher: Bencher<'_, '_>, case: Case, placement: &serde_json::Value) {
    let cluster = cluster(case.nodes);
    let services = services(case.instances / GROUP, placement);
    bencher
        .counter(ItemsCount::new(case.instances))
        .with_inputs(|| Scheduler::new(&cluster, NOW))
        .bench_local_refs(|scheduler| {
            for Service {
                key,
                placement,
                template,
            } in &services
            {
                let placed = scheduler.place(
                    &Group {
                        workload: key,
                        revision: RevisionNumber(1),
                        placement,
                        template,
                    },
                    GROUP,
                );
                assert_eq!(placed.nodes.len(), GROUP);
                black_box(placed);
            }
        });
}

#[divan::bench(args = CASES, sample_count = 10)]
fn spread(bencher: Bencher<'_, '_>, case: Case) {
    place(bencher, case, &json!({}));
}

#[divan::bench(args = CASES, sample_count = 10)]
fn spread_over_racks(bencher: Bencher<'_, '_>, case: Case) {
    place(bencher, case, &json!({ "spread": ["node.labels.rack"] }));
}

#[divan::bench(args = CASES, sample_count = 10)]
fn spread_over_zones_and_racks(bencher: Bencher<'_, '_>, case: Case) {
    place(
        bencher,
        case,
        &json!({ "spread": ["node.labels.zone", "node.labels.rack"] }),
    );
}

#[divan::bench(args = CASES, sample_count = 10)]
fn bin_pack(bencher: Bencher<'_, '_>, case: Case) {
    place(bencher, case, &json!({ "strategy": "BinPack" }));
}

/// What each planning pass begins with.
#[divan::bench(args = CASES, sample_count = 10)]
fn count_what_is_used(bencher: Bencher<'_, '_>, case: Case) {
    let mut cluster = cluster(case.nodes);
    run(
        &mut cluster,
        &services(case.instances / GROUP, &json!({})),
        GROUP,
    );
    bencher
        .counter(ItemsCount::new(case.instances))
        .bench_local(|| Scheduler::new(black_box(&cluster), NOW));
}
