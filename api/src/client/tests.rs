//! The client against a server that says what each test wants.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{
    event::Event,
    list::WatchEvent,
    problem::{Code, Problem},
};

/// Answers one connection after the other with the next of `answers`, and keeps the requests.
/// An empty answer closes the connection without a word.
async fn serve(answers: Vec<String>) -> (Client, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(&Endpoint::http(listener.local_addr().unwrap()));
    let requests = Arc::new(Mutex::new(Vec::new()));
    let kept = requests.clone();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let request = read_request(&mut stream).await;
            kept.lock().unwrap().push(request);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (client, requests)
}

/// Reads a request with its body.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    loop {
        let mut buffer = [0; 4096];
        let len = stream.read(&mut buffer).await.unwrap();
        text.push_str(std::str::from_utf8(&buffer[..len]).unwrap());
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let expected = header(head, "content-length").map_or(0, |len| len.parse().unwrap());
        if body.len() >= expected {
            return text;
        }
    }
}

fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    request
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn problem(code: Code) -> String {
    let body = serde_json::to_string(&Problem::new(code, "because")).unwrap();
    answer(&format!("{} x", code.status()), &body)
}

fn stream(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}")
}

const INFO: &str =
    r#"{"cluster":"00000000-0000-0000-0000-000000000001","serverVersion":"0.1.0","version":7}"#;

fn node(name: &str, version: u64) -> String {
    format!(
        r#"{{"name":"{name}","scheduling":"Enabled","version":{version},"createdAt":"2026-01-01T00:00:00Z",
        "status":{{"state":"Ready","stateSince":"2026-01-01T00:00:00Z","info":{{"agentId":"00000000-0000-0000-0000-000000000001",
        "agentVersion":"0","engineId":"e","engineVersion":"20","os":"linux","arch":"x86_64"}},
        "capacity":{{"cpu":"2","memory":"1Gi"}},"generation":1}}}}"#
    )
    .replace('\n', "")
}

fn put(name: &str, version: u64) -> String {
    let object = node(name, version);
    format!(
        "event: put\nid: {version}\ndata: {{\"type\":\"put\",\"version\":{version},\"object\":{object}}}\n\n"
    )
}

#[tokio::test]
async fn an_answer_is_read() {
    let (client, requests) = serve(vec![answer("200 OK", INFO)]).await;
    assert_eq!(client.server_info().await.unwrap().version, Version(7));
    let requests = requests.lock().unwrap();
    assert!(
        requests[0].starts_with("GET /v1/server HTTP/1.1\r\n"),
        "{requests:?}"
    );
    assert_eq!(header(&requests[0], "idempotency-key"), None);
}

#[tokio::test]
async fn a_write_whose_connection_broke_is_sent_again_with_the_same_key() {
    let cut = answer("200 OK", &node("a", 1)).replace("connection: close", "x: y");
    let cut = cut[..cut.len() - 5].to_owned();
    let answers = vec![
        String::new(),
        cut,
        problem(Code::Overloaded),
        answer("200 OK", &node("a", 1)),
    ];
    let (client, requests) = serve(answers).await;
    let patch = NodePatch::default();
    assert_eq!(
        client
            .patch_node(&"a".parse().unwrap(), &patch, Precondition::None)
            .await
            .unwrap()
            .name
            .as_str(),
        "a"
    );
    let requests = requests.lock().unwrap();
    assert_eq!(requests.len(), 4);
    let key = header(&requests[0], "idempotency-key").unwrap();
    assert!(key.parse::<uuid::Uuid>().is_ok(), "{key}");
    for request in requests.iter() {
        assert!(
            request.starts_with("PATCH /v1/nodes/a HTTP/1.1\r\n"),
            "{request}"
        );
        assert_eq!(header(request, "idempotency-key"), Some(key));
    }
}

#[tokio::test]
async fn two_writes_have_two_keys() {
    let answers = vec![
        answer("200 OK", &node("a", 1)),
        answer("200 OK", &node("a", 1)),
    ];
    let (client, requests) = serve(answers).await;
    for _ in 0..2 {
        client
            .patch_node(
                &"a".parse().unwrap(),
                &NodePatch::default(),
                Precondition::None,
            )
            .await
            .unwrap();
    }
    let requests = requests.lock().unwrap();
    assert_ne!(
        header(&requests[0], "idempotency-key").unwrap(),
        header(&requests[1], "idempotency-key").unwrap()
    );
}

#[tokio::test]
async fn attempts_are_bounded() {
    let (client, requests) = serve(vec![String::new(); 9]).await;
    let error = client.server_info().await.unwrap_err();
    assert!(matches!(error, Error::Broken { .. }), "{error}");
    assert_eq!(requests.lock().unwrap().len(), 5);
}

#[tokio::test]
async fn a_refusal_is_told_as_the_server_put_it() {
    let (client, requests) = serve(vec![problem(Code::VersionConflict)]).await;
    let key = "default/web".parse().unwrap();
    let error = client
        .delete_workload(&key, Precondition::Version(Version(3)))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(Code::VersionConflict));
    assert_eq!(error.to_string(), "because");
    let requests = requests.lock().unwrap();
    assert!(
        requests[0].starts_with("DELETE /v1/workloads/default/web HTTP/1.1"),
        "{requests:?}"
    );
    assert_eq!(header(&requests[0], "if-match"), Some("\"3\""));
}

#[tokio::test]
async fn no_server_is_told_at_once_with_what_to_do() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = Client::new(&Endpoint::http(address))
        .server_info()
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot reach the server at http://{address}: connection refused")
    );
    assert!(error.is_unreachable());
    assert!(error.hint().unwrap().contains("WINDLASS_SERVER"));
}

#[tokio::test]
async fn something_else_that_listens_there_is_no_server() {
    for body in ["<html>hello</html>", "{}"] {
        let (client, _) = serve(vec![answer("200 OK", body)]).await;
        let error = client.server_info().await.unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{error}");
    }
    let (client, _) = serve(vec![answer("502 Bad Gateway", "<html>")]).await;
    let error = client.server_info().await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("HTTP status 502 Bad Gateway, `<html>`"),
        "{error}"
    );
}

#[tokio::test]
async fn a_list_is_read_to_its_last_page() {
    let page = |name, version: u64, next: &str| {
        let item = node(name, 1);
        answer(
            "200 OK",
            &format!(r#"{{"items":[{item}],"version":{version}{next}}}"#),
        )
    };
    let answers = vec![page("a", 5, r#","continue":"a=1""#), page("b", 6, "")];
    let (client, requests) = serve(answers).await;
    let list = client
        .list::<Node>(&Selection::all().field("state", "Ready"))
        .await
        .unwrap();
    assert_eq!(
        list.items
            .iter()
            .map(|n| n.name.as_str())
            .collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert_eq!(list.version, Version(5));
    let requests = requests.lock().unwrap();
    let path = "GET /v1/nodes?fieldSelector=state%3DReady&limit=1000";
    assert!(requests[0].starts_with(&format!("{path} ")), "{requests:?}");
    assert!(
        requests[1].starts_with(&format!("{path}&continue=a%3D1 ")),
        "{requests:?}"
    );
}

#[tokio::test]
async fn a_watch_reads_server_sent_events() {
    let body = format!(
        ": hello\r\n\r\nretry: 10\n\n{}data:{{\"type\":\"bookmark\",\ndata: \"version\":4}}\n\n\
         data: {{\"type\":\"delete\",\"version\":5,\"name\":\"a\"}}\r\n\r\ndata: {{\"unfinished",
        put("a", 3)
    );
    let (client, requests) = serve(vec![stream(&body)]).await;
    let mut watch = client
        .watch::<Node>(&Selection::all(), Version(2))
        .await
        .unwrap();
    assert!(matches!(
        watch.next().await.unwrap().unwrap(),
        WatchEvent::Put { version: Version(3), object } if object.name.as_str() == "a"
    ));
    assert_eq!(
        watch.next().await.unwrap(),
        Some(WatchEvent::Bookmark {
            version: Version(4)
        })
    );
    assert!(
        matches!(watch.next().await.unwrap(), Some(WatchEvent::Delete { name, .. }) if name == "a")
    );
    assert_eq!(watch.next().await.unwrap(), None);
    assert!(requests.lock().unwrap()[0].starts_with("GET /v1/nodes?watch=true&from=2 "));
}

#[tokio::test]
async fn a_watch_does_not_keep_a_line_without_end() {
    let (client, _) = serve(vec![stream(&format!("data: {}", "x".repeat(5 << 20)))]).await;
    let mut watch = client
        .watch::<Event>(&Selection::all(), Version(2))
        .await
        .unwrap();
    let error = watch.next().await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("a line has more than 4194304 bytes"),
        "{error}"
    );
}

#[tokio::test]
async fn a_log_comes_in_lines_and_a_long_one_in_pieces() {
    let body = format!("one\r\n\ntwo\n{}\nlast", "y".repeat(LOG_LINE_BYTES_MAX + 1));
    let (client, requests) = serve(vec![stream(&body)]).await;
    let options = LogOptions {
        tail: Some(5),
        ..LogOptions::default()
    };
    let id = "web-0-1".parse().unwrap();
    let mut lines = client
        .logs(&Namespace::default(), &id, None, &options)
        .await
        .unwrap();
    let mut lens = Vec::new();
    while let Some(line) = lines.next().await.unwrap() {
        lens.push(line.len());
    }
    assert_eq!(lens, [3, 0, 3, LOG_LINE_BYTES_MAX, 1, 4]);
    let path = "GET /v1/instances/default/web-0-1/logs?follow=false&timestamps=false&tail=5 ";
    assert!(
        requests.lock().unwrap()[0].starts_with(path),
        "{requests:?}"
    );
}

/// Half of something must not look like all of it, also where a trailer was lost on the way.
#[tokio::test]
async fn what_is_to_tell_how_it_ended_is_whole_only_if_it_does() {
    let chunked = |names: &str, trailer: &str| {
        format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n{names}connection: close\r\n\r\n\
             4\r\none\n\r\n0\r\n{trailer}\r\n"
        )
    };
    let names = "trailer: x-windlass-outcome\r\n";
    let done = "x-windlass-outcome: {\"type\":\"done\"}\r\n";
    let broke_off = "x-windlass-outcome: {\"type\":\"brokeOff\",\"reason\":\"no disk\"}\r\n";
    let ends = [
        (chunked("", ""), None),
        (chunked(names, done), None),
        (chunked(names, broke_off), Some("it broke off: no disk")),
        (chunked(names, ""), Some("how it ended was not told")),
        (
            chunked(names, "x-windlass-outcome: ?\r\n"),
            Some("how it ended was not told"),
        ),
    ];
    for (answer, fails) in ends {
        let (client, requests) = serve(vec![answer]).await;
        let (namespace, id) = (Namespace::default(), "web-0-1".parse().unwrap());
        let options = LogOptions::default();
        let opened = client.logs(&namespace, &id, None, &options).await;
        let mut lines = opened.unwrap();
        assert_eq!(lines.next().await.unwrap().unwrap(), "one");
        let end = lines.next().await.map_err(|error| error.to_string());
        match fails {
            None => assert_eq!(end, Ok(None)),
            Some(why) => assert!(end.as_ref().unwrap_err().contains(why), "{end:?}"),
        }
        let requests = requests.lock().unwrap();
        assert_eq!(header(&requests[0], "te"), Some("trailers"));
    }
}

#[tokio::test]
async fn a_mirror_goes_on_where_a_watch_broke_and_lists_again_when_history_is_gone() {
    let list = |items: &str, version| {
        answer(
            "200 OK",
            &format!(r#"{{"items":[{items}],"version":{version}}}"#),
        )
    };
    let answers = vec![
        list(&node("a", 1), 2),
        // Two changes of one commit, of which the second may be missing.
        stream(&format!("{}{}", put("b", 4), put("c", 5))),
        problem(Code::Gone),
        list(&node("z", 9), 9),
        stream("data: {\"type\":\"gone\",\"oldest\":11}\n\n"),
        list("", 12),
    ];
    let (client, requests) = serve(answers).await;
    let mut mirror = Mirror::<Node>::open(&client, Selection::all())
        .await
        .unwrap();
    assert_eq!(mirror.changed().await.unwrap(), Change::Put("b".to_owned()));
    assert_eq!(mirror.changed().await.unwrap(), Change::Put("c".to_owned()));
    assert_eq!(mirror.items().keys().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(mirror.changed().await.unwrap(), Change::Relisted);
    assert_eq!(mirror.items().keys().collect::<Vec<_>>(), ["z"]);
    assert_eq!(mirror.changed().await.unwrap(), Change::Relisted);
    assert!(mirror.items().is_empty());
    let requests = requests.lock().unwrap();
    assert!(
        requests[1].starts_with("GET /v1/nodes?watch=true&from=2 "),
        "{requests:?}"
    );
    assert!(
        requests[2].starts_with("GET /v1/nodes?watch=true&from=4 "),
        "{requests:?}"
    );
}
