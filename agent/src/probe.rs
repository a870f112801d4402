//! How containers are: what their probes say, and what follows from it.

use std::collections::BTreeMap;

use windlass_api::status::Readiness;

use crate::runtime::ContainerId;

/// How the running containers are that are probed.
pub(crate) type Healths = BTreeMap<ContainerId, Health>;

/// How a running container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Health {
    /// Whether it can serve.
    pub(crate) readiness: Readiness,
    /// What is to be done about it.
    pub(crate) verdict: Verdict,
}

/// What is to be done about a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Fine,
    /// It does not start, or lives no longer: it is to be restarted.
    Restart {
        /// Which probe says so, and what it saw, for people.
        reason: String,
    },
}
