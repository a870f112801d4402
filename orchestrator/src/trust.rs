//! The cluster's certificate authority: on disk, and at work.
//!
//! It lies in `trust` in the server's data directory: `authority.pem`, its certificate, and
//! `authority.key`, which nobody but the server may read. The server's own certificate is never
//! written down: it is made when the server starts, and anew while it runs.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::Config;
use jiff::Timestamp;
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use windlass_api::{
    clock::{self, Clock},
    ids::{AdmissionId, ClusterId, Fingerprint, NodeName},
};
use windlass_trust::{
    Authority, Subject,
    authority::{self, Host, Validity},
    certificate, subject, tls,
};

/// How long the certificate of a node usually holds: so that one that was stolen is soon worth
/// nothing, and a site may be dark for days.
pub const NODE_LIFETIME: Duration = Duration::from_hours(7 * 24);
/// How long the server's own holds. It makes another one when half of that is over.
const SERVER_LIFETIME: Duration = Duration::from_hours(90 * 24);
/// How often to see whether it is time for that. A clock may have jumped meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(60);

const DIRECTORY: &str = "trust";
const CERTIFICATE: &str = "authority.pem";
const KEY: &str = "authority.key";

/// The authority cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// There is one already. Another one would lock every agent out.
    #[error("the cluster has its authority already: {}", .0.display())]
    Exists(PathBuf),
    /// Somebody else could read the key.
    #[error(
        "{} can be read by others than its owner (mode {mode:03o}): make sure that nobody has, and \
         `chmod 600` it",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// What is in the files is no authority.
    #[error("{} is no authority's: restore it from where it was kept", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: authority::Error,
    },
    /// A certificate cannot be made.
    #[error(transparent)]
    Making(#[from] authority::Error),
    /// Encryption cannot be set up.
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io {
        path: path.to_owned(),
        source,
    }
}

/// Makes the authority of the cluster whose server has this data directory, and tells its
/// fingerprint.
///
/// # Errors
/// There is one already, or the files cannot be written.
pub fn init(data_dir: &Path) -> Result<Fingerprint, Error> {
    let directory = data_dir.join(DIRECTORY);
    let certificate = directory.join(CERTIFICATE);
    if encryption(data_dir)? == Encryption::Tls {
        return Err(Error::Exists(certificate));
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .map_err(failed(&directory))?;
    let made = Authority::create(clock::now())?;
    // The key first: with a certificate there is an authority. A key alone is what an earlier
    // attempt left.
    write(&directory.join(KEY), made.key_pem().as_bytes())?;
    let pem = certificate::to_pem(made.certificate());
    write(&certificate, pem.as_bytes())?;
    Ok(made.fingerprint())
}

/// Whether a server encrypts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// The cluster has no certificates yet: whoever reaches the server may do everything.
    None,
    /// It does, and knows who asks.
    Tls,
}

/// Whether the server with this data directory encrypts.
///
/// # Errors
/// That cannot be found out.
pub fn encryption(data_dir: &Path) -> Result<Encryption, Error> {
    let path = data_dir.join(DIRECTORY).join(CERTIFICATE);
    match path.try_exists() {
        Ok(true) => Ok(Encryption::Tls),
        Ok(false) => Ok(Encryption::None),
        Err(error) => Err(failed(&path)(error)),
    }
}

fn load(data_dir: &Path) -> Result<Authority, Error> {
    let directory = data_dir.join(DIRECTORY);
    let (certificate, key) = (directory.join(CERTIFICATE), directory.join(KEY));
    let metadata = fs::metadata(&key).map_err(failed(&key))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Error::Exposed { path: key, mode });
    }
    let pem = fs::read_to_string(&certificate).map_err(failed(&certificate))?;
    let key_pem = fs::read_to_string(&key).map_err(failed(&key))?;
    let key_pem = windlass_trust::Secret::new(key_pem.into_bytes());
    let text = std::str::from_utf8(key_pem.expose()).expect("it was read as text");
    Authority::from_pem(&pem, text).map_err(|source| Error::Broken { path: key, source })
}

/// Writes a file that only its owner reads, so that it survives a power cut.
fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    let unfinished = path.with_extension("new");
    let written = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        let directory = path.parent().unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()
    };
    written().map_err(failed(path))
}

/// An authority at work: it lets nodes in, and the server speak.
#[derive(Debug)]
pub(crate) struct Trust {
    cluster: ClusterId,
    authority: Authority,
    hosts: Vec<Host>,
    node_lifetime: Duration,
    clock: Clock,
    tls: watch::Sender<Arc<ServerConfig>>,
}

/// A node's certificate, and whom to trust.
#[derive(Debug)]
pub(crate) struct Issued {
    /// The certificate, in PEM.
    pub(crate) certificate: String,
    /// The certificates of the authorities, in PEM.
    pub(crate) authorities: String,
}

impl Trust {
    /// The authority in the server's data directory, if there is one.
    pub(crate) fn open(config: &Config, cluster: ClusterId) -> Result<Option<Self>, Error> {
        let data_dir = &config.data_dir;
        if encryption(data_dir)? == Encryption::None {
            return Ok(None);
        }
        let authority = load(data_dir)?;
        let hosts = config.hosts.clone();
        let tls = server_config(&authority, cluster, &hosts, config.clock.now())?;
        Ok(Some(Self {
            cluster,
            authority,
            hosts,
            node_lifetime: config.node_lifetime,
            clock: config.clock.clone(),
            tls: watch::Sender::new(tls),
        }))
    }

    /// How connections are encrypted, now and later.
    pub(crate) fn tls(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.tls.subscribe()
    }

    /// By which the cluster is recognised.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.authority.fingerprint()
    }

    /// A certificate for a node, in answer to its request.
    pub(crate) fn issue(
        &self,
        request: &str,
        name: NodeName,
        admission: AdmissionId,
        now: Timestamp,
    ) -> Result<Issued, authority::Error> {
        let subject = Subject {
            cluster: self.cluster,
            role: subject::Role::Node { name, admission },
        };
        let validity = Validity {
            from: now,
            lifetime: self.node_lifetime,
        };
        let certificate = self.authority.agent(request, &subject, validity)?;
        Ok(Issued {
            certificate: certificate::to_pem(&certificate),
            authorities: certificate::to_pem(self.authority.certificate()),
        })
    }

    /// Makes another certificate for the server whenever half of the time of the last one is over.
    pub(crate) async fn keep_fresh(&self, shutdown: CancellationToken) -> Result<(), Error> {
        let mut made_at = self.clock.now();
        loop {
            // Cancel-safe, both.
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let now = self.clock.now();
            // Also after the clock was put back: the certificate may be one of the future then.
            let age = now.duration_since(made_at).unsigned_abs();
            if age >= SERVER_LIFETIME / 2 || now < made_at {
                let config = server_config(&self.authority, self.cluster, &self.hosts, now)?;
                self.tls.send_replace(config);
                made_at = now;
                tracing::info!("the server has another certificate");
            }
        }
    }
}

fn server_config(
    authority: &Authority,
    cluster: ClusterId,
    hosts: &[Host],
    now: Timestamp,
) -> Result<Arc<ServerConfig>, Error> {
    let validity = Validity {
        from: now,
        lifetime: SERVER_LIFETIME,
    };
    let key = authority.server(cluster, hosts, validity)?;
    Ok(tls::server(key, &[authority.certificate().clone()])?)
}

#[cfg(test)]
mod tests;
