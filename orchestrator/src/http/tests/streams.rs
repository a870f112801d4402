//! Reaching into instances, with a pretended agent.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{Method, StatusCode},
};
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::json;
use windlass_api::{
    client::{Client, Endpoint},
    ids::{InstanceId, Namespace},
    problem::Code,
    quantity::CpuMillis,
    socket::{self, Message},
    wire::{
        Channel, Control, ExecOptions, FileInfo, FileKind, FilePart, ServerFrame, SignalName,
        StreamRequest, TerminalSize,
    },
};

use super::{
    fixture::{Server, request},
    sockets::{Listening, listen},
};
use crate::sessions::{Frame, Registration, StreamEnd};

/// What an agent does with the one stream that it is asked for.
pub(super) async fn agent(
    server: &Server,
    mut registration: Registration,
) -> (StreamRequest, StreamEnd, Registration) {
    let Some(ServerFrame::OpenStream { stream, request }) = registration.outbound.recv().await
    else {
        panic!("no stream was asked for");
    };
    let (_, end) = server.sessions.opened(stream, |_| true).unwrap();
    (request, end, registration)
}

async fn instance(server: &Server) -> InstanceId {
    server.join("n1", CpuMillis(1_000)).await;
    server.put("web", 1).await;
    let name = server.get("/v1/instances").await.names().remove(0);
    name.parse().unwrap()
}

/// A server that is reached over connections, with one instance on a node.
pub(super) async fn reached() -> (Listening, Client, InstanceId, Registration) {
    let listening = listen().await;
    let id = instance(&listening.server).await;
    let registration = listening
        .server
        .sessions
        .register(&listening.server.node("n1"));
    let client = Client::new(&Endpoint::http(([127, 0, 0, 1], listening.port).into()));
    (listening, client, id, registration)
}

pub(super) fn command(words: &[&str]) -> ExecOptions {
    ExecOptions {
        command: words.iter().map(|w| (*w).to_owned()).collect(),
        stdin: true,
        ..ExecOptions::default()
    }
}

#[tokio::test]
async fn a_command_speaks_both_ways_and_its_end_is_told() {
    let (listening, client, id, registration) = reached().await;
    let namespace = Namespace::default();
    let options = ExecOptions {
        terminal: Some(TerminalSize {
            rows: 24,
            columns: 80,
        }),
        terminal_kind: Some("xterm".to_owned()),
        ..command(&["sh", "-c", "a b&c=\"d\" ü"])
    };
    let (opened, (request, mut end, _registration)) = tokio::join!(
        client.exec(&namespace, &id, None, &options),
        agent(&listening.server, registration)
    );
    let expected = StreamRequest::Exec {
        instance: id,
        container: None,
        options,
    };
    assert_eq!(request, expected);
    let (mut outgoing, mut incoming) = socket::split(opened.unwrap());
    outgoing.data(Bytes::from_static(b"in")).await.unwrap();
    let interrupt = Control::Signal {
        signal: SignalName::Int,
    };
    outgoing.control(&interrupt).await.unwrap();
    let heard = [
        end.incoming.next().await.unwrap().unwrap(),
        end.incoming.next().await.unwrap().unwrap(),
    ];
    let data = Frame::Data(Bytes::from_static(b"in"));
    assert_eq!(heard, [data, Frame::Control(interrupt)]);
    let out = Bytes::from(vec![Channel::Output.byte(), b'x']);
    let exit = Control::Exit { code: 3 };
    let said = [Frame::Data(out.clone()), Frame::Control(exit.clone())];
    for frame in said {
        end.outgoing.send(Ok(Some(frame))).await.unwrap();
    }
    end.outgoing.send(Ok(None)).await.unwrap();
    let heard = [
        incoming.next().await.unwrap(),
        incoming.next().await.unwrap(),
        incoming.next().await.unwrap(),
    ];
    let expected = [Some(Message::Data(out)), Some(Message::Control(exit)), None];
    assert_eq!(heard, expected);
}

#[tokio::test]
async fn a_side_that_leaves_takes_the_other_with_it() {
    let (listening, client, id, registration) = reached().await;
    let namespace = Namespace::default();
    let (opened, (_, mut end, registration)) = tokio::join!(
        client.forward(&namespace, &id, 80),
        agent(&listening.server, registration)
    );
    // Without a farewell, as when a client is killed.
    drop(opened.unwrap());
    let error = end.incoming.next().await.unwrap_err().to_string();
    let why = "the connection to whoever asked for it broke";
    assert!(error.contains(why), "{error}");

    let (opened, (_, end, _registration)) = tokio::join!(
        client.forward(&namespace, &id, 80),
        agent(&listening.server, registration)
    );
    let (_outgoing, mut incoming) = socket::split(opened.unwrap());
    let reason = std::io::Error::other("the cable is cut");
    end.outgoing.send(Err(reason)).await.unwrap();
    let error = incoming.next().await.unwrap_err();
    assert_eq!(error.to_string(), "the cable is cut");
}

#[tokio::test]
async fn a_shutdown_ends_streams() {
    let (listening, client, id, registration) = reached().await;
    let namespace = Namespace::default();
    let options = command(&["sh"]);
    let (opened, (_, mut end, _registration)) = tokio::join!(
        client.exec(&namespace, &id, None, &options),
        agent(&listening.server, registration)
    );
    let (_outgoing, mut incoming) = socket::split(opened.unwrap());
    listening.server.shutdown.cancel();
    let error = incoming.next().await.unwrap_err();
    assert_eq!(error.to_string(), "the server stops");
    drop(incoming);
    while end.incoming.next().await.is_ok() {}
}

#[tokio::test]
async fn what_cannot_work_is_refused_before_anything_is_opened() {
    let (listening, client, id, registration) = reached().await;
    let namespace = Namespace::default();
    let options = command(&["sh"]);
    let unknown = "web-9-99".parse().unwrap();
    let refused = client.exec(&namespace, &unknown, None, &options).await;
    assert_eq!(refused.unwrap_err().code(), Some(Code::NotFound));

    let mut registration = registration;
    let failing = async {
        let Some(ServerFrame::OpenStream { stream, .. }) = registration.outbound.recv().await
        else {
            panic!("no stream was asked for");
        };
        let server = &listening.server;
        let reason = "the container does not run".to_owned();
        server
            .sessions
            .failed(&server.node("n1"), stream, reason.clone());
        reason
    };
    let (refused, reason) = tokio::join!(client.exec(&namespace, &id, None, &options), failing);
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Conflict));
    assert_eq!(refused.to_string(), reason);

    drop(registration);
    let refused = client.forward(&namespace, &id, 80).await;
    assert_eq!(refused.unwrap_err().code(), Some(Code::NodeUnreachable));
    for (target, says) in [
        ("exec?command=[\"ls\"]", "this route is for WebSockets"),
        ("exec?command=ls", "JSON array"),
        ("exec?command=[]", "names no program"),
        ("exec?command=[\"ls\"]&terminal=big", "ROWSxCOLUMNS"),
        ("exec?command=[\"ls\"]&user=root", "unknown field"),
        ("ports/99999", "number too large"),
        ("files?path=etc", "begin with a `/`"),
    ] {
        let target = target.replace('[', "%5B").replace(']', "%5D");
        let target = target.replace('"', "%22");
        let target = format!("/v1/instances/default/{id}/{target}");
        let problem = listening.server.get(&target).await.refused(Code::Malformed);
        assert!(problem.detail.contains(says), "{target}: {problem:?}");
    }
}

#[tokio::test]
async fn there_are_not_too_many_streams() {
    let (listening, client, id, mut registration) = reached().await;
    let namespace = Namespace::default();
    let mut open = Vec::new();
    for _ in 0..crate::http::REACH_STREAMS_MAX {
        let (opened, (_, end, again)) = tokio::join!(
            client.forward(&namespace, &id, 80),
            agent(&listening.server, registration)
        );
        registration = again;
        open.push((opened.unwrap(), end));
    }
    let target = format!("/v1/instances/default/{id}/files?path=/etc");
    let refused = listening.server.get(&target).await;
    refused.refused(Code::Overloaded);
    let metrics = listening.server.get("/metrics").await;
    assert!(metrics.text().contains("windlass_reach_streams_open 128\n"));
}

pub(super) fn folder(name: &str) -> FileInfo {
    FileInfo {
        name: name.to_owned(),
        kind: FileKind::Folder,
        size: 0,
    }
}

#[tokio::test]
async fn files_are_read_as_they_come() {
    let (listening, client, id, registration) = reached().await;
    let namespace = Namespace::default();
    let answering = async {
        let (request, end, registration) = agent(&listening.server, registration).await;
        let StreamRequest::ReadFiles { path, part, .. } = request else {
            panic!("something else was asked for: {request:?}");
        };
        assert_eq!((path.as_str(), part), ("/etc/ü", FilePart::Whole));
        let found = Control::Found(folder("ü"));
        let data = Frame::Data(Bytes::from_static(b"tar"));
        for frame in [Some(Frame::Control(found)), Some(data), None] {
            end.outgoing.send(Ok(frame)).await.unwrap();
        }
        registration
    };
    let (read, registration) = tokio::join!(
        client.read_files(&namespace, &id, None, "/etc/ü"),
        answering
    );
    let (info, mut body) = read.unwrap();
    assert_eq!(info, folder("ü"));
    assert_eq!(body.next().await.unwrap().unwrap(), "tar");
    assert!(body.next().await.unwrap().is_none());

    let missing = async {
        let (_, end, registration) = agent(&listening.server, registration).await;
        let missing = Frame::Control(Control::Missing);
        end.outgoing.send(Ok(Some(missing))).await.unwrap();
        registration
    };
    let (read, registration) =
        tokio::join!(client.file_info(&namespace, &id, None, "/nowhere"), missing);
    assert_eq!(read.unwrap_err().code(), Some(Code::NotFound));

    let beginning = async {
        let (_, end, _registration) = agent(&listening.server, registration).await;
        let found = Frame::Control(Control::Found(folder("etc")));
        end.outgoing.send(Ok(Some(found))).await.unwrap();
        end
    };
    let (read, end) = tokio::join!(client.read_files(&namespace, &id, None, "/etc"), beginning);
    let (_, mut body) = read.unwrap();
    let failed = Frame::Control(Control::failed("the disk is broken"));
    end.outgoing.send(Ok(Some(failed))).await.unwrap();
    let error = body.next().await.unwrap_err();
    assert_eq!(error.to_string(), "it broke off: the disk is broken");
}

#[tokio::test]
async fn files_of_any_size_are_written_as_they_come() {
    const PIECES: usize = 40;
    let (listening, client, id, registration) = reached().await;
    let namespace = Namespace::default();
    let body = futures_util::stream::iter((0..PIECES).map(|_| Ok(Bytes::from(vec![1; 100_000]))));
    let taking = async {
        let (_, mut end, registration) = agent(&listening.server, registration).await;
        let mut taken = 0;
        loop {
            match end.incoming.next().await.unwrap().unwrap() {
                Frame::Data(bytes) => taken += bytes.len(),
                Frame::Control(control) => break assert_eq!(control, Control::Eof),
            }
        }
        assert_eq!(taken, PIECES * 100_000);
        end.outgoing.send(Ok(None)).await.unwrap();
        registration
    };
    let (written, registration) = tokio::join!(
        client.write_files(&namespace, &id, None, "/data", body),
        taking
    );
    written.unwrap();

    let endless = futures_util::stream::repeat_with(|| Ok(Bytes::from_static(&[1; 4_096])));
    let refusing = async {
        let (_, end, registration) = agent(&listening.server, registration).await;
        let failed = Control::failed("there is no folder /data");
        let failed = Some(Frame::Control(failed));
        end.outgoing.send(Ok(failed)).await.unwrap();
        registration
    };
    let (written, registration) = tokio::join!(
        client.write_files(&namespace, &id, None, "/data", endless),
        refusing
    );
    let error = written.unwrap_err();
    assert_eq!(error.code(), Some(Code::Conflict), "{error}");

    let (unplug, unplugged) = tokio::sync::oneshot::channel::<()>();
    let half = futures_util::stream::iter([Ok(Bytes::from_static(b"half"))]);
    let broken = half.chain(futures_util::stream::once(async {
        unplugged.await.unwrap();
        Err(std::io::Error::other("unplugged"))
    }));
    let hearing = async {
        let (_, mut end, _registration) = agent(&listening.server, registration).await;
        let first = end.incoming.next().await.unwrap().unwrap();
        assert_eq!(first, Frame::Data(Bytes::from_static(b"half")));
        unplug.send(()).unwrap();
        assert!(end.incoming.next().await.is_err());
    };
    let (written, ()) = tokio::join!(
        client.write_files(&namespace, &id, None, "/data", broken),
        hearing
    );
    assert!(written.is_err());
}

#[tokio::test]
async fn what_nodes_use_is_asked_of_those_that_can_be_asked() {
    let server = Arc::new(Server::start());
    for node in ["n1", "n2"] {
        server.join(node, CpuMillis(1_000)).await;
    }
    let registration = server.sessions.register(&server.node("n1"));
    let usage = json!({
        "machine": { "cpu": "250m", "memory": "1Gi", "received": { "bytes": 1, "bytesPerSecond": 2 },
            "sent": { "bytes": 3, "bytesPerSecond": 4 } },
        "capacity": { "cpu": "1", "memory": "2Gi" }, "instances": [],
    });
    let answering = async {
        let (request, end, _registration) = agent(&server, registration).await;
        assert_eq!(request, StreamRequest::Stats);
        let data = Frame::Data(usage.to_string().into());
        end.outgoing.send(Ok(Some(data))).await.unwrap();
    };
    let (answer, ()) = tokio::join!(server.get("/v1/stats"), answering);
    let stats = answer.json();
    assert_eq!(stats["nodes"][0]["node"], "n1");
    assert_eq!(stats["nodes"][0]["usage"]["machine"]["sent"]["bytes"], 3);
    let reason = stats["nodes"][1]["reason"].as_str().unwrap();
    assert_eq!(stats["nodes"][1]["state"], "unreachable");
    assert!(reason.contains("is not connected"), "{reason}");
    server
        .get("/v1/stats?node=n9")
        .await
        .refused(Code::NotFound);
}

#[tokio::test]
async fn a_node_that_hangs_holds_up_nobody() {
    let server = Server::start();
    server.join("n1", CpuMillis(1_000)).await;
    let _registration = server.sessions.register(&server.node("n1"));
    tokio::time::pause();
    let stats = server.get("/v1/stats").await.json();
    assert_eq!(stats["nodes"][0]["reason"], "no answer within 5 s");
}

#[tokio::test]
async fn an_upload_says_where_it_goes() {
    let server = Server::start();
    let id = instance(&server).await;
    let target = format!("/v1/instances/default/{id}/files");
    let put = request(Method::PUT, &target).body(Body::from("x")).unwrap();
    let answer = server.send(put).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.problem().detail.contains("path"));
}
