//! The containers of an agent, as the engine lists them and says of each.

use std::{collections::HashMap, net::IpAddr};

use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary,
    ContainerSummaryStateEnum, Health, HealthStatusEnum,
};
use jiff::Timestamp;
use windlass_api::{
    duration::Span,
    ids::{InstanceId, Namespace, RevisionNumber, VolumeName},
    spec::PreStop,
    status::Exit,
};

use super::names;
use crate::runtime::{Container, ContainerId, ContainerState, Healthcheck, Owner, Part, StopRank};

/// A container of ours as the engine lists it: without exit code and times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    /// The engine's id of it.
    pub(super) id: ContainerId,
    /// The state that it was in.
    pub(super) status: Status,
    /// What its image's health check said, if it has one.
    pub(super) checked: Option<Checked>,
    /// The name of the image that it was made from.
    pub(super) image: String,
    /// The id of that image.
    pub(super) image_id: String,
    instance: InstanceId,
    part: Part,
    namespace: Namespace,
    revision: RevisionNumber,
    stop_grace: Span,
    stop_rank: StopRank,
    pre_stop: Option<PreStop>,
    volumes: Vec<VolumeName>,
    address: Option<IpAddr>,
}

/// The state of a container, as far as the list tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// It was never started.
    Created,
    /// It runs, or is paused.
    Running,
    /// It ended.
    Exited,
    /// It is being removed.
    Removing,
}

/// What the health check of an image says, as far as the list tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checked {
    /// It has not passed yet.
    Starting,
    /// It passes.
    Healthy,
    /// It fails.
    Unhealthy,
}

/// What the engine says of one container alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inspected {
    /// Its state.
    pub(super) state: ContainerState,
    /// What its image's health check says, if it has one.
    pub(super) healthcheck: Option<Healthcheck>,
}

/// Why a container with our cluster's and node's labels is left alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotOurs {
    /// A label is missing or makes no sense.
    #[error("its label `{0}` is missing or not understood")]
    Label(&'static str),
    /// The name is not the one that its labels lead to. An image that was committed from a
    /// container of ours hands the labels on, and what somebody runs from it is not ours.
    #[error("its name is not `{0}`, which we would have given it")]
    Name(String),
    /// The engine left something out.
    #[error("the engine does not tell its {0}")]
    Incomplete(&'static str),
}

impl Listed {
    /// Reads an entry of the engine's list.
    pub(super) fn read(owner: &Owner, summary: &ContainerSummary) -> Result<Self, NotOurs> {
        let labels = summary
            .labels
            .as_ref()
            .ok_or(NotOurs::Incomplete("labels"))?;
        let instance: InstanceId = label(labels, names::INSTANCE)?;
        let namespace: Namespace = label(labels, names::NAMESPACE)?;
        // Agents before there could be several did not write it.
        let part = optional(labels, names::CONTAINER)?.unwrap_or_else(Part::only);
        let only = names::only_container(owner, &namespace, &instance);
        let one = names::one_of_several(owner, &namespace, &instance, &part);
        let named = |found: &String| {
            let name = found.strip_prefix('/');
            name == Some(&only) || name == Some(&one)
        };
        if !summary.names.iter().flatten().any(named) {
            return Err(NotOurs::Name(only));
        }
        Ok(Self {
            id: ContainerId(summary.id.clone().ok_or(NotOurs::Incomplete("id"))?),
            status: status(summary.state).ok_or(NotOurs::Incomplete("state"))?,
            checked: checked(summary.status.as_deref().unwrap_or_default()),
            image: summary.image.clone().unwrap_or_default(),
            image_id: summary.image_id.clone().unwrap_or_default(),
            instance,
            part,
            namespace,
            revision: label(labels, names::REVISION)?,
            stop_grace: label(labels, names::STOP_GRACE)?,
            stop_rank: StopRank(optional(labels, names::STOP_RANK)?.unwrap_or_default()),
            pre_stop: pre_stop(labels)?,
            volumes: volumes(labels)?,
            address: address(summary),
        })
    }

    /// The container, now that its state is known.
    pub(super) fn with_state(self, inspected: Inspected) -> Container {
        let Inspected { state, healthcheck } = inspected;
        let (address, healthcheck) = match state {
            ContainerState::Running { .. } => (self.address, healthcheck),
            _ => (None, None),
        };
        Container {
            id: self.id,
            instance: self.instance,
            part: self.part,
            namespace: self.namespace,
            revision: self.revision,
            image_id: self.image_id,
            image_digest: None,
            address,
            healthcheck,
            stop_grace: self.stop_grace,
            stop_rank: self.stop_rank,
            pre_stop: self.pre_stop,
            volumes: self.volumes,
            state,
        }
    }
}

fn label<T: std::str::FromStr>(
    labels: &HashMap<String, String>,
    key: &'static str,
) -> Result<T, NotOurs> {
    let value = labels.get(key).and_then(|value| value.parse().ok());
    value.ok_or(NotOurs::Label(key))
}

/// A label that need not be there.
fn optional<T: std::str::FromStr>(
    labels: &HashMap<String, String>,
    key: &'static str,
) -> Result<Option<T>, NotOurs> {
    let value = labels.get(key).map(|value| value.parse());
    value.transpose().map_err(|_| NotOurs::Label(key))
}

fn pre_stop(labels: &HashMap<String, String>) -> Result<Option<PreStop>, NotOurs> {
    let value = labels
        .get(names::PRE_STOP)
        .map(|json| serde_json::from_str(json));
    value
        .transpose()
        .map_err(|_| NotOurs::Label(names::PRE_STOP))
}

fn volumes(labels: &HashMap<String, String>) -> Result<Vec<VolumeName>, NotOurs> {
    let names = labels.get(names::VOLUMES).into_iter();
    let names = names.flat_map(|names| names.split(','));
    let names: Result<_, _> = names.map(str::parse).collect();
    names.map_err(|_| NotOurs::Label(names::VOLUMES))
}

fn status(state: Option<ContainerSummaryStateEnum>) -> Option<Status> {
    use ContainerSummaryStateEnum as State;
    match state? {
        // One whose start failed is `created`, too.
        State::CREATED => Some(Status::Created),
        State::RUNNING | State::PAUSED | State::RESTARTING | State::STOPPING => {
            Some(Status::Running)
        }
        State::EXITED => Some(Status::Exited),
        State::REMOVING | State::DEAD => Some(Status::Removing),
        State::EMPTY => None,
    }
}

fn address(summary: &ContainerSummary) -> Option<IpAddr> {
    let networks = summary.network_settings.as_ref()?.networks.as_ref()?;
    networks
        .values()
        .find_map(|endpoint| endpoint.ip_address.as_ref()?.parse().ok())
}

/// What the list says of a health check in the text that it has for people, like
/// `Up 5 minutes (healthy)`: it has no field for it before version 1.52 of the API.
fn checked(status: &str) -> Option<Checked> {
    let (_, health) = status.strip_suffix(')')?.rsplit_once(" (")?;
    match health {
        "health: starting" => Some(Checked::Starting),
        "healthy" => Some(Checked::Healthy),
        "unhealthy" => Some(Checked::Unhealthy),
        // `Exited (0)`, `Up 5 minutes (Paused)`.
        _ => None,
    }
}

/// What the engine says of a container alone. `None` if it says too little.
pub(super) fn inspected(response: &ContainerInspectResponse) -> Option<Inspected> {
    let health = response
        .state
        .as_ref()
        .and_then(|state| state.health.as_ref());
    Some(Inspected {
        state: inspected_state(response)?,
        healthcheck: health.and_then(healthcheck),
    })
}

fn healthcheck(health: &Health) -> Option<Healthcheck> {
    use HealthStatusEnum as Status;
    match health.status? {
        Status::EMPTY | Status::NONE => None,
        Status::STARTING => Some(Healthcheck::Starting),
        Status::HEALTHY => Some(Healthcheck::Healthy),
        Status::UNHEALTHY => {
            let last = health.log.iter().flatten().next_back();
            Some(Healthcheck::Unhealthy {
                exit_code: last.and_then(|result| result.exit_code).unwrap_or(1),
                output: last.and_then(|r| r.output.clone()).unwrap_or_default(),
            })
        }
    }
}

/// The state of a container from what the engine says of it alone. `None` if it says too little.
fn inspected_state(response: &ContainerInspectResponse) -> Option<ContainerState> {
    use ContainerStateStatusEnum as State;
    let state = response.state.as_ref()?;
    match state.status? {
        State::CREATED => Some(ContainerState::Created),
        State::RUNNING | State::PAUSED | State::RESTARTING | State::STOPPING => {
            Some(ContainerState::Running {
                started_at: time(state.started_at.as_ref())?,
            })
        }
        State::EXITED => Some(ContainerState::Exited {
            started_at: time(state.started_at.as_ref())?,
            exit: Exit {
                code: state.exit_code?,
                oom_killed: state.oom_killed.unwrap_or_default(),
                reason: None,
                finished_at: time(state.finished_at.as_ref())?,
            },
        }),
        State::REMOVING | State::DEAD => Some(ContainerState::Removing),
        State::EMPTY => None,
    }
}

/// A time of the engine, cut to milliseconds like every time of ours.
fn time(text: Option<&String>) -> Option<Timestamp> {
    let time: Timestamp = text?.parse().ok()?;
    Timestamp::from_millisecond(time.as_millisecond()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use uuid::Uuid;
    use windlass_api::ids::ClusterId;

    use super::*;

    fn read(name: &str, change: impl FnOnce(&mut Value)) -> Result<Listed, NotOurs> {
        let owner = Owner {
            cluster: ClusterId(Uuid::nil()),
            node: "n1".parse().unwrap(),
        };
        let mut summary = json!({
            "Id": "c1", "ImageID": "sha256:1", "State": "running",
            "Names": ["/other/alias", format!("/{name}")],
            "Labels": {
                "windlass.instance": "web-0-1", "windlass.namespace": "shop",
                "windlass.revision": "4", "windlass.stop-grace": "1500ms",
            },
            "NetworkSettings": { "Networks": { "n": { "IPAddress": "172.18.0.2" } } },
        });
        change(&mut summary);
        Listed::read(&owner, &serde_json::from_value(summary).unwrap())
    }

    fn only(state: ContainerState) -> Inspected {
        Inspected {
            state,
            healthcheck: None,
        }
    }

    const NAME: &str = "windlass.00000000.shop.web-0-1";

    #[test]
    fn a_container_of_ours_is_read() {
        let listed = read(NAME, |_| ()).unwrap();
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let running = listed
            .clone()
            .with_state(only(ContainerState::Running { started_at: now }));
        assert_eq!(running.instance.as_str(), "web-0-1");
        assert_eq!(running.stop_grace.as_millis(), 1500);
        assert_eq!(running.address, Some("172.18.0.2".parse().unwrap()));
        assert_eq!(
            listed.with_state(only(ContainerState::Created)).address,
            None
        );
    }

    #[test]
    fn one_of_several_containers_is_read() {
        let name = format!("{NAME}.proxy");
        let listed = read(&name, |s| {
            let labels = s["Labels"].as_object_mut().unwrap();
            for (key, value) in [
                ("windlass.container", "proxy"),
                ("windlass.stop-rank", "2"),
                ("windlass.volumes", "cache,data"),
                ("windlass.pre-stop", r#"{"sleep":"2s"}"#),
            ] {
                labels.insert(key.to_owned(), json!(value));
            }
        });
        let container = listed.unwrap().with_state(only(ContainerState::Created));
        assert_eq!(container.part, "proxy".parse().unwrap());
        assert_eq!(container.stop_rank, StopRank(2));
        assert_eq!(container.volumes.len(), 2);
        let sleep = container.pre_stop.unwrap().sleep;
        assert_eq!(sleep, Some(Span::from_secs(2)));
        // The name of one, the labels of another.
        read(&name, |_| ()).unwrap_err();
    }

    #[test]
    fn what_is_not_ours_says_why() {
        let label = |key| NotOurs::Label(key);
        let broken = read(NAME, |s| s["Labels"]["windlass.instance"] = json!("../x"));
        assert_eq!(broken.unwrap_err(), label(names::INSTANCE));
        let missing = read(NAME, |s| {
            s["Labels"]
                .as_object_mut()
                .unwrap()
                .remove("windlass.revision");
        });
        assert_eq!(missing.unwrap_err(), label(names::REVISION));
        let stateless = read(NAME, |s| s["State"] = json!(""));
        assert_eq!(stateless.unwrap_err(), NotOurs::Incomplete("state"));
    }

    #[test]
    fn what_runs_from_a_committed_image_of_ours_is_not_ours() {
        assert_eq!(
            read("jolly_hopper", |_| ()).unwrap_err(),
            NotOurs::Name(NAME.to_owned())
        );
    }

    #[test]
    fn an_exit_is_read_whole() {
        let response = json!({ "State": {
            "Status": "exited", "ExitCode": 137, "OOMKilled": true,
            "StartedAt": "2026-01-01T00:00:00.123456789Z", "FinishedAt": "2026-01-01T00:00:05Z",
        }});
        let state = inspected_state(&serde_json::from_value(response).unwrap());
        let Some(ContainerState::Exited { started_at, exit }) = state else {
            panic!("{state:?}")
        };
        assert_eq!((exit.code, exit.oom_killed), (137, true));
        assert_eq!(started_at.to_string(), "2026-01-01T00:00:00.123Z");
        assert_eq!(exit.finished_at.to_string(), "2026-01-01T00:00:05Z");
    }

    #[test]
    fn a_health_check_is_read_from_the_list_and_alone() {
        for (text, expected) in [
            ("Up 5 minutes (healthy)", Some(Checked::Healthy)),
            ("Up 5 minutes (unhealthy)", Some(Checked::Unhealthy)),
            ("Up 1 second (health: starting)", Some(Checked::Starting)),
            ("Up 5 minutes", None),
            ("Up 5 minutes (Paused)", None),
            ("Exited (0) 2 minutes ago", None),
            ("", None),
        ] {
            assert_eq!(checked(text), expected, "{text}");
        }
        let read = |health: Value| {
            let response = json!({ "State": {
                "Status": "running", "StartedAt": "2026-01-01T00:00:00Z", "Health": health,
            }});
            inspected(&serde_json::from_value(response).unwrap())
                .unwrap()
                .healthcheck
        };
        assert_eq!(read(json!({ "Status": "none" })), None);
        assert_eq!(
            read(json!({ "Status": "healthy" })),
            Some(Healthcheck::Healthy)
        );
        let log = json!([{ "ExitCode": 0, "Output": "ok" }, { "ExitCode": 1, "Output": "full" }]);
        let unhealthy = Healthcheck::Unhealthy {
            exit_code: 1,
            output: "full".to_owned(),
        };
        assert_eq!(
            read(json!({ "Status": "unhealthy", "Log": log })),
            Some(unhealthy)
        );
    }

    #[test]
    fn a_paused_container_runs() {
        let response =
            json!({ "State": { "Status": "paused", "StartedAt": "2026-01-01T00:00:00Z" }});
        let state = inspected_state(&serde_json::from_value(response).unwrap());
        assert!(matches!(state, Some(ContainerState::Running { .. })));
        assert_eq!(inspected_state(&ContainerInspectResponse::default()), None);
    }
}
