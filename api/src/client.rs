//! The HTTP client of the API.
//!
//! Every write carries an `Idempotency-Key`, so that one whose connection broke can be sent again
//! without being done twice. Lists are read to their last page; [`Mirror`] keeps one up to date.

mod access;
mod connect;
mod endpoint;
mod error;
mod exchange;
mod lines;
mod mirror;
mod reach;
mod resource;
mod watch;

use http::Method;
use serde::{Serialize, de::DeserializeOwned};

pub use self::{
    endpoint::{Address, Bearer, BearerError, Endpoint},
    error::{Distrust, Error},
    lines::Lines,
    mirror::{Change, Mirror},
    reach::{FileBody, StreamSocket},
    resource::{Resource, Selection},
    watch::Watch,
};
use self::{
    exchange::{Call, Exchange},
    lines::LongLine,
    resource::Query,
};
use crate::{
    apply::{ApplyRequest, ApplyResponse},
    ids::{ContainerName, InstanceId, Namespace, NodeName, Version, WorkloadKey},
    list::List,
    rebalance::{RebalanceRequest, RebalanceResponse},
    resource::{
        ClusterInfo, DrainRequest, Instance, Manifest, Node, NodePatch, Revision, RolloutAction,
        RunJob, Scale, ServerInfo, Workload,
    },
    wire::LogOptions,
};

/// How many items to ask for at a time: few enough to be a small answer, many enough that a
/// large cluster is a handful of requests.
const PAGE: usize = 1_000;

/// The longest piece of a log that is kept in memory, in bytes. A longer line comes in pieces.
const LOG_LINE_BYTES_MAX: usize = 64 << 10;

/// Whether a write must find what was read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// Whatever is there.
    None,
    /// Only what has this version.
    Version(Version),
}

/// Whether something is done although it stops what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// It is not.
    No,
    /// It is.
    Yes,
}

/// Whether only to say what would be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DryRun {
    /// It is done.
    No,
    /// Nothing is done.
    Yes,
}

/// Speaks to one server. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    exchange: Exchange,
}

impl Client {
    /// A client of this server. Nothing is sent yet.
    #[must_use]
    pub fn new(endpoint: &Endpoint) -> Self {
        Self {
            exchange: Exchange::new(endpoint),
        }
    }

    /// The address of the server, as it is shown to people.
    #[must_use]
    pub fn server(&self) -> &str {
        self.exchange.server()
    }

    /// Who the server is.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn server_info(&self) -> Result<ServerInfo, Error> {
        self.read("/v1/server".to_owned()).await
    }

    /// The cluster as a whole.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cluster(&self) -> Result<ClusterInfo, Error> {
        self.read("/v1/cluster".to_owned()).await
    }

    /// Accepts the state of the server as it is after it may have gone back.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn accept_restore(&self) -> Result<ClusterInfo, Error> {
        let path = "/v1/cluster/accept-restore".to_owned();
        self.exchange.json(&Call::write(Method::POST, path)).await
    }

    /// The whole state at one moment, as `windlass backup` verifies and restores it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn backup(&self) -> Result<FileBody, Error> {
        let call = Call::new(Method::GET, "/v1/cluster/backup".to_owned());
        let response = self.exchange.respond(&call).await?;
        Ok(FileBody::new(response, self.server()))
    }

    /// All objects that are selected, from all pages.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list<T: Resource>(&self, selection: &Selection) -> Result<List<T>, Error> {
        let path = selection.path::<T>();
        let mut query = selection.query();
        query.push("limit", PAGE);
        let mut list: List<T> = self.read(query.appended_to(&path)).await?;
        while let Some(next) = list.next.take() {
            let mut query = query.clone();
            query.push("continue", next);
            let page: List<T> = self.read(query.appended_to(&path)).await?;
            // The version stays the first page's: a watch from there misses nothing.
            list.items.extend(page.items);
            list.next = page.next;
        }
        Ok(list)
    }

    /// What happens to the objects that are selected after the state `from`.
    ///
    /// # Errors
    /// See [`Error`]; a problem with the code `gone` if the history since `from` is forgotten.
    pub async fn watch<T: Resource>(
        &self,
        selection: &Selection,
        from: Version,
    ) -> Result<Watch<T>, Error> {
        let mut query = selection.query();
        query.push("watch", true);
        query.push("from", from);
        let call = Call::new(Method::GET, query.appended_to(&selection.path::<T>()));
        Ok(Watch::new(self.exchange.open(&call).await?))
    }

    /// One workload.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn workload(&self, key: &WorkloadKey) -> Result<Workload, Error> {
        self.read(workload_path(key)).await
    }

    /// Makes or replaces a workload.
    ///
    /// # Errors
    /// See [`Error`]; a problem with the code `version-conflict` if `precondition` does not hold.
    pub async fn put_workload(
        &self,
        manifest: &Manifest,
        precondition: Precondition,
    ) -> Result<Workload, Error> {
        let call = Call::write(Method::PUT, workload_path(&manifest.key()))
            .with_json(manifest)
            .on(precondition);
        self.exchange.json(&call).await
    }

    /// Asks for a workload to be removed. Its instances are stopped after that.
    ///
    /// # Errors
    /// See [`Error`]; a problem with the code `version-conflict` if `precondition` does not hold.
    pub async fn delete_workload(
        &self,
        key: &WorkloadKey,
        precondition: Precondition,
    ) -> Result<(), Error> {
        let call = Call::write(Method::DELETE, workload_path(key)).on(precondition);
        self.exchange.done(&call).await
    }

    /// Changes how many instances of a workload are wanted.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn scale(&self, key: &WorkloadKey, scale: Scale) -> Result<Workload, Error> {
        let path = format!("{}/scale", workload_path(key));
        self.send(Method::POST, path, &scale).await
    }

    /// Replaces all instances of a workload by new ones, as an update would.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn restart(&self, key: &WorkloadKey) -> Result<Workload, Error> {
        let call = Call::write(Method::POST, format!("{}/restart", workload_path(key)));
        self.exchange.json(&call).await
    }

    /// Decides how a change of a workload's revision goes on.
    ///
    /// # Errors
    /// See [`Error`]; a problem with the code `version-conflict` if `precondition` does not hold.
    pub async fn rollout(
        &self,
        key: &WorkloadKey,
        action: &RolloutAction,
        precondition: Precondition,
    ) -> Result<Workload, Error> {
        let call = Call::write(Method::POST, format!("{}/rollout", workload_path(key)))
            .with_json(action)
            .on(precondition);
        self.exchange.json(&call).await
    }

    /// The revisions of a workload that are kept.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn revisions(&self, key: &WorkloadKey) -> Result<List<Revision>, Error> {
        self.read(format!("{}/revisions", workload_path(key))).await
    }

    /// Runs the template of a job or of a schedule once more, as a job of its own: the one that
    /// is answered.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn run_job(&self, key: &WorkloadKey, run: &RunJob) -> Result<Workload, Error> {
        let path = format!("{}/run", workload_path(key));
        self.send(Method::POST, path, run).await
    }

    /// One instance.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn instance(
        &self,
        namespace: &Namespace,
        id: &InstanceId,
    ) -> Result<Instance, Error> {
        self.read(format!("/v1/instances/{namespace}/{id}")).await
    }

    /// The output of a container of an instance, line by line; without a name, of the main one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn logs(
        &self,
        namespace: &Namespace,
        id: &InstanceId,
        container: Option<&ContainerName>,
        options: &LogOptions,
    ) -> Result<Lines, Error> {
        let mut query = Query::default();
        if let Some(container) = container {
            query.push("container", container);
        }
        query.push("follow", options.follow);
        query.push("timestamps", options.timestamps);
        if let Some(tail) = options.tail {
            query.push("tail", tail);
        }
        if let Some(since) = options.since {
            query.push("since", since);
        }
        let path = query.appended_to(&format!("/v1/instances/{namespace}/{id}/logs"));
        let body = self.exchange.open(&Call::new(Method::GET, path)).await?;
        Ok(Lines::new(body, LOG_LINE_BYTES_MAX, LongLine::Split))
    }

    /// One node.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn node(&self, name: &NodeName) -> Result<Node, Error> {
        self.read(node_path(name)).await
    }

    /// Changes what an operator decides about a node.
    ///
    /// # Errors
    /// See [`Error`]; a problem with the code `version-conflict` if `precondition` does not hold.
    pub async fn patch_node(
        &self,
        name: &NodeName,
        patch: &NodePatch,
        precondition: Precondition,
    ) -> Result<Node, Error> {
        let call = Call::write(Method::PATCH, node_path(name))
            .with_json(patch)
            .on(precondition);
        self.exchange.json(&call).await
    }

    /// Has everything leave a node.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn drain_node(&self, name: &NodeName, drain: &DrainRequest) -> Result<Node, Error> {
        let path = format!("{}/drain", node_path(name));
        self.send(Method::POST, path, drain).await
    }

    /// Takes a node out of the cluster; with `force` also if something is stopped by that.
    ///
    /// # Errors
    /// See [`Error`]; a problem with the code `conflict` if something would be stopped.
    pub async fn remove_node(&self, name: &NodeName, force: Force) -> Result<(), Error> {
        let mut query = Query::default();
        query.push("force", force == Force::Yes);
        let path = query.appended_to(&node_path(name));
        self.exchange.done(&Call::write(Method::DELETE, path)).await
    }

    /// Moves instances so that the load of the nodes is more even.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn rebalance(
        &self,
        request: &RebalanceRequest,
        dry_run: DryRun,
    ) -> Result<RebalanceResponse, Error> {
        let mut query = Query::default();
        query.push("dryRun", dry_run == DryRun::Yes);
        let path = query.appended_to("/v1/rebalance");
        self.send(Method::POST, path, request).await
    }

    /// Applies resources: all of them, or none.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn apply(&self, request: &ApplyRequest) -> Result<ApplyResponse, Error> {
        self.send(Method::POST, "/v1/apply".to_owned(), request)
            .await
    }

    /// What [`Client::apply`] would do, and why. Nothing is changed.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn plan(&self, request: &ApplyRequest) -> Result<ApplyResponse, Error> {
        self.send(Method::POST, "/v1/apply?dryRun=true".to_owned(), request)
            .await
    }

    async fn read<T: DeserializeOwned>(&self, path: String) -> Result<T, Error> {
        self.exchange.json(&Call::new(Method::GET, path)).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: String,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        self.exchange
            .json(&Call::write(method, path).with_json(body))
            .await
    }
}

fn workload_path(key: &WorkloadKey) -> String {
    format!("/v1/workloads/{}/{}", key.namespace, key.name)
}

fn node_path(name: &NodeName) -> String {
    format!("/v1/nodes/{name}")
}

#[cfg(test)]
mod tests;
