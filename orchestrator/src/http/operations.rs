//! Everything that the API can do: the one table that routes and documentation are made from.

use axum::http::{Method, StatusCode};
use serde_json::Value;
use windlass_api::{
    apply::{ApplyRequest, ApplyResponse},
    list::{List, WatchEvent},
    rebalance::{RebalanceRequest, RebalanceResponse},
    resource::{
        ClusterInfo, DrainRequest, Instance, Node, NodePatch, Revision, RolloutAction, RunJob,
        Scale, ServerInfo, Workload,
    },
    stats::Stats,
    wire::FileInfo,
};
use windlass_core::access::{Need, Role};

use super::{
    apply, cluster,
    collection::{Collection, Events, Instances, Nodes, Workloads},
    document::AnyDocument,
    instances, jobs,
    list::{self, ListQuery},
    nodes,
    operation::{Operation, RequestHeader},
    rebalance, rollouts, server, stats, streams, workloads,
};

mod entry;

const VIEW: Need = Need::Role(Role::Viewer);
const VIEW_SOMEWHERE: Need = Need::RoleSomewhere(Role::Viewer);
const VIEW_CLUSTER: Need = Need::ClusterRole(Role::Viewer);
const CHANGE: Need = Need::Role(Role::Operator);
const CHANGE_SOMEWHERE: Need = Need::RoleSomewhere(Role::Operator);
const CHANGE_CLUSTER: Need = Need::ClusterRole(Role::Operator);
const RULE_CLUSTER: Need = Need::ClusterRole(Role::Admin);

const EVENT_STREAM: &str = "text/event-stream";
const TEXT: &str = "text/plain";

/// All operations.
pub(super) fn all() -> Vec<Operation> {
    let mut operations = of_server();
    operations.extend(of_cluster());
    operations.extend(entry::of_access());
    operations.extend(of_lists());
    operations.extend(of_workloads());
    operations.extend(of_changes());
    operations.extend(of_instances());
    operations.extend(of_nodes());
    operations.extend(of_streams());
    operations.extend(entry::of_agents());
    operations
}

fn of_server() -> Vec<Operation> {
    vec![
        Operation::get(
            Need::Nothing,
            "/v1/server",
            "getServer",
            "Who the server is.",
            server::info,
        )
        .answers::<ServerInfo>(StatusCode::OK, "The server."),
        Operation::get(
            Need::Nothing,
            "/healthz",
            "getHealth",
            "Whether the process lives.",
            server::health,
        )
        .answers_as::<String>(StatusCode::OK, "It does.", TEXT)
        .with_own_budget(),
        Operation::get(
            Need::Nothing,
            "/readyz",
            "getReadiness",
            "Whether the server takes writes; if not, the problem says why.",
            server::readiness,
        )
        .answers_as::<String>(StatusCode::OK, "It does.", TEXT)
        .with_own_budget(),
        Operation::get(
            VIEW_CLUSTER,
            "/metrics",
            "getMetrics",
            "Metrics for Prometheus.",
            server::metrics,
        )
        .answers_as::<String>(StatusCode::OK, "The metrics.", server::OPENMETRICS)
        .with_own_budget(),
        Operation::get(
            Need::Nothing,
            "/openapi.json",
            "getOpenApi",
            "This document.",
            server::openapi,
        )
        .answers::<Value>(StatusCode::OK, "The OpenAPI document."),
    ]
}

fn of_cluster() -> Vec<Operation> {
    vec![
        Operation::get(
            VIEW_CLUSTER,
            "/v1/cluster",
            "getCluster",
            "The cluster as a whole: what there is, and what is wrong.",
            cluster::get,
        )
        .answers::<ClusterInfo>(StatusCode::OK, "The cluster."),
        Operation::write(
            RULE_CLUSTER,
            Method::POST,
            "/v1/cluster/accept-restore",
            "acceptRestore",
            "Accept the state as it is after it may have gone back. Agents then remove what is not \
             in it.",
            cluster::accept_restore,
        )
        .answers::<ClusterInfo>(StatusCode::OK, "The cluster after it."),
        Operation::get(
            RULE_CLUSTER,
            "/v1/cluster/backup",
            "getBackup",
            "The whole state at one moment, with checksums, as `windlass backup` verifies and \
             restores it.",
            cluster::backup,
        )
        .answers_as::<String>(StatusCode::OK, "The state.", cluster::NDJSON)
        .with_own_budget(),
    ]
}

fn of_lists() -> Vec<Operation> {
    vec![
        listing::<Workloads>(
            VIEW_SOMEWHERE,
            "/v1/workloads",
            "listWorkloads",
            "List or watch workloads. Fields: kind, name, namespace, settled.",
        ),
        listing::<Workloads>(
            VIEW,
            "/v1/workloads/{namespace}",
            "listWorkloadsIn",
            "List or watch the workloads of a namespace.",
        ),
        listing::<Instances>(
            VIEW_SOMEWHERE,
            "/v1/instances",
            "listInstances",
            "List or watch instances. Fields: name, namespace, workload, node, phase, goal.",
        ),
        listing::<Instances>(
            VIEW,
            "/v1/instances/{namespace}",
            "listInstancesIn",
            "List or watch the instances of a namespace.",
        ),
        listing::<Nodes>(
            VIEW_CLUSTER,
            "/v1/nodes",
            "listNodes",
            "List or watch nodes. Fields: name, state, scheduling.",
        ),
        listing::<Events>(
            VIEW_SOMEWHERE,
            "/v1/events",
            "listEvents",
            "List or watch events, the oldest first. They have no labels. Fields: kind, name, \
             namespace, workload (of a workload and of its instances), severity, reason.",
        ),
        listing::<Events>(
            VIEW,
            "/v1/events/{namespace}",
            "listEventsIn",
            "List or watch the events about what is in a namespace.",
        ),
    ]
}

fn listing<C: Collection>(
    need: Need,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
) -> Operation {
    Operation::get(need, path, id, summary, list::list::<C>)
        .query::<ListQuery>()
        .header(RequestHeader::LastEventId)
        .answers::<List<C::Object>>(StatusCode::OK, "A page, or with `watch=true` the changes.")
        .answers_as::<WatchEvent<C::Object>>(StatusCode::OK, "", EVENT_STREAM)
}

fn of_workloads() -> Vec<Operation> {
    const PATH: &str = "/v1/workloads/{namespace}/{workload}";
    vec![
        Operation::get(VIEW, PATH, "getWorkload", "One workload.", workloads::get)
            .header(RequestHeader::IfNoneMatch)
            .answers::<Workload>(StatusCode::OK, "The workload.")
            .answers_empty(StatusCode::NOT_MODIFIED, "It is as the client knows it."),
        Operation::write(
            CHANGE,
            Method::PUT,
            PATH,
            "putWorkload",
            "Make or replace a workload. The body's name and namespace are those of the path; the \
             namespace can be left out.",
            workloads::put,
        )
        .header(RequestHeader::IfMatch)
        .header(RequestHeader::IfNoneMatch)
        .body::<AnyDocument>()
        .answers::<Workload>(StatusCode::OK, "It existed.")
        .answers::<Workload>(StatusCode::CREATED, "It was made."),
        Operation::write(
            CHANGE,
            Method::DELETE,
            PATH,
            "deleteWorkload",
            "Delete a workload. Its instances are stopped after that.",
            workloads::delete,
        )
        .header(RequestHeader::IfMatch)
        .answers_empty(StatusCode::NO_CONTENT, "It is deleted."),
        Operation::write(
            CHANGE_SOMEWHERE,
            Method::POST,
            "/v1/apply",
            "apply",
            "Apply resources: all of them, or none.",
            apply::apply,
        )
        .query::<apply::ApplyQuery>()
        .body::<ApplyRequest>()
        .answers::<ApplyResponse>(StatusCode::OK, "What became of each, or would."),
    ]
}

/// What is asked of a workload that is there.
fn of_changes() -> Vec<Operation> {
    vec![
        Operation::write(
            CHANGE,
            Method::POST,
            "/v1/workloads/{namespace}/{workload}/scale",
            "scaleWorkload",
            "Change how many instances of a workload are wanted.",
            workloads::scale,
        )
        .header(RequestHeader::IfMatch)
        .body::<Scale>()
        .answers::<Workload>(StatusCode::OK, "The workload after it."),
        Operation::write(
            CHANGE,
            Method::POST,
            "/v1/workloads/{namespace}/{workload}/restart",
            "restartWorkload",
            "Replace every instance of a workload by a fresh one, as an update would.",
            workloads::restart,
        )
        .header(RequestHeader::IfMatch)
        .answers::<Workload>(StatusCode::OK, "The workload after it."),
        Operation::write(
            CHANGE,
            Method::POST,
            "/v1/workloads/{namespace}/{workload}/rollout",
            "rolloutWorkload",
            "Decide how a change of revision goes on: promote, abort, pause, resume or undo it.",
            rollouts::act,
        )
        .header(RequestHeader::IfMatch)
        .body::<RolloutAction>()
        .answers::<Workload>(StatusCode::OK, "The workload after it."),
        Operation::get(
            VIEW,
            "/v1/workloads/{namespace}/{workload}/revisions",
            "listRevisions",
            "The revisions of a workload that are kept, all on one page.",
            rollouts::revisions,
        )
        .answers::<List<Revision>>(StatusCode::OK, "The revisions."),
        Operation::write(
            CHANGE,
            Method::POST,
            "/v1/workloads/{namespace}/{workload}/run",
            "runJob",
            "Run the template of a job or of a schedule once more, as a job of its own.",
            jobs::run,
        )
        .body::<RunJob>()
        .answers::<Workload>(StatusCode::CREATED, "The new job."),
    ]
}

fn of_instances() -> Vec<Operation> {
    vec![
        Operation::get(
            VIEW,
            "/v1/instances/{namespace}/{instance}",
            "getInstance",
            "One instance.",
            instances::get,
        )
        .header(RequestHeader::IfNoneMatch)
        .answers::<Instance>(StatusCode::OK, "The instance.")
        .answers_empty(StatusCode::NOT_MODIFIED, "It is as the client knows it."),
        Operation::get(
            VIEW,
            "/v1/instances/{namespace}/{instance}/logs",
            "getLogs",
            "The output of an instance, as its node has it.",
            instances::logs,
        )
        .query::<instances::LogQuery>()
        .answers_as::<String>(StatusCode::OK, "The output, until it ends.", TEXT)
        .with_own_budget(),
    ]
}

fn of_nodes() -> Vec<Operation> {
    vec![
        Operation::get(
            VIEW_CLUSTER,
            "/v1/nodes/{node}",
            "getNode",
            "One node.",
            nodes::get,
        )
        .header(RequestHeader::IfNoneMatch)
        .answers::<Node>(StatusCode::OK, "The node.")
        .answers_empty(StatusCode::NOT_MODIFIED, "It is as the client knows it."),
        Operation::write(
            RULE_CLUSTER,
            Method::PATCH,
            "/v1/nodes/{node}",
            "patchNode",
            "Change what an operator decides about a node.",
            nodes::patch,
        )
        .header(RequestHeader::IfMatch)
        .body::<NodePatch>()
        .answers::<Node>(StatusCode::OK, "The node after it."),
        Operation::write(
            CHANGE_CLUSTER,
            Method::POST,
            "/v1/nodes/{node}/drain",
            "drainNode",
            "Have everything leave a node: services move, jobs run to their end, daemons stay. It \
             goes on until the node is patched to be enabled or cordoned.",
            nodes::drain,
        )
        .header(RequestHeader::IfMatch)
        .body::<DrainRequest>()
        .answers::<Node>(StatusCode::OK, "The node after it."),
        Operation::write(
            CHANGE_CLUSTER,
            Method::POST,
            "/v1/rebalance",
            "rebalance",
            "Move instances of services that have clearly a better place, so that the load of the \
             nodes is more even.",
            rebalance::rebalance,
        )
        .query::<rebalance::RebalanceQuery>()
        .body::<RebalanceRequest>()
        .answers::<RebalanceResponse>(StatusCode::OK, "What moves, or would."),
        Operation::write(
            RULE_CLUSTER,
            Method::DELETE,
            "/v1/nodes/{node}",
            "removeNode",
            "Take a node out of the cluster. It is remembered, so that its agent is told to run \
             nothing should it come back.",
            nodes::remove,
        )
        .query::<nodes::RemoveQuery>()
        .header(RequestHeader::IfMatch)
        .answers_empty(StatusCode::NO_CONTENT, "It is removed."),
    ]
}

fn of_streams() -> Vec<Operation> {
    const FILES: &str = "/v1/instances/{namespace}/{instance}/files";
    vec![
        Operation::get(
            CHANGE,
            "/v1/instances/{namespace}/{instance}/exec",
            "exec",
            "Run a command in an instance, through a WebSocket. What is sent in binary messages is \
             its input; what comes begins with a byte, 1 for output or 2 for errors. Text messages \
             are JSON, like {\"type\":\"exit\",\"code\":0}.",
            streams::exec,
        )
        .query::<streams::ExecQuery>()
        .answers_empty(StatusCode::SWITCHING_PROTOCOLS, "The command is being run.")
        .with_own_budget(),
        Operation::get(
            CHANGE,
            "/v1/instances/{namespace}/{instance}/ports/{port}",
            "forwardPort",
            "Connect to a TCP port of an instance, through a WebSocket. Binary messages are what \
             goes over the connection; the text message {\"type\":\"eof\"} closes one direction.",
            streams::forward,
        )
        .answers_empty(StatusCode::SWITCHING_PROTOCOLS, "The connection is open.")
        .with_own_budget(),
        Operation::get(
            CHANGE,
            FILES,
            "readFiles",
            "Read a file or folder of an instance as a tar archive.",
            streams::read_files,
        )
        .query::<streams::FileQuery>()
        .answers_as::<String>(StatusCode::OK, "The archive.", streams::TAR)
        .answers::<FileInfo>(StatusCode::OK, "")
        .with_own_budget(),
        Operation::upload(
            CHANGE,
            FILES,
            "writeFiles",
            "Unpack a tar archive in a folder of an instance. What is there of the same name is \
             overwritten.",
            streams::write_files,
            streams::TAR,
        )
        .query::<streams::FolderQuery>()
        .answers_empty(StatusCode::NO_CONTENT, "It is unpacked."),
        Operation::get(
            VIEW_CLUSTER,
            "/v1/stats",
            "getStats",
            "What nodes and instances use at the moment. It is measured for this answer, which \
             takes about a second.",
            stats::get,
        )
        .query::<stats::StatsQuery>()
        .answers::<Stats>(
            StatusCode::OK,
            "What each node said, or why it said nothing.",
        )
        .with_own_budget(),
    ]
}
