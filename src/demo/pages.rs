//! What the demo answers.

use std::{
    convert::Infallible,
    env,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{exit, say};

/// The variables that tell a container who it is, without their prefix.
const IDENTITY: [&str; 6] = [
    "NAMESPACE",
    "WORKLOAD",
    "INSTANCE",
    "SLOT",
    "NODE",
    "REVISION",
];

/// The most memory that can be asked for at once, in MiB.
const MIB_MAX: usize = 1 << 16;

/// What changes by itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Schedule {
    /// When it is ready at the earliest.
    pub(super) ready_from: Option<Instant>,
    /// When it is unhealthy, whatever it was told.
    pub(super) unhealthy_from: Option<Instant>,
}

/// The answers, and what they depend on.
#[derive(Debug)]
pub(super) struct Pages {
    identity: Value,
    healthy: AtomicBool,
    ready: AtomicBool,
    hanging: AtomicBool,
    schedule: Schedule,
    /// Memory that is kept in use.
    memory: Mutex<Vec<Vec<u8>>>,
}

impl Pages {
    /// Answers as the environment and a schedule say.
    pub(super) fn from_environment(schedule: Schedule) -> Self {
        let mut identity = json!({ "message": env::var("DEMO_MESSAGE").ok() });
        for name in IDENTITY {
            identity[name.to_lowercase()] = json!(env::var(format!("WINDLASS_{name}")).ok());
        }
        Self {
            identity,
            healthy: AtomicBool::new(true),
            ready: AtomicBool::new(true),
            hanging: AtomicBool::new(false),
            schedule,
            memory: Mutex::default(),
        }
    }

    /// Whether it lives.
    pub(super) fn is_healthy(&self) -> bool {
        let over = |from: Instant| Instant::now() >= from;
        self.healthy.load(Ordering::Relaxed) && !self.schedule.unhealthy_from.is_some_and(over)
    }

    /// Whether it can serve.
    pub(super) fn is_ready(&self) -> bool {
        let over = |from: Instant| Instant::now() >= from;
        self.ready.load(Ordering::Relaxed) && self.schedule.ready_from.is_none_or(over)
    }

    /// Who answers.
    pub(super) fn who(&self) -> String {
        let part = |name: &str| self.identity[name].as_str().unwrap_or("?");
        let (instance, node, revision) = (part("instance"), part("node"), part("revision"));
        format!("{instance} on {node}, revision {revision}")
    }

    /// Answers a request, unless told to hang.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let uri = request.uri();
        let accepts_json = request
            .headers()
            .get(header::ACCEPT)
            .is_some_and(|accept| accept.as_bytes().windows(4).any(|part| part == b"json"));
        let (status, body) = if self.hanging.load(Ordering::Relaxed) {
            say(&format!("{} {} hangs", request.method(), uri.path()));
            std::future::pending().await
        } else {
            let format = if accepts_json {
                Format::Json
            } else {
                Format::Text
            };
            self.page(
                request.method(),
                uri.path(),
                uri.query().unwrap_or_default(),
                format,
            )
        };
        say(&format!(
            "{} {} {}",
            request.method(),
            uri.path(),
            status.as_u16()
        ));
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = status;
        Ok(response)
    }

    fn page(
        &self,
        method: &Method,
        path: &str,
        query: &str,
        format: Format,
    ) -> (StatusCode, String) {
        match (method.as_str(), path) {
            ("GET", "/") => (StatusCode::OK, self.identity_as(format)),
            ("GET", "/healthz" | "/livez") if self.is_healthy() => ok("healthy"),
            ("GET", "/healthz" | "/livez") => unavailable("unhealthy"),
            ("GET", "/readyz") if self.is_ready() => ok("ready"),
            ("GET", "/readyz") => unavailable("not ready"),
            ("GET", "/env") => (StatusCode::OK, variables()),
            ("POST", "/healthy") => {
                self.healthy.store(true, Ordering::Relaxed);
                ok("healthy")
            }
            ("POST", "/unhealthy") => {
                self.healthy.store(false, Ordering::Relaxed);
                ok("unhealthy")
            }
            ("POST", "/ready") => {
                self.ready.store(true, Ordering::Relaxed);
                ok("ready")
            }
            ("POST", "/unready") => {
                self.ready.store(false, Ordering::Relaxed);
                ok("not ready")
            }
            ("POST", "/hang") => {
                self.hanging.store(true, Ordering::Relaxed);
                ok("hanging from now on")
            }
            ("POST", "/exit") => match parameter(query, "code").unwrap_or("0").parse() {
                Ok(code) => exit(code, &format!("exiting with code {code}")),
                Err(_) => bad("code is a number"),
            },
            ("POST", "/memory") => match parameter(query, "mib").map(str::parse) {
                Some(Ok(mib)) if mib <= MIB_MAX => self.use_memory(mib),
                _ => bad("mib is a number up to 65536"),
            },
            _ => (StatusCode::NOT_FOUND, "no such page\n".to_owned()),
        }
    }

    fn identity_as(&self, format: Format) -> String {
        let Value::Object(fields) = &self.identity else {
            return String::new();
        };
        match format {
            Format::Json => format!("{}\n", self.identity),
            Format::Text => fields
                .iter()
                .filter_map(|(name, value)| Some(format!("{name}: {}\n", value.as_str()?)))
                .collect(),
        }
    }

    fn use_memory(&self, mib: usize) -> (StatusCode, String) {
        // Zeroes would stay untouched pages that cost nothing.
        let block = vec![1; mib << 20];
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.push(block);
        let used: usize = memory.iter().map(Vec::len).sum();
        ok(&format!("using {} MiB", used >> 20))
    }
}

/// How to say who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

fn ok(text: &str) -> (StatusCode, String) {
    (StatusCode::OK, format!("{text}\n"))
}

fn unavailable(text: &str) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{text}\n"))
}

fn bad(text: &str) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, format!("{text}\n"))
}

/// The variables that a manifest can set to be seen here. Others may hold secrets.
fn variables() -> String {
    let mut lines: Vec<String> = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with("DEMO_"))
        .map(|(name, value)| format!("{name}={}\n", value.to_string_lossy()))
        .collect();
    lines.sort();
    lines.concat()
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pages() -> Pages {
        Pages {
            identity: json!({ "instance": "web-0-1", "node": "a", "message": null }),
            healthy: AtomicBool::new(true),
            ready: AtomicBool::new(true),
            hanging: AtomicBool::new(false),
            schedule: Schedule::default(),
            memory: Mutex::default(),
        }
    }

    fn get(pages: &Pages, method: Method, path: &str, query: &str) -> (u16, String) {
        let (status, body) = pages.page(&method, path, query, Format::Text);
        (status.as_u16(), body)
    }

    #[test]
    fn it_says_who_answers() {
        let pages = pages();
        assert_eq!(
            get(&pages, Method::GET, "/", ""),
            (200, "instance: web-0-1\nnode: a\n".into())
        );
        let (_, json) = pages.page(&Method::GET, "/", "", Format::Json);
        assert_eq!(
            serde_json::from_str::<Value>(&json).unwrap(),
            pages.identity
        );
        assert_eq!(pages.who(), "web-0-1 on a, revision ?");
    }

    #[test]
    fn its_health_can_be_changed() {
        let pages = pages();
        assert_eq!(get(&pages, Method::GET, "/healthz", "").0, 200);
        assert_eq!(get(&pages, Method::POST, "/unhealthy", "").0, 200);
        assert_eq!(get(&pages, Method::GET, "/healthz", "").0, 503);
        assert_eq!(get(&pages, Method::POST, "/healthy", "").0, 200);
        assert_eq!(get(&pages, Method::GET, "/healthz", "").0, 200);
    }

    #[test]
    fn whether_it_is_ready_is_another_question() {
        let pages = pages();
        assert_eq!(get(&pages, Method::GET, "/readyz", "").0, 200);
        assert_eq!(get(&pages, Method::POST, "/unready", "").0, 200);
        assert_eq!(get(&pages, Method::GET, "/readyz", "").0, 503);
        assert_eq!(get(&pages, Method::GET, "/livez", "").0, 200);
        assert_eq!(get(&pages, Method::POST, "/ready", "").0, 200);
        assert_eq!(get(&pages, Method::GET, "/readyz", "").0, 200);
    }

    #[test]
    fn it_changes_as_scheduled() {
        let both = |from: Instant| {
            let mut pages = pages();
            pages.schedule = Schedule {
                ready_from: Some(from),
                unhealthy_from: Some(from),
            };
            let status = |path| get(&pages, Method::GET, path, "").0;
            (status("/readyz"), status("/livez"))
        };
        assert_eq!(both(Instant::now() + Duration::from_secs(3600)), (503, 200));
        assert_eq!(both(Instant::now()), (200, 503));
    }

    #[test]
    fn it_uses_memory_and_refuses_nonsense() {
        let pages = pages();
        assert_eq!(
            get(&pages, Method::POST, "/memory", "mib=2"),
            (200, "using 2 MiB\n".into())
        );
        assert_eq!(
            get(&pages, Method::POST, "/memory", "x=1&mib=1").1,
            "using 3 MiB\n"
        );
        assert_eq!(
            get(&pages, Method::POST, "/memory", "mib=99999999999999").0,
            400
        );
        assert_eq!(get(&pages, Method::POST, "/exit", "code=x").0, 400);
        assert_eq!(get(&pages, Method::GET, "/exit", "").0, 404);
    }
}
