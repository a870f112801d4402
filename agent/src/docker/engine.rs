//! The connection to an engine: where it is, and how long it may take to answer.

use std::{
    env,
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bollard::{API_DEFAULT_VERSION, BollardRequest};
use http::{HeaderName, HeaderValue};
use tokio::sync::OnceCell;

use super::error;
use crate::runtime::{Error, ErrorKind, Result};

/// Where Docker listens unless told otherwise.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// What is being done when an engine is asked for its version.
const ASKING: &str = "ask docker for its version";
/// How long the engine may take to tell something. It answers in milliseconds; ten seconds are
/// for a machine that is busy with something else.
pub(super) const READ_WITHIN: Duration = Duration::from_secs(10);
/// How long the engine may take to change something: on a slow disk, creating a container from a
/// large image takes many seconds.
pub(super) const CHANGE_WITHIN: Duration = Duration::from_secs(60);
/// The limit that bollard itself keeps. It counts only until the head of the response, so
/// [`Engine::call`] has limits of its own, and this one must never be the shorter.
const BOLLARD_LIMIT_SECS: u64 = u64::MAX;

/// The oldest version of the API that has all that is asked for: that of Docker 20.10, of the year
/// 2020. An older engine leaves out what it does not know, like a namespace of its own for the
/// control groups of a container, and says nothing.
const API_VERSION_MIN: ApiVersion = ApiVersion(1, 41);

/// An engine behind a Unix socket. It is connected to by the first call, and each call opens a
/// connection of its own, so that an engine may come and go.
#[derive(Debug)]
pub(super) struct Engine {
    socket: String,
    client: OnceCell<bollard::Docker>,
    /// Whether it is known that it can be worked with. Those who ask at the same time each find out.
    suits: AtomicBool,
}

/// A version of the engine's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct ApiVersion(u32, u32);

impl ApiVersion {
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }
}

impl Engine {
    /// The engine at `address`, or where `DOCKER_HOST` says, or at the usual socket.
    pub(super) fn new(address: Option<&str>) -> Result<Self> {
        let from_env = env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        let address = address.or(from_env.as_deref()).unwrap_or(DEFAULT_SOCKET);
        Ok(Self {
            socket: socket_path(address)?.to_owned(),
            client: OnceCell::new(),
            suits: AtomicBool::new(false),
        })
    }

    /// The path of its socket.
    pub(super) fn socket(&self) -> &str {
        &self.socket
    }

    /// The client of an engine that answers, and that can be worked with.
    pub(super) async fn client(&self) -> Result<&bollard::Docker> {
        let client = self.client.get_or_try_init(|| async {
            bollard::Docker::connect_with_unix(
                &self.socket,
                BOLLARD_LIMIT_SECS,
                API_DEFAULT_VERSION,
            )
            .map(|client| client.with_request_modifier(use_url_safe_credentials))
            .map_err(|error| self.translate(ASKING, error))
        });
        let client = client.await?;
        if !self.suits.load(Ordering::Acquire) {
            self.judge(client).await?;
            self.suits.store(true, Ordering::Release);
        }
        Ok(client)
    }

    /// From now on another engine may answer behind the socket.
    pub(super) fn doubt(&self) {
        self.suits.store(false, Ordering::Release);
    }

    /// Whether the engine that answers can be worked with. Which version bollard is told to speak
    /// does not matter, since it names none in its requests.
    async fn judge(&self, client: &bollard::Docker) -> Result<()> {
        let told = self.call(ASKING, READ_WITHIN, client.version()).await?;
        let version = told.api_version.unwrap_or_default();
        if ApiVersion::parse(&version).is_some_and(|version| version >= API_VERSION_MIN) {
            return Ok(());
        }
        let ApiVersion(major, minor) = API_VERSION_MIN;
        Err(Error {
            kind: ErrorKind::Unreachable,
            message: format!(
                "docker at {} is too old: it is {} and speaks version {version} of its API, and \
                 {major}.{minor} is needed; update docker to 20.10 or newer",
                self.socket,
                told.version.unwrap_or_default(),
            ),
        })
    }

    /// A client for calls whose response is a stream: the limit is for its beginning only.
    pub(super) async fn streaming_client(&self) -> Result<bollard::Docker> {
        Ok(self.client().await?.clone().with_timeout(READ_WITHIN))
    }

    /// Makes a call with a time limit; `doing` says what is tried, like `list containers`.
    pub(super) async fn call<T>(
        &self,
        doing: &str,
        within: Duration,
        call: impl Future<Output = std::result::Result<T, bollard::errors::Error>>,
    ) -> Result<T> {
        let call = async { call.await.map_err(|error| self.translate(doing, error)) };
        self.limit(doing, within, call).await
    }

    /// Bounds the time of something that consists of calls, or waits for those of others.
    pub(super) async fn limit<T>(
        &self,
        doing: &str,
        within: Duration,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let ended = tokio::time::timeout(within, work).await;
        ended.unwrap_or_else(|_| Err(error::timed_out(&self.socket, doing, within)))
    }

    /// What an error of this engine means.
    pub(super) fn translate(&self, doing: &str, error: bollard::errors::Error) -> Error {
        error::translate(&self.socket, doing, error)
    }
}

/// The path of a socket on this machine from an address.
fn socket_path(address: &str) -> Result<&str> {
    match address.split_once("://") {
        None if address.starts_with('/') => Ok(address),
        Some(("unix", path)) if path.starts_with('/') => Ok(path),
        _ => Err(Error {
            kind: ErrorKind::Invalid,
            message: format!(
                "cannot use docker at {address}: an agent drives the engine of its own machine \
                 through a unix socket, like unix://{DEFAULT_SOCKET}"
            ),
        }),
    }
}

/// Writes credentials in the alphabet that the engine reads.
///
/// bollard 0.21.1 encodes them with the standard base64 alphabet, the engine decodes the one for
/// URLs, and takes what it cannot decode for no credentials at all.
fn use_url_safe_credentials(mut request: BollardRequest) -> BollardRequest {
    const HEADER: HeaderName = HeaderName::from_static("x-registry-auth");
    if let Some(value) = request.headers_mut().get_mut(&HEADER)
        && let Ok(text) = value.to_str()
        && let Ok(mut url_safe) = HeaderValue::from_str(&text.replace('+', "-").replace('/', "_"))
    {
        url_safe.set_sensitive(true);
        *value = url_safe;
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_of_this_machine_are_engines() {
        assert_eq!(socket_path("unix:///run/d.sock").unwrap(), "/run/d.sock");
        assert_eq!(socket_path("/run/d.sock").unwrap(), "/run/d.sock");
        for bad in [
            "tcp://10.0.0.1:2375",
            "ssh://host",
            "unix://d.sock",
            "d.sock",
            "",
        ] {
            let error = socket_path(bad).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Invalid, "{bad}");
            assert!(error.message.contains("through a unix socket"), "{error}");
        }
    }

    #[tokio::test]
    async fn an_engine_that_is_not_there_says_where_and_what_to_do() {
        let engine = Engine::new(Some("/nonexistent/docker.sock")).unwrap();
        let error = engine.client().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unreachable);
        assert_eq!(
            error.message,
            "cannot reach docker at /nonexistent/docker.sock: there is no such socket; \
             start docker, or set DOCKER_HOST to its socket"
        );
    }

    #[tokio::test]
    async fn an_engine_may_come_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        let engine = Engine::new(path.to_str()).unwrap();
        assert!(
            engine
                .client()
                .await
                .unwrap_err()
                .message
                .contains("no such socket")
        );
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let error = engine.client().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unreachable);
        assert!(error.message.contains("refused"), "{error}");
    }

    #[tokio::test]
    async fn an_engine_that_hangs_is_unreachable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let engine = Engine::new(path.to_str()).unwrap();
        tokio::time::pause();
        let error = engine.client().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unreachable);
        assert!(error.message.contains("no answer within 10 s"), "{error}");
    }

    #[test]
    fn credentials_are_sent_in_the_alphabet_of_urls() {
        let request = http::Request::builder()
            .header("X-Registry-Auth", "a+b/c=")
            .body(())
            .unwrap();
        let request = request.map(|()| bollard::body_full(bytes::Bytes::new()));
        let request = use_url_safe_credentials(request);
        assert_eq!(request.headers()["x-registry-auth"], "a-b_c=");
    }
}
