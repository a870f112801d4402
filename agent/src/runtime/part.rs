//! The containers of an instance, told apart.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use windlass_api::{
    ids::{ContainerName, NameError},
    template::InstanceTemplate,
};

/// How the pause container is called. No name of a manifest has an underscore.
const PAUSE: &str = "_pause";

/// Which of the containers of an instance one is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The one that does nothing but hold the network that the others share.
    Pause,
    /// The one of this name in the manifest.
    Named(ContainerName),
}

/// When a container is stopped in comparison with the others of its instance: those with the
/// lowest rank first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StopRank(pub u16);

impl StopRank {
    /// That of main and init containers.
    pub const FIRST: Self = Self(0);
    /// That of the pause container, without which the others have no network.
    pub const LAST: Self = Self(u16::MAX);
}

impl Part {
    /// The first of all in their order.
    pub const FIRST: Self = Self::Pause;

    /// That of the only container of an instance whose manifest names none.
    #[must_use]
    pub fn only() -> Self {
        Self::Named(ContainerName::only())
    }

    /// When this one is stopped: sidecars after the main containers, in the reverse of the order
    /// in which they were started.
    #[must_use]
    pub fn stop_rank(&self, template: &InstanceTemplate) -> StopRank {
        let name = match self {
            Self::Pause => return StopRank::LAST,
            Self::Named(name) => name,
        };
        let sidecars = || template.containers.iter().rev().filter(|c| c.sidecar);
        let from_behind = sidecars().position(|c| c.name == *name);
        from_behind.map_or(StopRank::FIRST, |position| {
            let rank = u16::try_from(position + 1).unwrap_or(u16::MAX - 1);
            StopRank(rank)
        })
    }
}

/// Whether the containers of an instance share a network that a pause container holds. One that
/// is alone has its own, and starts as quickly as the engine can.
#[must_use]
pub fn shares_network(template: &InstanceTemplate) -> bool {
    template.containers.len() > 1 || !template.init_containers.is_empty()
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => name.fmt(f),
            Self::Pause => f.pad(PAUSE),
        }
    }
}

impl FromStr for Part {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        match s {
            PAUSE => Ok(Self::Pause),
            name => name.parse().map(Self::Named),
        }
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_read_back() {
        for text in ["main", "_pause"] {
            assert_eq!(text.parse::<Part>().unwrap().to_string(), text);
        }
        assert!("_other".parse::<Part>().is_err());
    }

    #[test]
    fn sidecars_stop_after_the_main_containers_and_the_last_first() {
        let container =
            |name, sidecar| serde_json::json!({ "name": name, "image": "a:1", "sidecar": sidecar });
        let template: InstanceTemplate = serde_json::from_value(serde_json::json!({
            "kind": "Service", "restart": "Always", "stopGracePeriod": "1s",
            "containers": [container("a", true), container("web", false), container("b", true)],
        }))
        .unwrap();
        let rank = |text: &str| text.parse::<Part>().unwrap().stop_rank(&template).0;
        assert_eq!((rank("web"), rank("b"), rank("a")), (0, 1, 2));
        assert_eq!(rank("_pause"), u16::MAX);
        assert!(shares_network(&template));
    }
}
