//! Writes: conditions, repetitions, dry runs.

use axum::{
    body::Body,
    http::{Method, StatusCode},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use windlass_api::{
    apply::{Action, ApplyResponse, Outcome},
    clock,
    problem::Code,
    quantity::CpuMillis,
};

use super::fixture::{Answer, Server, json_request, manifest, request};

const WEB: &str = "/v1/workloads/default/web";

async fn send(
    server: &Server,
    method: Method,
    target: &str,
    header: (&str, &str),
    body: &Value,
) -> Answer {
    server
        .send(json_request(method, target, &[header], body))
        .await
}

#[tokio::test]
async fn a_workload_is_made_read_changed_and_deleted() {
    let server = Server::start();
    let made = server.write(Method::PUT, WEB, &manifest("web", 2)).await;
    assert_eq!(
        (made.status, made.header("location")),
        (StatusCode::CREATED, WEB)
    );
    assert_eq!(made.json()["namespace"], "default");
    assert_eq!(made.json()["status"]["wanted"], 2);

    let read = server.get(WEB).await;
    assert_eq!(read.status, StatusCode::OK);
    assert_eq!(
        read.header("etag").split('.').next(),
        made.header("etag").split('.').next()
    );

    let changed = server.write(Method::PUT, WEB, &manifest("web", 3)).await;
    assert_eq!(
        (changed.status, changed.header("location")),
        (StatusCode::OK, "")
    );
    let scaled = server
        .write(
            Method::POST,
            &format!("{WEB}/scale"),
            &json!({ "replicas": 5 }),
        )
        .await;
    assert_eq!(scaled.json()["spec"]["replicas"], 5);
    let restart = request(Method::POST, &format!("{WEB}/restart"))
        .body(Body::empty())
        .unwrap();
    assert_eq!(server.send(restart).await.json()["status"]["revision"], 2);

    let delete = || request(Method::DELETE, WEB).body(Body::empty()).unwrap();
    let deleted = server.send(delete()).await;
    assert_eq!(
        (deleted.status, deleted.body.len()),
        (StatusCode::NO_CONTENT, 0)
    );
    server.send(delete()).await.refused(Code::NotFound);
    server.get(WEB).await.refused(Code::NotFound);
}

#[tokio::test]
async fn a_rollout_is_steered_and_its_revisions_are_listed() {
    let server = Server::start();
    let rollout = format!("{WEB}/rollout");
    let act = async |action: Value| server.write(Method::POST, &rollout, &action).await;
    act(json!({ "action": "pause" }))
        .await
        .refused(Code::NotFound);
    server.put("web", 1).await;
    let paused = act(json!({ "action": "pause" })).await;
    assert_eq!(paused.status, StatusCode::OK);
    assert_eq!(paused.json()["status"]["rollout"]["state"], "Paused");
    let resumed = act(json!({ "action": "resume" })).await;
    assert_eq!(resumed.json()["status"]["rollout"]["state"], "Progressing");
    let nothing = act(json!({ "action": "undo" }))
        .await
        .refused(Code::Conflict);
    assert!(
        nothing.detail.contains("nothing to undo"),
        "{}",
        nothing.detail
    );
    act(json!({ "action": "undo", "to": 7 }))
        .await
        .refused(Code::NotFound);
    act(json!({ "action": "stop" }))
        .await
        .refused(Code::Invalid);

    let mut changed = manifest("web", 1);
    changed["spec"]["image"] = json!("nginx:1.28");
    server.write(Method::PUT, WEB, &changed).await;
    let revisions = server.get(&format!("{WEB}/revisions")).await.json();
    let shown: Vec<_> = revisions["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| {
            (
                r["number"].as_u64().unwrap(),
                r["wanted"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(shown, [(1, false), (2, true)]);
    let nowhere = server.get("/v1/workloads/default/nope/revisions").await;
    nowhere.refused(Code::NotFound);
}

#[tokio::test]
async fn a_job_is_run_once_more_as_one_of_its_own() {
    let server = Server::start();
    let run = "/v1/workloads/default/load/run";
    let body = json!({ "env": { "MODE": "slow" }, "args": ["once"] });
    let ask = async |key: &str| {
        let header = ("idempotency-key", key);
        send(&server, Method::POST, run, header, &body).await
    };
    ask("early").await.refused(Code::NotFound);
    let job = json!({ "kind": "Job", "name": "load", "spec": { "image": "app:1" } });
    server
        .write(Method::PUT, "/v1/workloads/default/load", &job)
        .await;
    let made = ask("k1").await;
    assert_eq!(made.status, StatusCode::CREATED);
    let shown = made.json();
    let name = shown["name"].as_str().unwrap();
    assert!(name.starts_with("load-run-"), "{name}");
    assert_eq!(
        made.header("location"),
        format!("/v1/workloads/default/{name}")
    );
    assert_eq!(shown["spec"]["env"]["MODE"], "slow");
    assert_eq!(shown["spec"]["args"], json!(["once"]));
    assert_eq!(shown["meta"]["owner"], "load");
    // The same request is carried out once, and another one makes another job.
    assert_eq!(ask("k1").await.json()["name"], shown["name"]);
    assert_ne!(ask("k2").await.json()["name"], shown["name"]);
    server.put("web", 1).await;
    let service = server
        .write(Method::POST, &format!("{WEB}/run"), &json!({}))
        .await;
    service.refused(Code::Conflict);
}

#[tokio::test]
async fn what_is_shown_can_be_put_again() {
    let server = Server::start();
    let shown = server.put("web", 1).await;
    let again = server.write(Method::PUT, WEB, &shown).await;
    assert_eq!(again.status, StatusCode::OK);
    assert_eq!(again.json()["meta"], shown["meta"], "nothing changed");
}

#[tokio::test]
async fn the_namespace_of_the_path_is_enough() {
    let server = Server::start();
    let answer = server
        .write(Method::PUT, "/v1/workloads/shop/web", &manifest("web", 1))
        .await;
    assert_eq!(answer.json()["namespace"], "shop");
    assert_eq!(answer.header("location"), "/v1/workloads/shop/web");
}

#[tokio::test]
async fn stale_writes_are_refused() {
    let server = Server::start();
    // Only if it does not exist, and only if it does.
    let put = async |tag: &str, replicas| {
        send(
            &server,
            Method::PUT,
            WEB,
            ("if-match", tag),
            &manifest("web", replicas),
        )
        .await
    };
    assert_eq!(put("*", 1).await.refused(Code::VersionConflict).status, 412);
    assert_eq!(put("\"0\"", 1).await.status, StatusCode::CREATED);
    put("\"0\"", 2).await.refused(Code::VersionConflict);
    assert_eq!(put("*", 2).await.status, StatusCode::OK);

    let tag = server.get(WEB).await.header("etag").to_owned();
    let version = tag.split('.').next().unwrap().to_owned() + "\"";
    for (method, target, body) in [
        (Method::PUT, WEB.to_owned(), manifest("web", 9)),
        (
            Method::POST,
            format!("{WEB}/scale"),
            json!({ "replicas": 9 }),
        ),
        (Method::POST, format!("{WEB}/restart"), json!(null)),
        (Method::DELETE, WEB.to_owned(), json!(null)),
    ] {
        let stale = send(&server, method, &target, ("if-match", "\"1\""), &body).await;
        let problem = stale.refused(Code::VersionConflict);
        assert!(problem.detail.contains("read it again"), "{problem:?}");
    }
    let target = format!("{WEB}/scale");
    let body = json!({ "replicas": 3 });
    let fresh = send(&server, Method::POST, &target, ("if-match", &tag), &body).await;
    assert_eq!(fresh.status, StatusCode::OK, "{fresh:?}");
    send(
        &server,
        Method::POST,
        &target,
        ("if-match", &version),
        &body,
    )
    .await
    .refused(Code::VersionConflict);
    let body = json!({ "resources": [] });
    send(&server, Method::POST, "/v1/apply", ("if-match", "*"), &body)
        .await
        .refused(Code::Malformed);
}

#[tokio::test]
async fn if_none_match_makes_a_write_create_only() {
    let server = Server::start();
    let put = async |condition, body: &Value| {
        send(
            &server,
            Method::PUT,
            WEB,
            ("if-none-match", condition),
            body,
        )
        .await
    };
    assert_eq!(
        put("*", &manifest("web", 1)).await.status,
        StatusCode::CREATED
    );
    put("*", &manifest("web", 2))
        .await
        .refused(Code::VersionConflict);
    put("\"1\"", &manifest("web", 2))
        .await
        .refused(Code::Malformed);
    let headers = [("if-none-match", "*"), ("if-match", "*")];
    let both = json_request(Method::PUT, WEB, &headers, &manifest("web", 2));
    server.send(both).await.refused(Code::Malformed);
    assert_eq!(server.get(WEB).await.json()["spec"]["replicas"], 1);
}

#[tokio::test]
async fn what_is_known_is_not_sent_again() {
    let server = Server::start();
    server.put("web", 1).await;
    let tag = server.get(WEB).await.header("etag").to_owned();
    let read = async || {
        let request = request(Method::GET, WEB).header("if-none-match", &tag);
        server.send(request.body(Body::empty()).unwrap()).await
    };
    let known = read().await;
    assert_eq!(
        (known.status, known.body.len()),
        (StatusCode::NOT_MODIFIED, 0)
    );
    // A node joins and gets the instance: the status changes, what the user wrote does not.
    server.join("n1", CpuMillis(1_000)).await;
    assert_eq!(read().await.status, StatusCode::OK);
    let (target, body) = (format!("{WEB}/scale"), json!({ "replicas": 2 }));
    let fresh = send(&server, Method::POST, &target, ("if-match", &tag), &body).await;
    assert_eq!(fresh.status, StatusCode::OK, "the status is no conflict");
}

#[tokio::test]
async fn the_same_key_has_one_effect_and_the_same_answer() {
    let server = Server::start();
    let put = async |key: &str, replicas| {
        send(
            &server,
            Method::PUT,
            WEB,
            ("idempotency-key", key),
            &manifest("web", replicas),
        )
        .await
    };
    let first = put("a", 1).await;
    let version = server.handle.state().version;
    let again = put("a", 1).await;
    assert_eq!(
        (first.status, again.status),
        (StatusCode::CREATED, StatusCode::CREATED)
    );
    assert_eq!(first.body, again.body);
    assert_eq!(
        server.handle.state().version,
        version,
        "nothing was written"
    );

    let other = put("a", 2).await;
    assert_eq!(other.status, StatusCode::CONFLICT);
    other.refused(Code::IdempotencyConflict);

    let restart = async || {
        let target = format!("{WEB}/restart");
        send(
            &server,
            Method::POST,
            &target,
            ("idempotency-key", "b"),
            &json!(null),
        )
        .await
        .json()
    };
    assert_eq!(restart().await["status"]["revision"], 2);
    assert_eq!(restart().await["status"]["revision"], 2);
    let delete = async || {
        send(
            &server,
            Method::DELETE,
            WEB,
            ("idempotency-key", "c"),
            &json!(null),
        )
        .await
        .status
    };
    assert_eq!(delete().await, StatusCode::NO_CONTENT);
    assert_eq!(delete().await, StatusCode::NO_CONTENT);
    let gone = put("a", 1).await.refused(Code::NotFound);
    assert!(gone.detail.contains("deleted since"), "{gone:?}");
    put("", 1).await.refused(Code::Malformed);
}

#[tokio::test]
async fn apply_is_all_or_nothing() {
    let server = Server::start();
    let apply = async |resources: Value| {
        server
            .write(
                Method::POST,
                "/v1/apply",
                &json!({ "resources": resources }),
            )
            .await
    };
    let bad = apply(json!([manifest("web", 1), manifest("db", 10_000_000)])).await;
    assert_eq!(
        bad.refused(Code::Invalid).errors[0].path,
        "resources[1].spec.replicas"
    );
    assert!(server.handle.state().workloads.is_empty());

    let good = apply(json!([manifest("web", 1), manifest("db", 1)])).await;
    let good: ApplyResponse = serde_json::from_value(good.json()).unwrap();
    assert_eq!(good.version, server.handle.state().version);
    assert_eq!(good.plan, None);
    let outcomes: Vec<_> = good
        .results
        .iter()
        .map(|r| (r.key.to_string(), r.outcome))
        .collect();
    let created = |key: &str| (key.to_owned(), Outcome::Created);
    assert_eq!(outcomes, [created("default/web"), created("default/db")]);
}

#[tokio::test]
async fn a_dry_run_tells_everything_and_changes_nothing() {
    let server = Server::start();
    server.join("n1", CpuMillis(1_000)).await;
    server.put("web", 1).await;
    let before = server.handle.state();
    let mut web = manifest("web", 2);
    web["spec"]["env"] = json!({ "LOG": "debug" });
    let mut big = manifest("big", 1);
    big["spec"]["resources"] = json!({ "cpu": "64" });
    let body = json!({ "resources": [web, big] });
    let answer = server
        .write(Method::POST, "/v1/apply?dryRun=true", &body)
        .await;
    let answer: ApplyResponse = serde_json::from_value(answer.json()).unwrap();
    assert_eq!(server.handle.state(), before, "nothing was changed");
    assert_eq!(answer.version, before.version);

    let [web, big] = &answer.results[..] else {
        panic!("{answer:?}")
    };
    assert_eq!(
        (web.outcome, big.outcome),
        (Outcome::Updated, Outcome::Created)
    );
    let paths: Vec<_> = web.diff.iter().map(|change| change.path.as_str()).collect();
    assert_eq!(paths, ["spec.env", "spec.replicas"]);
    assert_eq!(
        (&web.diff[1].from, &web.diff[1].to),
        (&Some(json!(1)), &Some(json!(2)))
    );
    assert_eq!(web.workload.status.revision.0, 2);

    let steps = answer.plan.unwrap().steps;
    let of = |name: &str| {
        steps
            .iter()
            .filter(|s| s.workload.name.as_str() == name)
            .collect::<Vec<_>>()
    };
    assert!(
        of("web")
            .iter()
            .any(|s| s.action == Action::Start && s.node.is_some()),
        "{steps:?}"
    );
    let [waits] = of("big")[..] else {
        panic!("{steps:?}")
    };
    assert_eq!((waits.action, &waits.node), (Action::Wait, &None));
    assert!(waits.reason.contains("cpu"), "{waits:?}");

    // What it told is what happens.
    server.write(Method::POST, "/v1/apply", &body).await;
    let state = server.handle.state();
    for step in &steps {
        let instance = state.instances.get(&step.instance);
        assert_eq!(instance.map(|i| &i.node), Some(&step.node), "{step:?}");
    }
}

#[tokio::test]
async fn nodes_are_patched() {
    let server = Server::start();
    server.join("n1", CpuMillis(1_000)).await;
    let node = server.get("/v1/nodes/n1").await;
    assert_eq!(node.json()["scheduling"], "Enabled");
    let tag = node.header("etag").to_owned();
    let patch = json!({ "scheduling": "Cordoned", "labels": { "zone": null, "rack": "r1" } });
    let patched = send(
        &server,
        Method::PATCH,
        "/v1/nodes/n1",
        ("if-match", &tag),
        &patch,
    )
    .await
    .json();
    assert_eq!(patched["scheduling"], "Cordoned");
    assert_eq!(patched["labels"], json!({ "rack": "r1" }));
    send(
        &server,
        Method::PATCH,
        "/v1/nodes/n1",
        ("if-match", &tag),
        &patch,
    )
    .await
    .refused(Code::VersionConflict);
    let wrong = json!({ "labels": { "-": "x" }, "schedulin": 1 });
    let answer = server.write(Method::PATCH, "/v1/nodes/n1", &wrong).await;
    assert_eq!(answer.refused(Code::Invalid).errors[0].path, "schedulin");
    let wrong = json!({ "labels": { "-": "x" } });
    let answer = server.write(Method::PATCH, "/v1/nodes/n1", &wrong).await;
    assert_eq!(answer.refused(Code::Invalid).errors[0].path, "labels.-");
    server
        .write(Method::PATCH, "/v1/nodes/n2", &json!({}))
        .await
        .refused(Code::NotFound);
}

#[tokio::test]
async fn the_server_says_who_it_is() {
    let server = Server::start();
    server.put("web", 1).await;
    let before = clock::now();
    let info = server.get("/v1/server").await.json();
    let time: Timestamp = info["time"].as_str().unwrap().parse().unwrap();
    assert!(before <= time && time <= clock::now(), "{info}");
    let state = server.handle.state();
    assert_eq!(info["cluster"], state.record.id.to_string());
    assert_eq!(info["version"], state.version.0);
    assert_eq!(server.get("/healthz").await.text(), "ok\n");
    assert_eq!(server.get("/readyz").await.text(), "ready\n");
    server.shutdown.cancel();
    server.get("/readyz").await.refused(Code::Overloaded);
}
