//! Values that tests of several modules need.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;
use tokio::{io::DuplexStream, sync::mpsc};
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};
use uuid::Uuid;
use windlass_api::{
    duration::Span,
    ids::{ClusterId, Epoch, Generation, InstanceId, NodeName, RevisionNumber, Slot, WorkloadKey},
    resource::Goal,
    template::InstanceTemplate,
    wire::{AssignedInstance, AssignmentFrame, Removals},
};

use crate::{
    dial::{self, ConnectError, Dial, DialError},
    history::Member,
    ledger::Held,
    runtime::{Container, ContainerId, ContainerState, Owner, Part, StopRank},
};

pub(crate) fn cluster() -> ClusterId {
    ClusterId(Uuid::from_u128(7))
}

pub(crate) fn node() -> NodeName {
    "n1".parse().unwrap()
}

pub(crate) fn owner() -> Owner {
    Owner {
        cluster: cluster(),
        node: node(),
    }
}

pub(crate) fn id(text: &str) -> InstanceId {
    text.parse().unwrap()
}

/// The only container of an instance.
pub(crate) fn main_of(instance: &str) -> Member {
    Member {
        instance: id(instance),
        part: Part::only(),
    }
}

/// The only container of an instance of the first revision, as an engine has it.
pub(crate) fn seen(instance: &str, container: &str, state: ContainerState) -> Container {
    Container {
        id: ContainerId(container.to_owned()),
        instance: id(instance),
        part: Part::only(),
        namespace: Default::default(),
        revision: RevisionNumber(1),
        image_id: "sha256:1".to_owned(),
        image_digest: None,
        address: None,
        healthcheck: None,
        stop_grace: Span::from_secs(7),
        stop_rank: StopRank::FIRST,
        pre_stop: None,
        volumes: Vec::new(),
        state,
    }
}

/// An instance of `web` that is to run, made from [`template`].
pub(crate) fn instance(id: &str) -> AssignedInstance {
    AssignedInstance {
        id: id.parse().unwrap(),
        workload: WorkloadKey::new(Default::default(), "web".parse().unwrap()),
        slot: Slot(0),
        revision: RevisionNumber(1),
        goal: Goal::Run,
        template: Arc::new(template()),
        images: BTreeMap::new(),
    }
}

/// Runs `web:1`, with every setting at its default.
pub(crate) fn template() -> InstanceTemplate {
    let template = json!({
        "kind": "Service", "containers": [{ "name": "main", "image": "web:1" }],
        "restart": "Always", "stopGracePeriod": "10s",
    });
    serde_json::from_value(template).unwrap()
}

pub(crate) fn whole(generation: u64, instances: Vec<AssignedInstance>) -> AssignmentFrame {
    AssignmentFrame {
        epoch: Epoch(1),
        removals: Removals::Allowed,
        generation: Generation(generation),
        base: None,
        more: false,
        instances,
        removed: Vec::new(),
    }
}

pub(crate) fn delta(
    base: u64,
    generation: u64,
    instances: Vec<AssignedInstance>,
    removed: &[&str],
) -> AssignmentFrame {
    AssignmentFrame {
        base: Some(Generation(base)),
        removed: removed.iter().map(|text| id(text)).collect(),
        ..whole(generation, instances)
    }
}

pub(crate) fn held(generation: u64, instances: Vec<AssignedInstance>) -> Held {
    let frame = whole(generation, instances);
    Held {
        cluster: cluster(),
        epoch: frame.epoch,
        assignment: windlass_api::wire::Assignment {
            generation: frame.generation,
            instances: frame
                .instances
                .into_iter()
                .map(|a| (a.id.clone(), a))
                .collect(),
        },
    }
}

/// A server in memory: whoever holds the receiver gets the path and the other end of each
/// connection that is dialled. Nobody holding it is a server that is not there.
#[derive(Debug)]
pub(crate) struct MemoryDial(mpsc::Sender<Dialled>);

/// A connection as the server sees it.
#[derive(Debug)]
pub(crate) struct Dialled {
    pub(crate) path: String,
    pub(crate) socket: WebSocketStream<DuplexStream>,
}

impl MemoryDial {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Dialled>) {
        let (sender, receiver) = mpsc::channel(8);
        (Self(sender), receiver)
    }
}

impl Dial for MemoryDial {
    type Io = DuplexStream;

    async fn dial(&self, path: &str) -> Result<WebSocketStream<DuplexStream>, DialError> {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let client = WebSocketStream::from_raw_socket(ours, Role::Client, Some(dial::config()));
        let server = WebSocketStream::from_raw_socket(theirs, Role::Server, Some(dial::config()));
        let dialled = Dialled {
            path: path.to_owned(),
            socket: server.await,
        };
        match self.0.send(dialled).await {
            Ok(()) => Ok(client.await),
            Err(_) => Err(ConnectError::TimedOut.into()),
        }
    }
}
