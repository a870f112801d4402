//! What makes a machine a node: its key, its certificate, and whom it believes.

use std::{fmt, path::Path, sync::Arc};

use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, task::spawn_blocking};
use windlass_api::{
    access::{JoinRequest, NodeCertificate},
    ids::{ClusterId, NodeName},
};
use windlass_trust::{
    Certificate, Token,
    authority::{self, PrivateKey},
    certificate, tls,
};

use crate::{
    data_dir::{DataDir, DataDirError},
    state_file,
};

mod exchange;
mod renewal;

pub(crate) use renewal::Renewal;

/// How connections to the server are encrypted from now on.
pub(crate) type Encryption = watch::Sender<Arc<ClientConfig>>;

/// What a node keeps of its cluster. One file, so that key and certificate are replaced together.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Membership {
    cluster: ClusterId,
    /// The address of the server, `HOST:PORT`.
    pub(crate) server: String,
    /// In PEM, all three.
    key: String,
    certificate: String,
    authorities: String,
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership")
            .field("cluster", &self.cluster)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// What a node keeps of its cluster cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokenMembership {
    #[error(transparent)]
    Certificate(#[from] certificate::Error),
    #[error(transparent)]
    Key(#[from] authority::Error),
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

impl Membership {
    /// What an answer of the server makes of a key.
    fn new(server: String, key: &PrivateKey, issued: NodeCertificate) -> Self {
        Self {
            cluster: issued.cluster,
            server,
            key: key.to_pem().to_string(),
            certificate: issued.certificate,
            authorities: issued.authorities,
        }
    }

    /// How connections are encrypted with it.
    pub(crate) fn encryption(&self) -> Result<Arc<ClientConfig>, BrokenMembership> {
        let key = PrivateKey::from_pem(&self.key)?;
        let key = key.certified(certificate::from_pem(&self.certificate)?)?;
        Ok(tls::client(
            Some(key),
            &certificate::from_pem(&self.authorities)?,
        )?)
    }

    /// What its certificate says.
    fn certificate(&self) -> Result<Certificate, certificate::Error> {
        let chain = certificate::from_pem(&self.certificate)?;
        let first = chain.first().ok_or(certificate::Error::Malformed)?;
        Certificate::read(first)
    }

    fn believes(&self, token: &Token) -> bool {
        certificate::from_pem(&self.authorities).is_ok_and(|authorities| {
            let mut fingerprints = authorities.iter().map(certificate::fingerprint);
            fingerprints.any(|fingerprint| fingerprint == token.authority())
        })
    }
}

/// How a machine becomes a node.
#[derive(Debug)]
pub struct Join<'a> {
    /// A token to join with.
    pub token: Token,
    /// The address of the server, `HOST:PORT`.
    pub server: String,
    /// The node's name.
    pub node: NodeName,
    /// Where the agent keeps what must outlive it.
    pub data_dir: &'a Path,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// The machine is a node of this cluster from now on.
    Now(ClusterId),
    /// It was one of the token's cluster before; the token was not used.
    Before(ClusterId),
}

/// Why a machine did not become a node.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The machine is a node of another cluster.
    #[error(
        "this machine is a node of the cluster {0} already, and the token is for another one: remove \
         it there and its data directory here, or give this agent a data directory of its own"
    )]
    OfAnother(ClusterId),
    /// The server did not let it in.
    #[error(transparent)]
    Refused(Box<dyn std::error::Error + Send + Sync>),
    /// A part of the program broke down.
    #[error("a part of the agent broke down")]
    Panicked(#[from] tokio::task::JoinError),
}

impl From<state_file::Error> for JoinError {
    fn from(error: state_file::Error) -> Self {
        Self::DataDir(error.into())
    }
}

/// Makes this machine a node, and keeps what makes it one.
///
/// # Errors
/// See [`JoinError`]. After one of them nothing is kept, but the token may be used up.
pub async fn join(join: Join<'_>) -> Result<Joined, JoinError> {
    let (path, node) = (join.data_dir.to_owned(), join.node.clone());
    let data = spawn_blocking(move || {
        let data = DataDir::open(&path)?;
        data.identity(&node)?;
        Ok::<_, DataDirError>(data)
    });
    let data = data.await??;
    if let Some(member) = data.membership()? {
        return if member.believes(&join.token) {
            Ok(Joined::Before(member.cluster))
        } else {
            Err(JoinError::OfAnother(member.cluster))
        };
    }
    let refused = |error: exchange::Error| JoinError::Refused(Box::new(error));
    let key = PrivateKey::generate().map_err(|error| JoinError::Refused(Box::new(error)))?;
    let request = key.request();
    let request = JoinRequest {
        token: join.token.reveal().to_string(),
        node: join.node,
        certificate_request: request.map_err(|error| JoinError::Refused(Box::new(error)))?,
    };
    let encryption = tls::first_contact(join.token.authority());
    let encryption = encryption.map_err(|error| JoinError::Refused(Box::new(error)))?;
    let asked = exchange::ask(encryption, &join.server, "/v1/join", &request);
    let issued = asked.await.map_err(refused)?;
    let member = Membership::new(join.server, &key, issued);
    // What was given must be usable, and of the cluster that the token is for.
    let usable = member.encryption();
    usable.map_err(|error| JoinError::Refused(Box::new(error)))?;
    if !member.believes(&join.token) {
        return Err(refused(exchange::Error::OtherAuthority));
    }
    let cluster = member.cluster;
    spawn_blocking(move || data.write_membership(&member)).await??;
    Ok(Joined::Now(cluster))
}

#[cfg(test)]
mod tests;
