//! Reaching into instances: commands, connections to ports, and files. The server asks the
//! instance's agent for a stream ([`crate::sessions`]) and passes on what goes through it. What
//! cannot work is refused before anything is opened.

use std::{io, sync::Arc, time::Duration};

use axum::{
    Json,
    body::{Body, BodyDataStream},
    extract::{
        State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::StreamExt;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::timeout,
};
use windlass_api::{
    ids::ContainerName,
    problem::Code,
    resource::Instance,
    wire::{
        CHUNK_BYTES_MAX, Control, ExecOptions, FileInfo, FilePart, STALLED_AFTER, StreamRequest,
        TerminalSize,
    },
};

use super::{
    Api, REACH_STREAMS_MAX, instances,
    instances::flag,
    output::Output,
    parameters::{PathParameters, Query},
    stream,
};
use crate::{
    error::Error,
    sessions::{Chunk, Frame, StreamEnd},
};

/// The header that says what a tar archive is of, as JSON.
const FILE_INFO: &str = "x-windlass-file";
/// The media type of tar archives.
pub(super) const TAR: &str = "application/x-tar";
/// How long an agent may take to say whether a file is there: as long as it waits for Docker, and
/// a little more.
const FOUND_WITHIN: Duration = Duration::from_secs(15);
/// How long Docker may take with the end of an archive: to write what is in its buffers to a slow
/// disk.
const WRITTEN_WITHIN: Duration = Duration::from_secs(120);
/// How long what a client still sends is read after it was refused, so that it hears of it: a
/// connection that is closed before loses the answer.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// A command.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ExecQuery {
    /// The program and its arguments, as a JSON array of strings.
    #[serde(deserialize_with = "strings")]
    #[schemars(with = "String")]
    command: Vec<String>,
    /// Where it runs. Default: in the main container.
    #[schemars(with = "String")]
    container: Option<ContainerName>,
    /// What is sent becomes its standard input. Without this it has none.
    #[serde(default, deserialize_with = "flag")]
    stdin: bool,
    /// It gets a terminal of this size, `ROWSxCOLUMNS`. Without this it has none.
    #[serde(default, deserialize_with = "size")]
    #[schemars(with = "String")]
    terminal: Option<TerminalSize>,
    /// The kind of terminal: its variable `TERM`.
    #[schemars(with = "String")]
    terminal_kind: Option<String>,
}

/// A file or folder.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct FileQuery {
    /// Its absolute path.
    path: String,
    /// Where it is. Default: in the main container.
    #[schemars(with = "String")]
    container: Option<ContainerName>,
    /// Only say what is there.
    #[serde(default, deserialize_with = "flag")]
    info: bool,
}

/// A folder to write to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct FolderQuery {
    /// Its absolute path.
    path: String,
    /// Where it is. Default: in the main container.
    #[schemars(with = "String")]
    container: Option<ContainerName>,
}

fn strings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let words: Vec<String> = serde_json::from_str(&text)
        .map_err(|_| de::Error::custom("`command` is a JSON array of strings, like [\"ls\"]"))?;
    match words.first() {
        Some(program) if !program.is_empty() => Ok(words),
        _ => Err(de::Error::custom("`command` names no program")),
    }
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TerminalSize>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(de::Error::custom)
}

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// Runs a command.
pub(super) async fn exec(
    State(api): State<Arc<Api>>,
    path: PathParameters,
    Query(query): Query<ExecQuery>,
    upgrade: Upgrade,
) -> Result<Response, Error> {
    let instance = find(&api, &path)?;
    let request = StreamRequest::Exec {
        instance: instance.name.clone(),
        container: query.container,
        options: ExecOptions {
            command: query.command,
            stdin: query.stdin,
            terminal: query.terminal,
            terminal_kind: query.terminal_kind,
        },
    };
    open_socket(&api, &instance, request, upgrade).await
}

/// Connects to a port.
pub(super) async fn forward(
    State(api): State<Arc<Api>>,
    path: PathParameters,
    upgrade: Upgrade,
) -> Result<Response, Error> {
    let instance = find(&api, &path)?;
    let request = StreamRequest::Forward {
        instance: instance.name.clone(),
        port: path.get("port")?,
    };
    open_socket(&api, &instance, request, upgrade).await
}

/// Reads a file or folder as a tar archive.
pub(super) async fn read_files(
    State(api): State<Arc<Api>>,
    path: PathParameters,
    headers: HeaderMap,
    Query(query): Query<FileQuery>,
) -> Result<Response, Error> {
    let instance = find(&api, &path)?;
    let part = if query.info {
        FilePart::Info
    } else {
        FilePart::Whole
    };
    let request = StreamRequest::ReadFiles {
        instance: instance.name.clone(),
        container: query.container,
        path: absolute(query.path.clone())?,
        part,
    };
    let (mut end, permit) = open(&api, &instance, request).await?;
    let info = found(&mut end, &instance, &query.path).await?;
    if part == FilePart::Info {
        return Ok(Json(info).into_response());
    }
    let json = serde_json::to_vec(&info).expect("a file's name is valid JSON");
    // What JSON leaves as it is, a header may not hold: then the name is all that is lost.
    let head = HeaderValue::from_bytes(&json)
        .map_err(|_| Error::malformed("the file's name has control characters"))?;
    let output = Output {
        end,
        shutdown: api.shutdown.clone(),
        _permit: permit,
    };
    let mut response = output.into_response(HeaderValue::from_static(TAR), &headers);
    response.headers_mut().insert(FILE_INFO, head);
    Ok(response)
}

/// Unpacks a tar archive in a folder.
pub(super) async fn write_files(
    State(api): State<Arc<Api>>,
    path: PathParameters,
    Query(query): Query<FolderQuery>,
    body: Body,
) -> Result<StatusCode, Error> {
    let mut body = body.into_data_stream();
    match unpack(&api, &path, query, &mut body).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error) => {
            // Ends by itself, soon: it needs nobody to wait for it.
            tokio::spawn(timeout(DRAIN_WITHIN, async move {
                while let Some(Ok(_)) = body.next().await {}
            }));
            Err(error)
        }
    }
}

async fn unpack(
    api: &Arc<Api>,
    path: &PathParameters,
    query: FolderQuery,
    body: &mut BodyDataStream,
) -> Result<(), Error> {
    let instance = find(api, path)?;
    let request = StreamRequest::WriteFiles {
        instance: instance.name.clone(),
        container: query.container,
        path: absolute(query.path)?,
    };
    let (end, _permit) = open(api, &instance, request).await?;
    let StreamEnd {
        mut incoming,
        outgoing,
    } = end;
    let sending = send_body(body, &outgoing);
    // Neither is used again if the other is first.
    tokio::select! {
        sent = sending => sent?,
        // The agent ended it before the archive did: it says why.
        answer = incoming.next() => return outcome(answer),
    }
    let answer = timeout(WRITTEN_WITHIN, incoming.next()).await;
    answer.map_or_else(
        |_| {
            let detail = format!("docker is not done after {} s", WRITTEN_WITHIN.as_secs());
            Err(Error::new(Code::Timeout, detail))
        },
        outcome,
    )
}

/// What an agent says in the end about an archive that it was sent.
fn outcome(answer: Chunk) -> Result<(), Error> {
    match answer {
        Ok(None) => Ok(()),
        Ok(Some(Frame::Control(Control::Failed { reason, .. }))) => {
            Err(Error::new(Code::Conflict, reason))
        }
        Ok(Some(_)) => Err(unexpected()),
        Err(error) => Err(broken(&error)),
    }
}

/// Passes on an archive.
async fn send_body(body: &mut BodyDataStream, to: &mpsc::Sender<Chunk>) -> Result<(), Error> {
    loop {
        let next = timeout(STALLED_AFTER, body.next());
        let mut bytes = match next.await {
            Ok(None) => break,
            Ok(Some(Ok(bytes))) => bytes,
            Ok(Some(Err(error))) => {
                // Said, so that half an archive is not taken for a whole one.
                let cut_off = io::Error::other("the archive was cut off");
                let _gone = to.send(Err(cut_off)).await;
                return Err(Error::malformed(format!("the archive broke off: {error}")));
            }
            Err(_) => {
                let limit = STALLED_AFTER.as_secs();
                let detail = format!("nothing came of the archive for {limit} s");
                let _gone = to.send(Err(io::ErrorKind::TimedOut.into())).await;
                return Err(Error::new(Code::Timeout, detail));
            }
        };
        while !bytes.is_empty() {
            let piece: Bytes = bytes.split_to(bytes.len().min(CHUNK_BYTES_MAX));
            if to.send(Ok(Some(Frame::Data(piece)))).await.is_err() {
                // The agent's own word is on its way.
                return std::future::pending().await;
            }
        }
    }
    let eof = Frame::Control(Control::Eof);
    if to.send(Ok(Some(eof))).await.is_err() {
        return std::future::pending().await;
    }
    Ok(())
}

/// What an agent says first about files that it was asked for.
async fn found(end: &mut StreamEnd, instance: &Instance, path: &str) -> Result<FileInfo, Error> {
    let Ok(answer) = timeout(FOUND_WITHIN, end.incoming.next()).await else {
        let limit = FOUND_WITHIN.as_secs();
        let detail = format!("the agent did not say within {limit} s what is at {path}");
        return Err(Error::new(Code::Timeout, detail));
    };
    match answer {
        Ok(Some(Frame::Control(Control::Found(info)))) => Ok(info),
        Ok(Some(Frame::Control(Control::Missing))) => Err(Error::new(
            Code::NotFound,
            format!("there is nothing at {path} in {}", instance.name),
        )),
        Ok(Some(Frame::Control(Control::Failed { reason, .. }))) => {
            Err(Error::new(Code::Conflict, reason))
        }
        Ok(_) => Err(unexpected()),
        Err(error) => Err(broken(&error)),
    }
}

fn unexpected() -> Error {
    Error::new(Code::NodeUnreachable, "the agent said something unexpected")
}

fn broken(error: &io::Error) -> Error {
    Error::new(Code::NodeUnreachable, error.to_string())
}

fn absolute(path: String) -> Result<String, Error> {
    if path.starts_with('/') && !path.contains('\0') {
        Ok(path)
    } else {
        Err(Error::malformed("the path has to begin with a `/`"))
    }
}

fn find(api: &Api, path: &PathParameters) -> Result<Instance, Error> {
    let (namespace, id) = (path.namespace()?, path.get("instance")?);
    instances::find(&api.handle.state(), &namespace, &id)
}

/// Asks the instance's agent for a stream.
async fn open(
    api: &Api,
    instance: &Instance,
    request: StreamRequest,
) -> Result<(StreamEnd, OwnedSemaphorePermit), Error> {
    let node = instances::node_of(instance)?;
    let permit = Arc::clone(&api.reach_streams)
        .try_acquire_owned()
        .map_err(|_| {
            let detail = format!(
                "{REACH_STREAMS_MAX} commands, connections and copies are open, which is the most"
            );
            Error::new(Code::Overloaded, detail)
        })?;
    Ok((api.sessions.open(node, request).await?, permit))
}

/// Opens a stream, and the WebSocket of whoever wants it.
async fn open_socket(
    api: &Arc<Api>,
    instance: &Instance,
    request: StreamRequest,
    upgrade: Upgrade,
) -> Result<Response, Error> {
    let upgrade = upgrade.map_err(|rejection| {
        Error::malformed(format!("this route is for WebSockets: {rejection}"))
    })?;
    let (end, permit) = open(api, instance, request).await?;
    let shutdown = api.shutdown.clone();
    let upgrade = upgrade
        .max_message_size(CHUNK_BYTES_MAX)
        .max_frame_size(CHUNK_BYTES_MAX)
        .read_buffer_size(stream::STREAM_BUFFER_BYTES);
    Ok(upgrade.on_upgrade(async move |socket| {
        stream::pump(socket, end, "whoever asked for it", shutdown).await;
        drop(permit);
    }))
}
