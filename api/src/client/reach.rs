//! Reaching into instances: commands, connections, files, and what they use.

use std::io;

use bytes::Bytes;
use futures_util::Stream as Pieces;
use http::{Method, Response};
use hyper::body::Incoming;

use super::{
    Client, Error,
    exchange::{Call, Socket, Stream},
    resource::Query,
};
use crate::{
    ids::{ContainerName, InstanceId, Namespace, NodeName},
    stats::Stats,
    wire::{ExecOptions, FileInfo},
};

/// The WebSocket of a stream; see [`crate::socket::split`].
pub type StreamSocket = Socket;

/// The header that says what was found, as JSON.
const FILE_INFO: &str = "x-windlass-file";
/// The media type of tar archives.
const TAR: &str = "application/x-tar";

impl Client {
    /// Runs a command in a container of an instance; without a name, in the main one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn exec(
        &self,
        namespace: &Namespace,
        id: &InstanceId,
        container: Option<&ContainerName>,
        options: &ExecOptions,
    ) -> Result<StreamSocket, Error> {
        let mut query = of_container(container);
        let command = serde_json::to_string(&options.command).expect("strings are valid JSON");
        query.push("command", command);
        query.push("stdin", options.stdin);
        if let Some(size) = options.terminal {
            query.push("terminal", size);
        }
        if let Some(kind) = &options.terminal_kind {
            query.push("terminalKind", kind);
        }
        let path = query.appended_to(&format!("/v1/instances/{namespace}/{id}/exec"));
        self.exchange.upgrade(&Call::new(Method::GET, path)).await
    }

    /// Opens a connection to a port of an instance.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn forward(
        &self,
        namespace: &Namespace,
        id: &InstanceId,
        port: u16,
    ) -> Result<StreamSocket, Error> {
        let path = format!("/v1/instances/{namespace}/{id}/ports/{port}");
        self.exchange.upgrade(&Call::new(Method::GET, path)).await
    }

    /// What is at a path in a container; without a name, in the main one.
    ///
    /// # Errors
    /// See [`Error`]; a problem with the code `not-found` if there is nothing.
    pub async fn file_info(
        &self,
        namespace: &Namespace,
        id: &InstanceId,
        container: Option<&ContainerName>,
        path: &str,
    ) -> Result<FileInfo, Error> {
        let mut query = of_container(container);
        query.push("path", path);
        query.push("info", true);
        self.read(query.appended_to(&files(namespace, id))).await
    }

    /// Reads a file or folder of a container as a tar archive; without a name, of the main one.
    ///
    /// # Errors
    /// See [`Error`]; a problem with the code `not-found` if there is nothing.
    pub async fn read_files(
        &self,
        namespace: &Namespace,
        id: &InstanceId,
        container: Option<&ContainerName>,
        path: &str,
    ) -> Result<(FileInfo, FileBody), Error> {
        let mut query = of_container(container);
        query.push("path", path);
        let call = Call::new(Method::GET, query.appended_to(&files(namespace, id)));
        let response = self.exchange.respond(&call).await?;
        let info = response.headers().get(FILE_INFO);
        let info = info.and_then(|info| serde_json::from_slice(info.as_bytes()).ok());
        let info = info.ok_or_else(|| Error::Protocol {
            server: self.server().to_owned(),
            why: format!("the header {FILE_INFO} is missing or not understood"),
        })?;
        Ok((info, FileBody::new(response, self.server())))
    }

    /// Unpacks a tar archive in a folder of a container; without a name, of the main one. An error
    /// in `body` breaks it off.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn write_files(
        &self,
        namespace: &Namespace,
        id: &InstanceId,
        container: Option<&ContainerName>,
        path: &str,
        body: impl Pieces<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<(), Error> {
        let mut query = of_container(container);
        query.push("path", path);
        let call = Call::new(Method::PUT, query.appended_to(&files(namespace, id)));
        self.exchange.upload(&call, TAR, body).await
    }

    /// What a node and its instances use at the moment; without a name, all nodes.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn stats(&self, node: Option<&NodeName>) -> Result<Stats, Error> {
        let mut query = Query::default();
        if let Some(node) = node {
            query.push("node", node);
        }
        self.read(query.appended_to("/v1/stats")).await
    }
}

fn of_container(container: Option<&ContainerName>) -> Query {
    let mut query = Query::default();
    if let Some(container) = container {
        query.push("container", container);
    }
    query
}

fn files(namespace: &Namespace, id: &InstanceId) -> String {
    format!("/v1/instances/{namespace}/{id}/files")
}

/// A file, as it arrives.
#[derive(Debug)]
pub struct FileBody(Stream);

impl FileBody {
    pub(super) fn new(response: Response<Incoming>, server: &str) -> Self {
        Self(Stream::new(response, server))
    }

    /// The next piece, or `None` after the last one. Cancel-safe.
    ///
    /// # Errors
    /// The connection broke, or the file broke off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        self.0.next().await
    }
}
