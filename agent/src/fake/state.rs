//! What a pretended engine has, and what it was told to do.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use windlass_api::{
    ids::{InstanceId, Namespace, VolumeName},
    status::Exit,
    wire::AssignedInstance,
};

use super::Call;
use crate::runtime::{Container, ContainerId, ContainerState, Error, ExecOutput, Owner, Part};

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) containers: BTreeMap<ContainerId, (Owner, Container)>,
    /// The images' ids by their names.
    pub(super) images: BTreeMap<String, String>,
    pub(super) remote_images: BTreeSet<String>,
    pub(super) namespaces: BTreeSet<Namespace>,
    pub(super) volumes: BTreeSet<(InstanceId, VolumeName)>,
    pub(super) logs: BTreeMap<InstanceId, Vec<Bytes>>,
    pub(super) execs: BTreeMap<Vec<String>, Exec>,
    pub(super) executed: Vec<(ContainerId, Vec<String>)>,
    pub(super) started: Vec<ContainerId>,
    pub(super) crashing: BTreeMap<InstanceId, i64>,
    pub(super) delays: BTreeMap<Call, Duration>,
    pub(super) late: BTreeMap<Call, Duration>,
    pub(super) failures: BTreeMap<Call, VecDeque<Error>>,
    pub(super) panics: BTreeSet<Call>,
    pub(super) calls: BTreeMap<Call, usize>,
    pub(super) reached: Vec<String>,
    pub(super) events_lost: bool,
    pub(super) serial: u64,
}

/// What a command does.
#[derive(Debug, Clone)]
pub(super) struct Exec {
    pub(super) takes: Duration,
    pub(super) code: i64,
    pub(super) output: ExecOutput,
}

impl State {
    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Whether a container has a network: its own, or that of a pause container that runs.
    pub(super) fn has_network(&self, instance: &InstanceId, part: &Part) -> bool {
        let mut pauses = self
            .containers
            .values()
            .map(|(_, c)| c)
            .filter(|c| c.instance == *instance && c.part == Part::Pause)
            .peekable();
        *part == Part::Pause
            || pauses.peek().is_none()
            || pauses.any(|c| matches!(c.state, ContainerState::Running { .. }))
    }

    pub(super) fn add(
        &mut self,
        owner: &Owner,
        assigned: &AssignedInstance,
        part: &Part,
    ) -> ContainerId {
        let id = ContainerId(format!("c{:04}", self.next_serial()));
        let template = &assigned.template;
        let spec = match part {
            Part::Named(name) => template.container(name),
            Part::Pause => None,
        };
        let image = spec.map_or("pause".to_owned(), |spec| spec.image.with_tag());
        let container = Container {
            id: id.clone(),
            instance: assigned.id.clone(),
            part: part.clone(),
            namespace: assigned.workload.namespace.clone(),
            revision: assigned.revision,
            image_id: id_of(&image),
            image_digest: None,
            address: None,
            healthcheck: None,
            stop_grace: template.stop_grace_period,
            stop_rank: part.stop_rank(template),
            pre_stop: spec.and_then(|spec| spec.pre_stop.clone()),
            volumes: template.volumes.iter().map(|v| v.name.clone()).collect(),
            state: ContainerState::Created,
        };
        let mounts = spec.into_iter().flat_map(|spec| &spec.mounts);
        let mounted = mounts.map(|mount| (assigned.id.clone(), mount.volume.clone()));
        self.volumes.extend(mounted);
        self.namespaces.insert(container.namespace.clone());
        self.containers
            .insert(id.clone(), (owner.clone(), container));
        id
    }
}

/// The id that this engine gives to the image of a name.
pub(super) fn id_of(image: &str) -> String {
    format!("sha256:{:08x}", crc32c::crc32c(image.as_bytes()))
}

/// Ends a container that runs. Two ends at one time differ by a nanosecond, as on a real clock.
pub(super) fn end(container: &mut Container, code: i64, now: Timestamp, serial: u64) {
    if let ContainerState::Running { started_at } = container.state {
        let exit = Exit {
            code,
            oom_killed: false,
            reason: None,
            finished_at: now + Duration::from_nanos(serial),
        };
        container.state = ContainerState::Exited { started_at, exit };
    }
}
