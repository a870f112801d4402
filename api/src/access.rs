//! People, programs and nodes: the tokens by which they come in, and what these allow.

use std::{collections::BTreeSet, fmt, str::FromStr};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    duration::Span,
    ids::{ClusterId, Namespace, NodeName, TokenId, Version},
};

/// The name that every server has in its certificate, beside its hosts'. Agents and the command
/// line look for this one, since the addresses of a server differ from where one looks, and change.
pub const SERVER_NAME: &str = "windlass-server";

/// How much somebody may do. Each may do what those before it may.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Look, but at no secret and into no container.
    Viewer,
    /// Change what runs, and reach into it.
    Operator,
    /// Decide about nodes, people and the cluster's state.
    Admin,
}

/// What a token is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "for", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum TokenUse {
    /// A node joins with it, once.
    Join {
        /// Only this one. It may be in the cluster already: then it gets another certificate, and
        /// the one that it had is worth nothing any more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<NodeName>,
    },
    /// A person or a program uses the API with it.
    Access {
        /// How much it allows.
        role: Role,
        /// In which namespaces. Absent: in all of them, and what belongs to none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespaces: Option<BTreeSet<Namespace>>,
    },
}

/// Asks for a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenRequest {
    /// What it is to be for.
    #[serde(rename = "use")]
    pub usage: TokenUse,
    /// Whose it is, for people. At most 200 characters.
    #[serde(default)]
    pub description: String,
    /// How long it is good for. Absent: an hour for one to join with, 90 days for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<Span>,
}

/// A token, as far as it can be told: what it is itself was shown once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// By which it is named.
    pub id: TokenId,
    /// What it is for.
    #[serde(rename = "use")]
    pub usage: TokenUse,
    /// Whose it is.
    pub description: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it is good.
    pub expires_at: Timestamp,
    /// The version of its last change.
    pub version: Version,
}

/// A token that was just made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IssuedToken {
    /// What it is.
    pub token: Token,
    /// The token itself. It is shown this once, and kept nowhere.
    pub secret: String,
}

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { token, secret: _ } = self;
        f.debug_struct("IssuedToken")
            .field("token", token)
            .finish_non_exhaustive()
    }
}

/// A machine asks to become a node.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JoinRequest {
    /// A token to join with.
    pub token: String,
    /// The name that the node is to have.
    pub node: NodeName,
    /// A request for a certificate (PKCS #10, in PEM). Of it only the key counts.
    pub certificate_request: String,
}

impl fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, .. } = self;
        f.debug_struct("JoinRequest")
            .field("node", node)
            .finish_non_exhaustive()
    }
}

/// A node asks for another certificate, before or after the one that it has is over.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RenewRequest {
    /// A request for a certificate (PKCS #10, in PEM). Of it only the key counts.
    pub certificate_request: String,
}

/// A node's certificate, and whom to trust.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeCertificate {
    /// The cluster.
    pub cluster: ClusterId,
    /// The certificate, in PEM.
    pub certificate: String,
    /// The certificates of the authorities, in PEM.
    pub authorities: String,
}

/// Who somebody is, for the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "as", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum WhoAmI {
    /// Somebody on the server's own machine, who may do everything.
    Local,
    /// Somebody with a token.
    Token {
        /// The token.
        id: TokenId,
        /// How much it allows.
        role: Role,
        /// In which namespaces. Absent: in all of them, and what belongs to none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespaces: Option<BTreeSet<Namespace>>,
    },
}

impl Role {
    /// All of them, from the one that may do least.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

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

/// A string names no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a role is viewer, operator or admin")]
pub struct RoleError;

impl FromStr for Role {
    type Err = RoleError;
    fn from_str(s: &str) -> Result<Self, RoleError> {
        let mut all = Self::ALL.into_iter();
        all.find(|role| role.name() == s).ok_or(RoleError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_survive_being_written() {
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.name());
        }
        for bad in ["", "Admin", "root", "admin "] {
            assert_eq!(bad.parse::<Role>(), Err(RoleError));
        }
    }

    #[test]
    fn an_issued_token_is_not_shown_in_logs() {
        let issued = IssuedToken {
            token: Token {
                id: "0123456789".parse().unwrap(),
                usage: TokenUse::Join { node: None },
                description: "for edge-1".to_owned(),
                created_at: Timestamp::UNIX_EPOCH,
                expires_at: Timestamp::UNIX_EPOCH,
                version: Version(1),
            },
            secret: "wlj_hunter2".to_owned(),
        };
        assert!(!format!("{issued:?}").contains("hunter2"));
        assert!(serde_json::to_string(&issued).unwrap().contains("hunter2"));
    }
}
