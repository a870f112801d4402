//! Who a certificate speaks for.

use std::{fmt, str::FromStr};

use windlass_api::ids::{AdmissionId, ClusterId, NodeName};

/// The scheme of the name in a certificate.
const SCHEME: &str = "windlass://";

/// Who a certificate speaks for, in a cluster. It stands in the certificate as a URI:
/// `windlass://CLUSTER/server` or `windlass://CLUSTER/node/NAME/ADMISSION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The cluster.
    pub cluster: ClusterId,
    /// Who in it.
    pub role: Role,
}

/// Who somebody is in a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// The server.
    Server,
    /// The agent of a node.
    Node {
        /// The node.
        name: NodeName,
        /// The join by which it came in. A node that was removed and joins again has another
        /// one, so that certificates from before stay worthless.
        admission: AdmissionId,
    },
}

/// A string names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the name in the certificate is not one of this software")]
pub struct ParseError;

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, role } = self;
        match role {
            Role::Server => write!(f, "{SCHEME}{cluster}/server"),
            Role::Node { name, admission } => {
                write!(f, "{SCHEME}{cluster}/node/{name}/{admission}")
            }
        }
    }
}

impl FromStr for Subject {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        let path = s.strip_prefix(SCHEME).ok_or(ParseError)?;
        let mut parts = path.split('/');
        let cluster = parts.next().ok_or(ParseError)?;
        let role = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("server"), None, None, None) => Role::Server,
            (Some("node"), Some(name), Some(admission), None) => Role::Node {
                name: name.parse().map_err(|_| ParseError)?,
                admission: admission.parse().map_err(|_| ParseError)?,
            },
            _ => return Err(ParseError),
        };
        let subject = Self {
            cluster: cluster.parse().map_err(|_| ParseError)?,
            role,
        };
        // One way to write it: what is compared as text elsewhere means the same here.
        if subject.to_string() == s {
            Ok(subject)
        } else {
            Err(ParseError)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "0190b8a0-0000-7000-8000-000000000001";
    const ADMISSION: &str = "0190b8a0-0000-7000-8000-000000000002";

    #[test]
    fn a_subject_survives_being_written() {
        for good in [
            format!("windlass://{CLUSTER}/server"),
            format!("windlass://{CLUSTER}/node/edge-1/{ADMISSION}"),
        ] {
            let subject: Subject = good.parse().unwrap();
            assert_eq!(subject.to_string(), good);
        }
    }

    #[test]
    fn nothing_else_is_a_subject() {
        for bad in [
            String::new(),
            "server".to_owned(),
            format!("windlass://{CLUSTER}"),
            format!("windlass://{CLUSTER}/"),
            format!("windlass://{CLUSTER}/server/"),
            format!("windlass://{CLUSTER}/admin"),
            format!("windlass://{CLUSTER}/node/edge-1"),
            format!("windlass://{CLUSTER}/node//{ADMISSION}"),
            format!("windlass://{CLUSTER}/node/Edge/{ADMISSION}"),
            format!("windlass://{CLUSTER}/node/../server/{ADMISSION}"),
            format!("windlass://{CLUSTER}/node/edge-1/{ADMISSION}/x"),
            format!("windlass://{}/server", CLUSTER.to_uppercase()),
            format!("WINDLASS://{CLUSTER}/server"),
        ] {
            assert_eq!(bad.parse::<Subject>(), Err(ParseError), "{bad}");
        }
    }
}
