//! A container engine: what a node has, and what it makes of calls.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use windlass_agent::runtime::{
    Container, ContainerId, ContainerState, EngineInfo, Error, ErrorKind, Healthcheck, Part,
};
use windlass_api::{
    ids::{InstanceId, NodeName, Slot, WorkloadKey},
    image::ImageRef,
    quantity::{CpuMillis, MemoryBytes},
    resource::Capacity,
    status::Exit,
    wire::AssignedInstance,
};

/// What each node can carry.
pub(crate) const CAPACITY: Capacity = Capacity {
    cpu: CpuMillis(4_000),
    memory: MemoryBytes(4 << 30),
};

/// Whether an engine answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    Fine,
    Slow,
    /// Calls are answered by their time limit, and may have an effect.
    Hangs,
    /// Calls fail at once.
    Down,
}

/// What a program does, by the name of its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// Runs on.
    Serves,
    /// Is healthy some time after its start, as its image's own check says.
    HealthyLater,
    /// Is never healthy.
    NeverHealthy,
    /// Ends with an error soon after its start.
    Crashes,
    /// Ends well soon after its start.
    Completes,
}

impl Program {
    pub(crate) fn of(image: &str) -> Self {
        let name = image.rsplit('/').next().unwrap_or(image);
        match name.split(':').next().unwrap_or(name) {
            "later" => Self::HealthyLater,
            "never" => Self::NeverHealthy,
            "crash" => Self::Crashes,
            "job" => Self::Completes,
            _ => Self::Serves,
        }
    }

    /// Whether what runs it is well in the end.
    pub(crate) fn is_good(self) -> bool {
        match self {
            Self::Serves | Self::HealthyLater | Self::Completes => true,
            Self::NeverHealthy | Self::Crashes => false,
        }
    }
}

/// What is known of a container besides what an agent sees.
#[derive(Debug)]
struct Facts {
    program: Program,
    /// The slot that it fills, if it is to be the only one there.
    exclusive: Option<(WorkloadKey, Slot)>,
    /// Whether its agent stops it by itself without a server.
    needs_server: bool,
}

/// The engine of a node.
#[derive(Debug)]
pub(crate) struct Engine {
    node: NodeName,
    pub(crate) containers: BTreeMap<ContainerId, Container>,
    facts: BTreeMap<ContainerId, Facts>,
    pub(crate) images: BTreeSet<String>,
    pub(crate) health: Health,
    pub(crate) loses_events: bool,
    serial: u64,
    /// When a container was last changed on somebody's word.
    pub(crate) changed_at: Duration,
}

impl Engine {
    pub(crate) fn new(node: NodeName) -> Self {
        Self {
            node,
            containers: BTreeMap::new(),
            facts: BTreeMap::new(),
            images: BTreeSet::new(),
            health: Health::Fine,
            loses_events: false,
            serial: 0,
            changed_at: Duration::ZERO,
        }
    }

    pub(crate) fn info(&self) -> EngineInfo {
        EngineInfo {
            id: format!("engine-{}", self.node),
            version: "1".to_owned(),
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
            capacity: CAPACITY,
        }
    }

    pub(crate) fn fetch(&mut self, image: &ImageRef) -> Result<(), Error> {
        let name = image.to_string();
        if name.contains("missing") {
            return Err(error(ErrorKind::ImageMissing, "no registry has it"));
        }
        self.images.insert(name);
        Ok(())
    }

    /// Creates a container. Content with one that is there.
    pub(crate) fn create(
        &mut self,
        assigned: &AssignedInstance,
        part: &Part,
    ) -> Result<ContainerId, Error> {
        let same = |c: &&Container| {
            c.instance == assigned.id && c.part == *part && c.revision == assigned.revision
        };
        if let Some(there) = self.containers.values().find(same) {
            return Ok(there.id.clone());
        }
        let image = match part {
            Part::Named(name) => {
                let container = assigned.template.container(name);
                container.map(|c| c.image.to_string()).unwrap_or_default()
            }
            Part::Pause => "pause:1".to_owned(),
        };
        if *part != Part::Pause && !self.images.contains(&image) {
            return Err(error(ErrorKind::ImageMissing, "the image is not there"));
        }
        self.serial += 1;
        let id = ContainerId(format!("{}-c{}", self.node, self.serial));
        let container = Container {
            id: id.clone(),
            instance: assigned.id.clone(),
            part: part.clone(),
            namespace: assigned.workload.namespace.clone(),
            revision: assigned.revision,
            image_id: format!("sha256:{image}"),
            image_digest: None,
            address: None,
            stop_grace: assigned.template.stop_grace_period,
            stop_rank: part.stop_rank(&assigned.template),
            pre_stop: None,
            volumes: Vec::new(),
            healthcheck: None,
            state: ContainerState::Created,
        };
        let slot = (assigned.workload.clone(), assigned.slot);
        let facts = Facts {
            program: Program::of(&image),
            exclusive: assigned.template.exclusive.then_some(slot),
            needs_server: assigned.template.exclusive || assigned.template.stop_after.is_some(),
        };
        self.facts.insert(id.clone(), facts);
        self.containers.insert(id.clone(), container);
        Ok(id)
    }

    /// Starts a container. Returns its program, unless it runs.
    pub(crate) fn start(
        &mut self,
        id: &ContainerId,
        wall: Timestamp,
    ) -> Result<Option<Program>, Error> {
        let program = self.program(id);
        let Some(container) = self.containers.get_mut(id) else {
            return Err(error(
                ErrorKind::NoSuchContainer,
                "there is no such container",
            ));
        };
        if matches!(container.state, ContainerState::Running { .. }) {
            return Ok(None);
        }
        container.state = ContainerState::Running { started_at: wall };
        container.healthcheck = match program {
            Program::HealthyLater | Program::NeverHealthy => Some(Healthcheck::Starting),
            Program::Serves | Program::Crashes | Program::Completes => None,
        };
        Ok(Some(program))
    }

    /// A container ends, if it runs.
    pub(crate) fn end(&mut self, id: &ContainerId, code: i64, wall: Timestamp) -> bool {
        let Some(container) = self.containers.get_mut(id) else {
            return false;
        };
        let ContainerState::Running { started_at } = container.state else {
            return false;
        };
        let exit = Exit {
            code,
            oom_killed: false,
            reason: None,
            finished_at: wall,
        };
        container.state = ContainerState::Exited { started_at, exit };
        container.healthcheck = None;
        true
    }

    /// The check of an image found it healthy, if that run goes on.
    pub(crate) fn healthy(&mut self, id: &ContainerId, run: Timestamp) -> bool {
        match self.containers.get_mut(id) {
            Some(container) if container.run() == Some(run) && container.healthcheck.is_some() => {
                container.healthcheck = Some(Healthcheck::Healthy);
                true
            }
            Some(_) | None => false,
        }
    }

    pub(crate) fn remove(&mut self, id: &ContainerId) {
        self.containers.remove(id);
        self.facts.remove(id);
    }

    pub(crate) fn program(&self, id: &ContainerId) -> Program {
        self.facts.get(id).map_or(Program::Serves, |f| f.program)
    }

    /// The slot that a container fills alone, and its instance, if it is to be alone.
    pub(crate) fn exclusive(
        &self,
        id: &ContainerId,
    ) -> Option<(&(WorkloadKey, Slot), &InstanceId)> {
        let slot = self.facts.get(id)?.exclusive.as_ref()?;
        Some((slot, &self.containers.get(id)?.instance))
    }

    /// Whether the agent of a container stops it by itself without a server.
    pub(crate) fn needs_server(&self, id: &ContainerId) -> bool {
        self.facts.get(id).is_some_and(|facts| facts.needs_server)
    }

    /// Whether it does what it is asked.
    pub(crate) fn is_fine(&self) -> bool {
        self.health == Health::Fine
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &Container> {
        let runs = |c: &&Container| matches!(c.state, ContainerState::Running { .. });
        self.containers.values().filter(runs)
    }

    pub(crate) fn runs(&self, instance: &InstanceId) -> bool {
        self.running().any(|c| c.instance == *instance)
    }
}

/// Why a call failed.
pub(crate) fn error(kind: ErrorKind, message: &str) -> Error {
    Error {
        kind,
        message: message.to_owned(),
    }
}
