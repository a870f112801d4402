//! Who may do what: the one function that decides it, [`authorise`].
//!
//! Everything that the API can do names what it [`Need`]s, and whoever asks is a [`Caller`]. There is
//! no other way in, and what is not granted is denied.

use std::{collections::BTreeSet, fmt};

use windlass_api::ids::{AdmissionId, Namespace, NodeName};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Somebody on the server's own machine, who came in a way that only its owner can, or in the one
    /// way that there is before the cluster has certificates.
    Local,
    /// A person or a program, by a token.
    Person(Grant),
    /// The agent of a node, by its certificate.
    Agent(AgentCaller),
    /// Somebody who shows nothing.
    Nobody,
}

/// What a token allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// How much.
    pub role: Role,
    /// Where.
    pub reach: Reach,
}

/// How much somebody may do. Each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Look, but at no secret and into no container.
    Viewer,
    /// Change what runs, and reach into it.
    Operator,
    /// Decide about nodes, people and the cluster's state.
    Admin,
}

/// Where somebody may do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// In every namespace, and in what belongs to none: nodes, and the cluster.
    Everywhere,
    /// In these namespaces, by their exact names.
    Namespaces(BTreeSet<Namespace>),
}

/// An agent, as its certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentCaller {
    /// Its node.
    pub node: NodeName,
    /// The join by which it came in.
    pub admission: AdmissionId,
    /// Whether the certificate still holds.
    pub certificate: Holds,
}

/// Whether a certificate still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// It does.
    Yes,
    /// It has expired, so recently that it may be renewed, and do nothing else.
    ForRenewal,
}

/// What is needed for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: everybody may know it. Health, and what the API looks like.
    Nothing,
    /// This role, in the namespace that it is about.
    Role(Role),
    /// This role, for what belongs to no namespace.
    ClusterRole(Role),
    /// This role, somewhere: what is shown is only what the caller may see.
    RoleSomewhere(Role),
    /// To be the agent of a node. Which one, and what of it, is checked with every message.
    Agent,
}

/// Why somebody may not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// They have not said who they are.
    #[error("say who you are: `windlass login`, or a token in the `authorization` header")]
    Unknown,
    /// They may do too little.
    #[error("this needs the role {needs}, and the token has the role {has}")]
    Role {
        /// What it allows.
        has: Role,
        /// What would have to be allowed.
        needs: Role,
    },
    /// They may do it, but not there.
    #[error("the token does not reach the namespace {0}")]
    Namespace(Namespace),
    /// They may do it in namespaces, and this belongs to none.
    #[error("the token reaches some namespaces only, and this concerns the whole cluster")]
    Cluster,
    /// It is for agents.
    #[error("this is for agents")]
    NotAnAgent,
    /// It is not for agents.
    #[error("an agent may not do this")]
    IsAnAgent,
    /// The certificate has expired.
    #[error("the certificate of node {0} has expired: it can be renewed, and nothing else")]
    Expired(NodeName),
}

impl Reach {
    /// Whether it includes a namespace.
    #[must_use]
    pub fn includes(&self, namespace: &Namespace) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Namespaces(names) => names.contains(namespace),
        }
    }

    /// Whether something is shown that is in this namespace, or in none.
    #[must_use]
    pub fn shows(&self, namespace: Option<&Namespace>) -> bool {
        match (self, namespace) {
            (Self::Everywhere, _) => true,
            (Self::Namespaces(_), Some(namespace)) => self.includes(namespace),
            (Self::Namespaces(_), None) => false,
        }
    }
}

impl Caller {
    /// What of the namespaces they may see where everything is listed.
    #[must_use]
    pub fn reach(&self) -> Reach {
        match self {
            Self::Local => Reach::Everywhere,
            Self::Person(grant) => grant.reach.clone(),
            Self::Agent(_) | Self::Nobody => Reach::Namespaces(BTreeSet::new()),
        }
    }
}

/// Whether `caller` may do what needs `need`, which is about `namespace`, if about any.
///
/// # Errors
/// Why not.
pub fn authorise(caller: &Caller, need: Need, namespace: Option<&Namespace>) -> Result<(), Denied> {
    match (need, caller) {
        (Need::Nothing, _) => Ok(()),
        (_, Caller::Nobody) => Err(Denied::Unknown),
        // Before there are certificates agents are as local as everybody.
        (_, Caller::Local) => Ok(()),
        (Need::Agent, Caller::Person(_)) => Err(Denied::NotAnAgent),
        (_, Caller::Agent(agent)) if agent.certificate == Holds::ForRenewal => {
            Err(Denied::Expired(agent.node.clone()))
        }
        (Need::Agent, Caller::Agent(_)) => Ok(()),
        (Need::Role(_) | Need::ClusterRole(_) | Need::RoleSomewhere(_), Caller::Agent(_)) => {
            Err(Denied::IsAnAgent)
        }
        (Need::Role(needs), Caller::Person(grant)) => {
            grant.covers(needs)?;
            match (namespace, &grant.reach) {
                (Some(namespace), reach) if !reach.includes(namespace) => {
                    Err(Denied::Namespace(namespace.clone()))
                }
                // What names no namespace is taken for what concerns all of them.
                (None, Reach::Namespaces(_)) => Err(Denied::Cluster),
                (Some(_), _) | (None, Reach::Everywhere) => Ok(()),
            }
        }
        (Need::ClusterRole(needs), Caller::Person(grant)) => {
            grant.covers(needs)?;
            match grant.reach {
                Reach::Everywhere => Ok(()),
                Reach::Namespaces(_) => Err(Denied::Cluster),
            }
        }
        (Need::RoleSomewhere(needs), Caller::Person(grant)) => grant.covers(needs),
    }
}

impl Grant {
    fn covers(&self, needs: Role) -> Result<(), Denied> {
        let has = self.role;
        if has >= needs {
            Ok(())
        } else {
            Err(Denied::Role { has, needs })
        }
    }
}

impl Role {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests;
