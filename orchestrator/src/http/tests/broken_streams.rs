//! Streams that end before their end, and what is said about it.

use bytes::Bytes;
use tokio::time::Instant;
use windlass_api::{
    ids::Namespace,
    problem::Code,
    socket,
    wire::{Control, IDLE_AFTER, ServerFrame, stream_path},
};

use super::{
    sockets::{get, read_to_end, read_until, upgrade},
    streams::{agent, command, folder, reached},
};
use crate::sessions::Frame;

/// What an agent says of a folder, and the beginning of it.
fn beginning() -> [Frame; 2] {
    let found = Control::Found(folder("etc"));
    let data = Frame::Data(Bytes::from_static(b"half of it"));
    [Frame::Control(found), data]
}

/// Who does not read trailers would take the body for a whole one.
#[tokio::test]
async fn a_body_that_breaks_off_breaks_the_connection_of_who_takes_no_trailers() {
    let (listening, _client, id, registration) = reached().await;
    let target = format!("/v1/instances/default/{id}/files?path=/etc");
    let mut stream = listening.connect(&get(&target)).await;
    let (_, end, _registration) = agent(&listening.server, registration).await;
    for frame in beginning() {
        end.outgoing.send(Ok(Some(frame))).await.unwrap();
    }
    read_until(&mut stream, "half of it").await;
    let failed = Frame::Control(Control::failed("the disk\r\nis broken"));
    end.outgoing.send(Ok(Some(failed))).await.unwrap();
    let rest = read_to_end(stream).await;
    assert!(!rest.contains("0\r\n\r\n"), "{rest:?}");
}

#[tokio::test]
async fn a_body_says_in_its_trailer_why_it_broke_off_and_that_it_did_not() {
    let (listening, _client, id, mut registration) = reached().await;
    let target = format!("/v1/instances/default/{id}/files?path=/etc");
    let request = get(&target).replace("close\r\n", "close, TE\r\nTE: trailers\r\n");
    let failed = Frame::Control(Control::failed("the disk\r\nis broken"));
    for (last, trailer) in [
        (
            Some(failed),
            r#"{"type":"brokeOff","reason":"the disk  is broken"}"#,
        ),
        (None, r#"{"type":"done"}"#),
    ] {
        let stream = listening.connect(&request).await;
        let (_, end, again) = agent(&listening.server, registration).await;
        registration = again;
        for frame in beginning().map(Some).into_iter().chain([last]) {
            end.outgoing.send(Ok(frame)).await.unwrap();
        }
        let answer = read_to_end(stream).await;
        assert!(
            answer.contains("trailer: x-windlass-outcome\r\n"),
            "{answer}"
        );
        let end = format!("0\r\nx-windlass-outcome: {trailer}\r\n\r\n");
        assert!(answer.ends_with(&end), "{answer}");
    }
}

/// Found in review: an end of a stream that was dropped looked like one that had said all.
#[tokio::test]
async fn an_agent_that_just_goes_has_neither_sent_all_nor_taken_all() {
    let (listening, client, id, registration) = reached().await;
    let namespace = Namespace::default();
    let sending = async {
        let (_, end, registration) = agent(&listening.server, registration).await;
        for frame in beginning() {
            end.outgoing.send(Ok(Some(frame))).await.unwrap();
        }
        registration
    };
    let (read, registration) =
        tokio::join!(client.read_files(&namespace, &id, None, "/etc"), sending);
    let (_, mut body) = read.unwrap();
    assert_eq!(body.next().await.unwrap().unwrap(), "half of it");
    let error = body.next().await.unwrap_err();
    assert_eq!(error.to_string(), "it broke off: it was cut off");

    let whole = futures_util::stream::iter([Ok(Bytes::from_static(b"all of it"))]);
    let going = async { drop(agent(&listening.server, registration).await) };
    let (written, ()) = tokio::join!(
        client.write_files(&namespace, &id, None, "/data", whole),
        going
    );
    assert_eq!(written.unwrap_err().code(), Some(Code::NodeUnreachable));
}

/// Found in review: the upload was called done when its agent had taken nothing for a minute.
#[tokio::test]
async fn an_agent_that_takes_nothing_is_named_and_the_upload_not_called_done() {
    let (listening, client, id, mut registration) = reached().await;
    let endless = futures_util::stream::repeat_with(|| Ok(Bytes::from_static(&[1; 65_536])));
    let namespace = Namespace::default();
    let uploading = client.write_files(&namespace, &id, None, "/data", endless);
    let hanging = async {
        let Some(ServerFrame::OpenStream { stream, .. }) = registration.outbound.recv().await
        else {
            panic!("no stream was asked for");
        };
        let mut stuck = listening.connect(&upgrade(&stream_path(stream))).await;
        read_until(&mut stuck, "\r\n\r\n").await;
        tokio::time::pause();
        stuck
    };
    let (written, _stuck) = tokio::join!(uploading, hanging);
    let error = written.unwrap_err();
    assert_eq!(error.code(), Some(Code::NodeUnreachable), "{error}");
    assert_eq!(
        error.to_string(),
        "the agent of node n1 took nothing for 60 s"
    );
}

#[tokio::test]
async fn a_stream_that_is_forgotten_is_closed_and_one_that_is_used_is_not() {
    let (listening, client, id, registration) = reached().await;
    let namespace = Namespace::default();
    let options = command(&["sh"]);
    let (opened, (_, mut end, _registration)) = tokio::join!(
        client.exec(&namespace, &id, None, &options),
        agent(&listening.server, registration)
    );
    let (mut outgoing, mut incoming) = socket::split(opened.unwrap());
    tokio::time::pause();
    let began = Instant::now();
    let waiting = tokio::spawn(async move {
        let error = incoming.next().await.unwrap_err();
        (error.to_string(), began.elapsed())
    });
    // Once, when it is nearly over.
    tokio::time::sleep(IDLE_AFTER * 9 / 10).await;
    outgoing.data(Bytes::from_static(b"x")).await.unwrap();
    end.incoming.next().await.unwrap().unwrap();
    let (error, after) = waiting.await.unwrap();
    assert_eq!(error, "nothing was said for 4 h");
    assert!(after >= IDLE_AFTER * 19 / 10, "{after:?}");
    let error = end.incoming.next().await.unwrap_err();
    assert_eq!(error.to_string(), "nothing was said for 4 h");
}
