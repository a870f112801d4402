//! Metrics for Prometheus. Each server has a registry of its own, so that many can run in one
//! process.

use std::time::Duration;

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use windlass_api::problem::Code;
use windlass_core::cluster::Cluster;

use crate::{
    controller::{self, Storage},
    error::code_of,
};

mod census;

pub(crate) use census::{Census, Count};

/// The metrics of a server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<RouteLabels, Histogram, fn() -> Histogram>,
    refusals: Family<CodeLabels, Counter>,
    writes: Family<OutcomeLabels, Counter>,
    plan_seconds: Histogram,
    plan_steps: Counter,
    commit_seconds: Histogram,
    commit_changes: Counter,
}

/// What gauges are made from when they are asked for.
#[derive(Debug)]
pub(crate) struct Now {
    pub(crate) cluster: Cluster,
    pub(crate) storage: Storage,
    /// How many agents are connected.
    pub(crate) agents: usize,
    /// How many watches are open.
    pub(crate) watches: usize,
    /// How many logs are being read.
    pub(crate) log_streams: usize,
    /// How many commands, forwarded connections and copies are open.
    pub(crate) reach_streams: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: &'static str,
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// From 0.1 ms to about 26 s: a cached read, and just below the limit of a request.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 4.0, 10))
}

impl Metrics {
    /// Metrics in which nothing has been counted.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("windlass"),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(seconds),
            refusals: Family::default(),
            writes: Family::default(),
            plan_seconds: seconds(),
            plan_steps: Counter::default(),
            commit_seconds: seconds(),
            commit_changes: Counter::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "http_requests",
            "Requests that were answered",
            self.requests.clone(),
        );
        registry.register(
            "http_request_duration_seconds",
            "Time until the head of the answer was ready",
            self.request_seconds.clone(),
        );
        registry.register(
            "refusals",
            "Requests that were refused",
            self.refusals.clone(),
        );
        registry.register(
            "writes",
            "Writes that the controller answered",
            self.writes.clone(),
        );
        registry.register(
            "plan_duration_seconds",
            "Time that a pass of the planner took",
            self.plan_seconds.clone(),
        );
        registry.register(
            "plan_steps",
            "Steps that were planned",
            self.plan_steps.clone(),
        );
        registry.register(
            "commit_duration_seconds",
            "Time until a batch of changes was durable",
            self.commit_seconds.clone(),
        );
        registry.register(
            "commit_changes",
            "Changes to records that were made durable",
            self.commit_changes.clone(),
        );
    }

    /// A pass of the planner took that long, and planned that many steps.
    pub fn planned(&self, took: Duration, steps: usize) {
        self.plan_seconds.observe(took.as_secs_f64());
        self.plan_steps.inc_by(steps as u64);
    }

    /// That many changes became durable as one batch, which took that long.
    pub fn committed(&self, took: Duration, changes: usize) {
        self.commit_seconds.observe(took.as_secs_f64());
        self.commit_changes.inc_by(changes as u64);
    }

    /// The controller answered a write.
    pub fn answered(&self, error: Option<&controller::Error>) {
        let outcome = error.map_or("ok", |error| code_of(error).as_str());
        self.writes.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// A request was answered.
    pub(crate) fn requested(&self, method: &'static str, route: &str, status: u16, took: Duration) {
        let labels = RouteLabels {
            method,
            route: route.to_owned(),
        };
        self.request_seconds
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
        let RouteLabels { method, route } = labels;
        self.requests
            .get_or_create(&RequestLabels {
                method,
                route,
                status,
            })
            .inc();
    }

    /// A request was refused.
    pub(crate) fn refused(&self, code: Code) {
        self.refusals
            .get_or_create(&CodeLabels {
                code: code.as_str(),
            })
            .inc();
    }

    /// All metrics as text (OpenMetrics 1.0), with gauges as of now.
    pub(crate) fn render(&self, now: &Now) -> String {
        let mut text = String::new();
        text::encode_registry(&mut text, &self.registry)
            .and_then(|()| text::encode_registry(&mut text, &census::take(now)))
            .and_then(|()| text::encode_eof(&mut text))
            .expect("writing to a string cannot fail");
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use windlass_api::ids::ClusterId;
    use windlass_core::command::Refusal;

    use super::*;

    fn now() -> Now {
        Now {
            cluster: Cluster::new(ClusterId(Uuid::nil())),
            storage: Storage::Writable,
            agents: 3,
            watches: 2,
            log_streams: 1,
            reach_streams: 4,
        }
    }

    /// Metrics in which everything was counted once. What was never counted is not shown.
    fn used() -> Metrics {
        let metrics = Metrics::new();
        metrics.planned(Duration::from_millis(3), 7);
        metrics.committed(Duration::from_millis(3), 11);
        metrics.answered(None);
        metrics.answered(Some(&controller::Error::Refused(Refusal::KeyReused)));
        metrics.requested("GET", "/v1/nodes/{node}", 404, Duration::from_millis(1));
        metrics.refused(Code::NotFound);
        metrics
    }

    #[test]
    fn what_was_counted_is_shown() {
        let text = used().render(&now());
        for line in [
            "windlass_plan_steps_total 7",
            "windlass_commit_changes_total 11",
            r#"windlass_writes_total{outcome="ok"} 1"#,
            r#"windlass_writes_total{outcome="idempotency-conflict"} 1"#,
            r#"windlass_http_requests_total{method="GET",route="/v1/nodes/{node}",status="404"} 1"#,
            r#"windlass_refusals_total{code="not-found"} 1"#,
            "windlass_agents_connected 3",
            "windlass_watches_open 2",
            "windlass_log_streams_open 1",
            "windlass_reach_streams_open 4",
            "windlass_store_writable 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1);
    }

    #[test]
    fn every_metric_is_explained_and_prefixed() {
        let text = used().render(&now());
        let named = |kind: &str| -> Vec<String> {
            let prefix = format!("# {kind} ");
            let names = text
                .lines()
                .filter_map(|l| l.strip_prefix(&prefix)?.split(' ').next());
            names.map(str::to_owned).collect()
        };
        assert_eq!(named("HELP"), named("TYPE"));
        assert_eq!(
            named("HELP").len(),
            8 + 8,
            "eight that count, eight gauges of an empty cluster"
        );
        assert!(
            named("HELP")
                .iter()
                .all(|name| name.starts_with("windlass_"))
        );
    }
}
