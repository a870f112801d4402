//! Who may do what: the one function that decides it, [`authorise`].
//!
//! Everything that the API can do names what it [`Need`]s, and whoever asks is a [`Caller`]. There is
//! no other way in, and what is not granted is denied.

use std::collections::BTreeSet;

use jiff::Timestamp;
pub use windlass_api::access::Role;
use windlass_api::{
    access::TokenUse,
    ids::{AdmissionId, Namespace, NodeName, TokenHash, TokenId},
};

use crate::cluster::Cluster;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Somebody on the server's own machine, who came in a way that only its owner can, or in the one
    /// way that there is before the cluster has certificates.
    Local,
    /// A person or a program, by a token.
    Person(Person),
    /// The agent of a node, by its certificate.
    Agent(AgentCaller),
    /// Somebody who shows nothing.
    Nobody,
}

/// A person or a program, as its token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The token.
    pub token: TokenId,
    /// How much it allows.
    pub role: Role,
    /// Where.
    pub reach: Reach,
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
    /// To be the agent of a node, also if its certificate has expired.
    AgentToRenew,
}

/// What somebody shows of who they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// What a verified certificate says.
    pub certificate: Option<AgentCaller>,
    /// What is kept of a token.
    pub token: Option<TokenHash>,
}

/// Why somebody may not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// They have not said who they are.
    #[error("say who you are: `windlass login`, or a token in the `authorization` header")]
    Unknown,
    /// They show a token that there is not (any more).
    #[error("the token is not known here: it was revoked, or is of another cluster")]
    NoSuchToken,
    /// They show a token whose time is over.
    #[error("the token expired at {0}: ask for another one")]
    TokenExpired(Timestamp),
    /// They show a token that is good for one thing only.
    #[error("with this token a node can join, and nothing else")]
    JoinToken,
    /// They show a token with which nobody joins.
    #[error("this is no token to join with: `windlass token create --join` makes one")]
    NotAJoinToken,
    /// They show a token for another node.
    #[error("the token is for node {0} only")]
    OtherNode(NodeName),
    /// Their node was not let in by this certificate, or something else since.
    #[error("this certificate is not (any more) that of node {0}: let it join again")]
    NotAdmitted(NodeName),
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
    /// Whether they may speak for a node: its agent, and before there are certificates everybody.
    #[must_use]
    pub fn speaks_for(&self, node: &NodeName) -> bool {
        match self {
            Self::Local => true,
            Self::Agent(agent) => agent.node == *node,
            Self::Person(_) | Self::Nobody => false,
        }
    }

    /// Whether what let them in still holds in a later state of the cluster.
    #[must_use]
    pub fn is_still_let_in(&self, cluster: &Cluster) -> bool {
        match self {
            Self::Agent(agent) => is_admitted(cluster, agent),
            Self::Local | Self::Person(_) | Self::Nobody => true,
        }
    }

    /// What of the namespaces they may see where everything is listed.
    #[must_use]
    pub fn reach(&self) -> Reach {
        match self {
            Self::Local => Reach::Everywhere,
            Self::Person(person) => person.reach.clone(),
            Self::Agent(_) | Self::Nobody => Reach::Namespaces(BTreeSet::new()),
        }
    }
}

/// Whom that makes of somebody.
///
/// # Errors
/// What they show is worth nothing.
pub fn identify(cluster: &Cluster, shown: &Shown, now: Timestamp) -> Result<Caller, Denied> {
    // Somebody who shows a token wants to be judged by it.
    if let Some(hash) = &shown.token {
        let record = cluster.tokens.get(&hash.id());
        let record = record.filter(|record| record.hash == *hash);
        let record = record.ok_or(Denied::NoSuchToken)?;
        if record.expires_at <= now {
            return Err(Denied::TokenExpired(record.expires_at));
        }
        return match &record.usage {
            TokenUse::Join { .. } => Err(Denied::JoinToken),
            TokenUse::Access { role, namespaces } => Ok(Caller::Person(Person {
                token: hash.id(),
                role: *role,
                reach: namespaces
                    .clone()
                    .map_or(Reach::Everywhere, Reach::Namespaces),
            })),
        };
    }
    let Some(agent) = &shown.certificate else {
        return Ok(Caller::Nobody);
    };
    if is_admitted(cluster, agent) {
        Ok(Caller::Agent(agent.clone()))
    } else {
        Err(Denied::NotAdmitted(agent.node.clone()))
    }
}

fn is_admitted(cluster: &Cluster, agent: &AgentCaller) -> bool {
    let admission = cluster.admissions.get(&agent.node);
    admission.is_some_and(|record| record.id == agent.admission)
}

/// Whether an agent may have another certificate for the join by which it is in.
///
/// # Errors
/// Its node was removed.
pub fn renewable(cluster: &Cluster, agent: &AgentCaller) -> Result<(), Denied> {
    let node = cluster.nodes.get(&agent.node);
    if node.is_some_and(|node| node.is_removed()) {
        return Err(Denied::NotAdmitted(agent.node.clone()));
    }
    Ok(())
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
        (Need::Agent | Need::AgentToRenew, Caller::Person(_)) => Err(Denied::NotAnAgent),
        (Need::AgentToRenew, Caller::Agent(_)) => Ok(()),
        (_, Caller::Agent(agent)) if agent.certificate == Holds::ForRenewal => {
            Err(Denied::Expired(agent.node.clone()))
        }
        (Need::Agent, Caller::Agent(_)) => Ok(()),
        (Need::Role(_) | Need::ClusterRole(_) | Need::RoleSomewhere(_), Caller::Agent(_)) => {
            Err(Denied::IsAnAgent)
        }
        (Need::Role(needs), Caller::Person(person)) => {
            person.covers(needs)?;
            match (namespace, &person.reach) {
                (Some(namespace), reach) if !reach.includes(namespace) => {
                    Err(Denied::Namespace(namespace.clone()))
                }
                // What names no namespace is taken for what concerns all of them.
                (None, Reach::Namespaces(_)) => Err(Denied::Cluster),
                (Some(_), _) | (None, Reach::Everywhere) => Ok(()),
            }
        }
        (Need::ClusterRole(needs), Caller::Person(person)) => {
            person.covers(needs)?;
            match person.reach {
                Reach::Everywhere => Ok(()),
                Reach::Namespaces(_) => Err(Denied::Cluster),
            }
        }
        (Need::RoleSomewhere(needs), Caller::Person(person)) => person.covers(needs),
    }
}

impl Person {
    fn covers(&self, needs: Role) -> Result<(), Denied> {
        let has = self.role;
        if has >= needs {
            Ok(())
        } else {
            Err(Denied::Role { has, needs })
        }
    }
}

#[cfg(test)]
mod tests;
