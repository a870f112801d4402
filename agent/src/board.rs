//! What the agent knows at the moment, for its parts to read and be woken by.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use windlass_api::{
    ids::{AgentId, ClusterId, Generation, InstanceId},
    resource::{Capacity, NodeInfo},
    status::InstanceStatus,
    wire::RuntimeHealth,
};

use crate::{
    Offer,
    fence::{BootClock, Contact},
    history::Histories,
    probe::Memory,
    runtime::EngineInfo,
};

/// The latest of everything. Each part writes its own entries and reads those of others.
pub(crate) struct Board {
    /// The cluster, once it is known: from the ledger, or from the first server that lets us in.
    pub(crate) cluster: watch::Sender<Option<ClusterId>>,
    /// The machine, once its engine has told.
    pub(crate) machine: watch::Sender<Option<Machine>>,
    /// Whether the engine answers.
    pub(crate) health: watch::Sender<RuntimeHealth>,
    /// What the node has; `None` until the engine was seen.
    pub(crate) snapshot: watch::Sender<Option<Arc<Snapshot>>>,
    /// The images that the node has.
    pub(crate) images: watch::Sender<Arc<BTreeSet<String>>>,
    /// What is known of the contact with the server.
    pub(crate) contact: watch::Sender<Contact>,
    /// The clock that it is counted on.
    pub(crate) boot_clock: BootClock,
    /// What is remembered of instances.
    pub(crate) histories: watch::Sender<Histories>,
    /// What is remembered of the health of containers.
    pub(crate) health_memory: watch::Sender<Memory>,
}

/// The instances on the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// The assignment that is worked on.
    pub(crate) generation: Generation,
    /// The status of every instance that is assigned, or that something is left of.
    pub(crate) statuses: BTreeMap<InstanceId, InstanceStatus>,
}

/// A machine and its software.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Who it is.
    pub(crate) info: NodeInfo,
    /// What instances may use.
    pub(crate) capacity: Capacity,
}

impl Machine {
    /// What an engine tells of its machine, with the operator's word on how much may be used.
    pub(crate) fn new(agent: AgentId, engine: EngineInfo, offer: Offer) -> Self {
        Self {
            info: NodeInfo {
                agent_id: agent,
                agent_version: env!("CARGO_PKG_VERSION").to_owned(),
                engine_id: engine.id,
                // Told when it is said: the rest may be from before.
                boot_id: String::new(),
                engine_version: engine.version,
                os: engine.os,
                arch: engine.arch,
            },
            capacity: offer.of(engine.capacity),
        }
    }
}

impl Board {
    /// What is known at the start, from the disk.
    pub(crate) fn new(
        cluster: Option<ClusterId>,
        machine: Option<Machine>,
        histories: Histories,
        boot_clock: BootClock,
    ) -> Self {
        Self {
            cluster: watch::Sender::new(cluster),
            machine: watch::Sender::new(machine),
            health: watch::Sender::new(RuntimeHealth::Unhealthy {
                reason: "the container engine was not asked yet".to_owned(),
            }),
            snapshot: watch::Sender::new(None),
            images: watch::Sender::new(Arc::default()),
            contact: watch::Sender::default(),
            boot_clock,
            histories: watch::Sender::new(histories),
            health_memory: watch::Sender::default(),
        }
    }
}

/// Publishes `value`, and wakes readers only if it is another one.
pub(crate) fn publish<T: PartialEq>(to: &watch::Sender<T>, value: T) {
    to.send_if_modified(|current| {
        let changed = *current != value;
        if changed {
            *current = value;
        }
        changed
    });
}
