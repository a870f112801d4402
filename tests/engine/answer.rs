//! What a pretended engine answers, in the words of a real one.

use serde_json::{Value, json};

use super::{
    events::Wanted,
    state::{Container, Life},
};

/// The time of what never happened.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content: Content,
}

/// What is in it.
#[derive(Debug)]
pub(crate) enum Content {
    Nothing,
    Bytes(Vec<u8>),
    /// Events, as long as somebody listens.
    Events(Wanted),
}

impl Answer {
    pub(crate) fn bytes(status: u16, bytes: Vec<u8>) -> Self {
        Self {
            status,
            content: Content::Bytes(bytes),
        }
    }

    pub(crate) fn events(wanted: Wanted) -> Self {
        Self {
            status: 200,
            content: Content::Events(wanted),
        }
    }
}

/// An answer without a body.
pub(crate) fn done(status: u16) -> Answer {
    Answer {
        status,
        content: Content::Nothing,
    }
}

pub(crate) fn json(status: u16, value: Value) -> Answer {
    Answer::bytes(status, value.to_string().into_bytes())
}

pub(crate) fn refused(status: u16, message: &str) -> Answer {
    json(status, json!({ "message": message }))
}

/// A container as it stands in a list.
pub(crate) fn listed(container: &Container) -> Value {
    let (state, status) = match &container.life {
        Life::Created => ("created", "Created".to_owned()),
        Life::Running { .. } => ("running", "Up 1 second".to_owned()),
        Life::Exited { code, .. } => ("exited", format!("Exited ({code}) 1 second ago")),
    };
    let network = &container.network;
    json!({
        "Id": container.id, "Names": [format!("/{}", container.name)], "Image": container.image,
        "ImageID": container.image_id, "Command": "/windlass demo", "Created": 0, "Ports": [],
        "Labels": container.labels, "State": state, "Status": status,
        "HostConfig": { "NetworkMode": network },
        "NetworkSettings": { "Networks": { network: { "IPAddress": address(container) } } },
        "Mounts": [],
    })
}

/// A container alone.
pub(crate) fn told(container: &Container) -> Value {
    let (status, code, started, finished) = match &container.life {
        Life::Created => ("created", 0, NEVER.to_owned(), NEVER.to_owned()),
        Life::Running { started } => ("running", 0, started.to_string(), NEVER.to_owned()),
        Life::Exited {
            started,
            finished,
            code,
        } => ("exited", *code, started.to_string(), finished.to_string()),
    };
    json!({
        "Id": container.id, "Name": format!("/{}", container.name), "Image": container.image_id,
        "State": {
            "Status": status, "Running": container.runs(), "Paused": false, "Restarting": false,
            "OOMKilled": false, "Dead": false, "Pid": u32::from(container.runs()),
            "ExitCode": code, "Error": "", "StartedAt": started, "FinishedAt": finished,
        },
        "Config": { "Image": container.image, "Labels": container.labels },
        "HostConfig": { "NetworkMode": container.network },
    })
}

fn address(container: &Container) -> &str {
    match container.life {
        Life::Running { .. } => &container.address,
        Life::Created | Life::Exited { .. } => "",
    }
}

/// What a container wrote: one line, in a frame of the standard output.
pub(crate) fn said(container: &Container) -> Answer {
    let line = format!("{} has said this\n", container.called());
    let length = u32::try_from(line.len()).expect("a line is short");
    let mut bytes = vec![1, 0, 0, 0];
    bytes.extend(length.to_be_bytes());
    bytes.extend(line.into_bytes());
    Answer::bytes(200, bytes)
}
