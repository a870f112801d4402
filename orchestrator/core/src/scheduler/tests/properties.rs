//! What must hold in any cluster, against a reference that is slow and simple.

use std::{collections::BTreeMap, sync::Arc};

use proptest::{prelude::*, sample::subsequence};
use windlass_api::{
    ids::NodeName,
    quantity::{CpuMillis, MemoryBytes},
    resource::{Capacity, Goal, Scheduling},
    status::{NodeState, Phase},
};

use super::{
    super::{
        Group, Scheduler, needs,
        placing::Placing,
        score::{NodeScore, Population},
        standing,
        table::NodeIndex,
    },
    fixture::*,
};
use crate::{
    cluster::Cluster,
    record::{Change, InstanceRecord, NodeRecord},
};

/// A cluster and what is to be placed in it.
#[derive(Debug, Clone)]
struct Case {
    nodes: Vec<NodeRecord>,
    images: Vec<(NodeName, Arc<Vec<String>>)>,
    services: Vec<Service>,
    instances: Vec<InstanceRecord>,
    count: usize,
}

impl Case {
    fn cluster(&self) -> Cluster {
        let mut cluster = cluster(self.nodes.clone());
        for (node, images) in &self.images {
            cluster.apply(&Change::Images(node.clone(), Some(Arc::clone(images))));
        }
        for service in &self.services {
            add_revision(&mut cluster, service, 1);
        }
        for instance in &self.instances {
            add_instance(&mut cluster, instance.clone());
        }
        cluster
    }
}

fn any_node(index: usize) -> impl Strategy<Value = NodeRecord> {
    let label =
        |values: &'static [&'static str]| prop::option::weighted(0.8, prop::sample::select(values));
    let state = prop_oneof![
        8 => Just(NodeState::Ready),
        1 => Just(NodeState::Lost { since: now(), waited: Default::default() }),
        1 => Just(NodeState::RuntimeUnhealthy { reason: "hangs".to_owned() }),
    ];
    let amounts = (0..=4_u64, 0..=4_u64);
    let flags = (
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
        0..4_usize,
    );
    let labels = (label(&["eu", "us"]), label(&["1", "2", "3"]));
    (labels, state, amounts, flags).prop_map(move |(labels, state, amounts, flags)| {
        let (cordoned, tainted, engine) = flags;
        let mut node = node(&format!("n{index}"));
        node.labels
            .extend(labels.0.map(|zone| ("zone".to_owned(), zone.to_owned())));
        node.labels
            .extend(labels.1.map(|rack| ("rack".to_owned(), rack.to_owned())));
        node.capacity.cpu = CpuMillis(amounts.0 * 1_000);
        node.capacity.memory = MemoryBytes(amounts.1 << 30);
        node.info.engine_id = format!("engine-{engine}");
        node.state = state;
        node.taints = if tainted {
            vec!["gpu".parse().unwrap()]
        } else {
            Vec::new()
        };
        node.scheduling = if cordoned {
            Scheduling::Cordoned
        } else {
            Scheduling::Enabled
        };
        node
    })
}

fn any_service(name: &'static str) -> impl Strategy<Value = Service> {
    let spread = subsequence(
        vec!["node.labels.zone", "node.labels.rack", "node.name"],
        0..=3,
    );
    let rules = (
        prop::option::weighted(0.3, 1..4_u32),
        prop::sample::select(vec!["Spread", "BinPack"]),
        prop::option::weighted(0.2, Just("gpu")),
        prop::option::weighted(0.2, Just("node.labels.zone != us")),
    );
    let needs = (
        0..=1_500_u32,
        0..=1_500_u32,
        prop::option::weighted(0.3, 80..82_u16),
    );
    (spread, rules, needs).prop_map(move |(spread, rules, (cpu, memory, port))| {
        let (max, strategy, tolerate, require) = rules;
        let max = max.map_or(String::new(), |max| format!(r#""maxPerNode": {max}, "#));
        let ports = port.map_or(String::new(), |port| {
            format!(r#"{{"container": 1, "host": {port}}}"#)
        });
        let list = |value: Option<&str>| value.map(|v| format!("{v:?}")).unwrap_or_default();
        let spec = format!(
            r#""ports": [{ports}], "resources": {{"cpu": "{cpu}m", "memory": "{memory}Mi"}},
            "placement": {{{max}"strategy": "{strategy}", "spread": {spread:?},
                "tolerate": [{}], "require": [{}]}}"#,
            list(tolerate),
            list(require),
        );
        Service::new(name, &spec)
    })
}

/// An instance of one of two services on one of `nodes` nodes, or on one that is gone.
fn any_instance(nodes: usize) -> impl Strategy<Value = (usize, InstanceRecord)> {
    let goal = prop_oneof![4 => Just(Goal::Run), 1 => Just(Goal::Stop)];
    (0..2_usize, 0..=nodes, goal, prop::bool::weighted(0.2)).prop_map(
        |(service, node, goal, failed)| {
            let mut instance = instance(&Service::new("any", ""), &format!("n{node}"), 0);
            instance.goal = goal;
            if failed {
                instance.status.phase = Phase::Failed {
                    reason: "exit code 1".to_owned(),
                };
            }
            (service, instance)
        },
    )
}

fn any_case() -> impl Strategy<Value = Case> {
    (0..8_usize).prop_flat_map(|size| {
        let nodes: Vec<_> = (0..size).map(any_node).collect();
        let images = prop::collection::vec(prop::bool::ANY, size);
        let services = (any_service("web"), any_service("db"));
        let instances = prop::collection::vec(any_instance(size), 0..8);
        (nodes, images, services, instances, 0..30_usize).prop_map(case)
    })
}

type Parts = (
    Vec<NodeRecord>,
    Vec<bool>,
    (Service, Service),
    Vec<(usize, InstanceRecord)>,
    usize,
);

fn case((nodes, images, services, instances, count): Parts) -> Case {
    let images = nodes.iter().zip(images).filter(|(_, has_image)| *has_image);
    let images = images.map(|(node, _)| (node.name.clone(), Arc::new(vec!["app:1".to_owned()])));
    let services = vec![services.0, services.1];
    let named = |(serial, (service, record)): (usize, (usize, InstanceRecord))| {
        let like: &Service = &services[service];
        let InstanceRecord { id, workload, .. } = instance(like, "n0", serial as u64);
        InstanceRecord {
            id,
            workload,
            ..record
        }
    };
    let instances = instances.into_iter().enumerate().map(named).collect();
    Case {
        images: images.collect(),
        nodes,
        services,
        instances,
        count,
    }
}

/// What one instance uses on its node: its needs, and its host ports with the engine.
#[derive(Default)]
struct Usage {
    needs: BTreeMap<NodeName, Capacity>,
    ports: BTreeMap<(String, u16), usize>,
    instances: BTreeMap<NodeName, u32>,
}

impl Usage {
    fn add(&mut self, cluster: &Cluster, service: &Service, node: &NodeName) {
        let Some(record) = cluster.nodes.get(node) else {
            return;
        };
        let wanted = needs(&service.template);
        let sum = self.needs.entry(node.clone()).or_default();
        sum.cpu.0 += wanted.cpu.0;
        sum.memory.0 += wanted.memory.0;
        for port in service.template.ports().filter_map(|port| port.host) {
            *self
                .ports
                .entry((record.info.engine_id.clone(), port))
                .or_default() += 1;
        }
    }

    /// That of the instances which the case begins with. Only those of `service` count for the
    /// limit per node.
    fn before(case: &Case, cluster: &Cluster, service: &Service) -> Self {
        let mut usage = Self::default();
        for instance in &case.instances {
            let node = instance.node.as_ref().unwrap();
            let of = case
                .services
                .iter()
                .find(|s| s.key == instance.workload)
                .unwrap();
            usage.add(cluster, of, node);
            if of.key == service.key {
                *usage.instances.entry(node.clone()).or_default() += 1;
            }
        }
        usage
    }

    /// Whether an instance of `service` may be added on `node`.
    fn allows(&self, service: &Service, node: &NodeRecord) -> bool {
        let placement = &service.placement;
        let wanted = needs(&service.template);
        let used = self.needs.get(&node.name).copied().unwrap_or_default();
        let enough = |wanted: u64, used: u64, of: u64| wanted == 0 || used + wanted <= of;
        let free = |port: u16| {
            !self
                .ports
                .contains_key(&(node.info.engine_id.clone(), port))
        };
        let instances = self.instances.get(&node.name).copied().unwrap_or_default();
        node.state == NodeState::Ready
            && node.scheduling == Scheduling::Enabled
            && node
                .taints
                .iter()
                .all(|taint| placement.tolerate.iter().any(|t| t.covers(taint)))
            && placement
                .require
                .iter()
                .all(|requirement| requirement.is_met_by(node.facts()))
            && enough(wanted.cpu.0, used.cpu.0, node.capacity.cpu.0)
            && enough(wanted.memory.0, used.memory.0, node.capacity.memory.0)
            && service
                .template
                .ports()
                .filter_map(|port| port.host)
                .all(free)
            && placement.max_per_node.is_none_or(|max| instances < max)
    }
}

/// The whole score of a node, as `score.rs` orders its parts.
fn score(placing: &Placing<'_>, node: NodeIndex) -> (u32, Vec<Population>, NodeScore) {
    let value_of = |node: NodeIndex, depth: usize| {
        let facts = placing.table().node(node).record.facts();
        let attributes = &placing.group().placement.spread[..=depth];
        attributes
            .iter()
            .map(|attribute| attribute.of(facts))
            .collect::<Vec<_>>()
    };
    let populations = (0..placing.group().placement.spread.len()).map(|depth| {
        let domain = value_of(node, depth);
        let within = |(other, copies)| (value_of(other, depth) == domain).then_some(copies);
        let copies = placing.copies().into_iter().filter_map(within).sum();
        if domain[depth].is_some() {
            Population::Of(copies)
        } else {
            Population::Unlabelled(copies)
        }
    });
    (
        placing.failures(node),
        populations.collect(),
        placing.score(node),
    )
}

/// Places one instance after the other, each time comparing all nodes.
fn place_by_comparing_all(cluster: &Cluster, group: &Group<'_>, count: usize) -> Vec<NodeName> {
    let mut table = super::super::table::Table::new(cluster);
    let standings = standing::standings(cluster, &table, group, &[], now());
    let mut placing = Placing::new(&mut table, group, standings);
    let mut nodes = Vec::new();
    for _ in 0..count {
        let fitting = (0..placing.table().len()).filter(|node| placing.fits(*node));
        let Some(best) = fitting.min_by_key(|node| score(&placing, *node)) else {
            break;
        };
        placing.occupy(best);
        nodes.push(placing.table().node(best).record.name.clone());
    }
    nodes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

    /// Capacity, host ports, the limit per node and all that a node must be in itself hold after
    /// each placement; and when some are left over, no node can take one.
    #[test]
    fn every_placement_is_allowed_and_none_is_missed(case in any_case()) {
        let cluster = case.cluster();
        let service = &case.services[0];
        let placed = place(&cluster, service, case.count);
        let mut usage = Usage::before(&case, &cluster, service);
        for node in &placed.nodes {
            prop_assert!(usage.allows(service, &cluster.nodes[node]), "{node}");
            usage.add(&cluster, service, node);
            *usage.instances.entry(node.clone()).or_default() += 1;
        }
        prop_assert_eq!(placed.nodes.len() < case.count, placed.unplaced.is_some());
        if let Some(explanation) = placed.unplaced {
            prop_assert!(!cluster.nodes.values().any(|node| usage.allows(service, node)));
            let failed: usize = explanation.failed.values().map(|failure| failure.nodes).sum();
            prop_assert_eq!((explanation.nodes, failed), (cluster.nodes.len(), cluster.nodes.len()));
        }
    }

    #[test]
    fn each_choice_is_the_best_there_is(case in any_case()) {
        let cluster = case.cluster();
        let service = &case.services[0];
        let expected = place_by_comparing_all(&cluster, &service.group(), case.count);
        prop_assert_eq!(place(&cluster, service, case.count).nodes, expected);
    }

    /// Placing one by one leads to the same as placing all at once.
    #[test]
    fn what_was_placed_counts_like_what_is_there(case in any_case()) {
        let cluster = case.cluster();
        let service = &case.services[0];
        let mut scheduler = Scheduler::new(&cluster, now());
        let one_by_one: Vec<_> =
            (0..case.count).flat_map(|_| scheduler.place(&service.group(), 1).nodes).collect();
        prop_assert_eq!(place(&cluster, service, case.count).nodes, one_by_one);
    }

    #[test]
    fn the_order_in_which_things_came_does_not_matter(case in any_case()) {
        let mut backwards = case.clone();
        backwards.nodes.reverse();
        backwards.images.reverse();
        backwards.services.reverse();
        backwards.instances.reverse();
        let service = &case.services[0];
        let one = place(&case.cluster(), service, case.count);
        let other = place(&backwards.cluster(), service, case.count);
        prop_assert_eq!(&one, &other);
        prop_assert_eq!(&one, &place(&case.cluster(), service, case.count));
    }

    /// A replacement goes where its predecessor is, if it is allowed there without it.
    #[test]
    fn a_replacement_takes_the_room_of_its_predecessor(case in any_case()) {
        let cluster = case.cluster();
        let service = &case.services[0];
        for old in case.instances.iter().filter(|old| old.workload == service.key) {
            let node = old.node.as_ref().unwrap();
            let mut without = case.clone();
            without.instances.retain(|instance| instance.id != old.id);
            let usage = Usage::before(&without, &cluster, service);
            let allowed = cluster.nodes.get(node).is_some_and(|n| usage.allows(service, n));
            let found = Scheduler::new(&cluster, now()).place_instead_of(&service.group(), old);
            prop_assert_eq!(found, allowed.then(|| node.clone()));
        }
    }

    #[test]
    fn with_ample_room_domains_differ_by_one_at_most(
        racks in prop::collection::vec(0..4_usize, 1..12),
        count in 0..50_usize,
    ) {
        let nodes = racks.iter().enumerate().map(|(i, rack)| {
            labelled(&format!("n{i}"), &[("rack", &rack.to_string())])
        });
        let cluster = cluster(nodes);
        let web = Service::new("web", r#""placement": {"spread": ["node.labels.rack"]}"#);
        let mut copies: BTreeMap<usize, usize> = racks.iter().map(|rack| (*rack, 0)).collect();
        for node in chosen(&cluster, &web, count) {
            let index: usize = node[1..].parse().unwrap();
            *copies.entry(racks[index]).or_default() += 1;
        }
        let (least, most) = (copies.values().min(), copies.values().max());
        prop_assert_eq!(copies.values().sum::<usize>(), count);
        prop_assert!(most.unwrap() - least.unwrap() <= 1, "{copies:?}");
    }
}
