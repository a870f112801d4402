//! Where lines come from: an instance, or one of its containers.

use std::fmt;

use windlass_api::{
    ids::{ContainerName, InstanceId},
    resource::Instance,
    status::ContainerStatus,
};

/// A container whose output is read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Origin {
    pub(super) instance: InstanceId,
    /// The container, where it is one of several; absent: the one that the user named, or the
    /// only one.
    pub(super) container: Option<ContainerName>,
}

impl Origin {
    /// The instance as a whole.
    pub(super) fn instance(name: &InstanceId) -> Self {
        Self {
            instance: name.clone(),
            container: None,
        }
    }

    /// What is to be read of an instance: the container `only`, or else every one that there is.
    pub(super) fn all_of(instance: &Instance, only: Option<&ContainerName>) -> Vec<Self> {
        let containers = &instance.status.containers;
        if only.is_some() || containers.len() < 2 {
            return vec![Self::instance(&instance.name)];
        }
        let of = |container: &ContainerStatus| Self {
            instance: instance.name.clone(),
            container: Some(container.name.clone()),
        };
        containers.iter().map(of).collect()
    }

    /// What is known of the container. The user named `only`.
    pub(super) fn status<'a>(
        &self,
        instance: &'a Instance,
        only: Option<&ContainerName>,
    ) -> Option<&'a ContainerStatus> {
        let containers = &instance.status.containers;
        match self.container.as_ref().or(only) {
            Some(name) => containers.iter().find(|c| c.name == *name),
            None => containers.first(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.container {
            Some(container) => f.pad(&format!("{}/{container}", self.instance)),
            None => f.pad(self.instance.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn containers_are_named_where_there_are_several() {
        let mut instance = fixtures::instance("web-0-1", fixtures::RUNNING);
        let shown = |instance: &Instance, only: Option<&ContainerName>| {
            let origins = Origin::all_of(instance, only);
            let texts = origins.iter().map(ToString::to_string);
            texts.collect::<Vec<_>>()
        };
        assert_eq!(shown(&instance, None), ["web-0-1"]);
        let mut log = fixtures::container("c2");
        log.name = "log".parse().unwrap();
        instance.status.containers = vec![fixtures::container("c1"), log.clone()];
        assert_eq!(shown(&instance, None), ["web-0-1/main", "web-0-1/log"]);
        assert_eq!(shown(&instance, Some(&log.name)), ["web-0-1"]);
        let origin = Origin::instance(&instance.name);
        assert_eq!(origin.status(&instance, Some(&log.name)), Some(&log));
    }
}
