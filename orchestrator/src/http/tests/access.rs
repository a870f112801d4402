//! Every route, for everybody who may come.

use axum::{
    body::Body,
    http::{Method, StatusCode, header},
};
use serde_json::{Value, json};
use windlass_api::problem::Code;
use windlass_core::access::{AgentCaller, Caller, Holds, Need, Person, Reach, Role, authorise};

use super::fixture::{Server, manifest, request};
use crate::http::operations;

fn person(role: Role, reach: Reach) -> Caller {
    Caller::Person(Person {
        token: "0123456789".parse().unwrap(),
        role,
        reach,
    })
}

fn only(namespace: &str) -> Reach {
    Reach::Namespaces([namespace.parse().unwrap()].into())
}

fn agent(certificate: Holds) -> Caller {
    Caller::Agent(AgentCaller {
        node: "edge-1".parse().unwrap(),
        admission: "0190b8a0-0000-7000-8000-000000000002".parse().unwrap(),
        certificate,
    })
}

/// A path of an operation about something in the namespace `default`.
fn filled(path: &str) -> String {
    let mut filled = path.replace("{namespace}", "default");
    for parameter in ["workload", "instance", "node", "port", "token"] {
        filled = filled.replace(&format!("{{{parameter}}}"), "80");
    }
    filled.replace("{stream}", "0190b8a0-0000-7000-8000-000000000003")
}

#[tokio::test]
async fn every_route_is_denied_to_whom_it_is_not_granted() {
    let server = Server::start();
    let mut callers = vec![
        Caller::Local,
        Caller::Nobody,
        agent(Holds::Yes),
        agent(Holds::ForRenewal),
    ];
    for role in [Role::Viewer, Role::Operator, Role::Admin] {
        for reach in [Reach::Everywhere, only("default"), only("other")] {
            callers.push(person(role, reach));
        }
    }
    let mut denied = 0;
    for caller in &callers {
        let theirs = server.entered_by(caller.clone());
        for operation in operations::all() {
            let at = format!("{} {} by {caller:?}", operation.method, operation.path);
            let path = filled(operation.path);
            assert!(!path.contains('{'), "{path}");
            let namespace = operation.path.contains("{namespace}");
            let namespace = namespace.then(|| "default".parse().unwrap());
            let judged = authorise(caller, operation.need, namespace.as_ref());
            // Read no further than the head: a watch never ends.
            let request = request(operation.method.clone(), &path);
            let request = request.body(Body::empty()).unwrap();
            let answer = tower::ServiceExt::oneshot(theirs.router.clone(), request);
            let status = answer.await.unwrap().status();
            match judged {
                Ok(()) => {
                    let let_in =
                        status != StatusCode::UNAUTHORIZED && status != StatusCode::FORBIDDEN;
                    assert!(let_in, "{at}: {status}");
                }
                Err(_) if *caller == Caller::Nobody => {
                    denied += 1;
                    assert_eq!(status, StatusCode::UNAUTHORIZED, "{at}");
                }
                Err(_) => {
                    denied += 1;
                    assert_eq!(status, StatusCode::FORBIDDEN, "{at}");
                }
            }
        }
    }
    let all = operations::all().len() * callers.len();
    assert!(denied > all / 2, "{denied} of {all}");
}

/// What needs less than to be known is a short list, which should stay one.
#[test]
fn what_everybody_may_know_is_a_short_list() {
    let open: Vec<_> = operations::all()
        .into_iter()
        .filter(|operation| operation.need == Need::Nothing)
        .map(|operation| operation.path)
        .collect();
    assert_eq!(
        open,
        [
            "/v1/server",
            "/healthz",
            "/readyz",
            "/openapi.json",
            "/v1/join"
        ]
    );
}

#[test]
fn no_viewer_changes_anything() {
    for operation in operations::all() {
        let viewed = matches!(
            operation.need,
            Need::Role(Role::Viewer)
                | Need::ClusterRole(Role::Viewer)
                | Need::RoleSomewhere(Role::Viewer)
        );
        assert!(
            !viewed || operation.method == Method::GET,
            "{}",
            operation.path
        );
        let named = operation.path.contains("{namespace}");
        assert_eq!(
            named,
            matches!(operation.need, Need::Role(_)),
            "{}",
            operation.path
        );
    }
}

#[tokio::test]
async fn a_denial_says_what_is_missing() {
    let server = Server::start();
    let nobody = server.entered_by(Caller::Nobody);
    let answer = nobody.get("/v1/workloads").await;
    answer.refused(Code::Unauthenticated);
    assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Bearer");
    let viewer = server.entered_by(person(Role::Viewer, Reach::Everywhere));
    let put = async |by: &Server, body: &Value| {
        by.write(Method::PUT, "/v1/workloads/default/web", body)
            .await
    };
    let web = manifest("web", 1);
    let answer = put(&viewer, &web).await;
    let problem = answer.refused(Code::Forbidden);
    assert_eq!(
        problem.detail,
        "this needs the role operator, and the token has the role viewer"
    );
    let elsewhere = server.entered_by(person(Role::Operator, only("other")));
    let answer = put(&elsewhere, &web).await;
    let problem = answer.refused(Code::Forbidden);
    assert_eq!(
        problem.detail,
        "the token does not reach the namespace default"
    );
    // It was denied before anything else about it was looked at.
    let answer = put(&viewer, &json!(7)).await;
    answer.refused(Code::Forbidden);
}

#[tokio::test]
async fn nothing_is_applied_in_a_namespace_that_is_not_reached() {
    let server = Server::start();
    let theirs = server.entered_by(person(Role::Operator, only("default")));
    let mut other = manifest("spy", 1);
    other["namespace"] = json!("other");
    let both = json!({ "resources": [manifest("web", 1), other] });
    for target in ["/v1/apply", "/v1/apply?dryRun=true"] {
        let answer = theirs.write(Method::POST, target, &both).await;
        answer.refused(Code::Forbidden);
    }
    assert_eq!(names(&server.get("/v1/workloads").await.json()), [""; 0]);
    let own = json!({ "resources": [manifest("web", 1)] });
    let answer = theirs.write(Method::POST, "/v1/apply", &own).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
}

#[tokio::test]
async fn lists_and_plans_show_what_is_reached_and_nothing_else() {
    let server = Server::start();
    server
        .join("edge-1", windlass_api::quantity::CpuMillis(1_000))
        .await;
    for namespace in ["default", "other", "default2"] {
        let target = format!("/v1/workloads/{namespace}/web");
        let answer = server
            .write(Method::PUT, &target, &manifest("web", 1))
            .await;
        assert!(answer.status.is_success(), "{answer:?}");
    }
    let theirs = server.entered_by(person(Role::Viewer, only("default")));
    for collection in ["workloads", "instances", "events"] {
        let all = server.get(&format!("/v1/{collection}")).await.json();
        let shown = theirs.get(&format!("/v1/{collection}")).await.json();
        let (all, shown) = (namespaces(&all), namespaces(&shown));
        assert!(!shown.is_empty() && shown.len() < all.len(), "{collection}");
        let own = |namespace: &Option<String>| namespace.as_deref() == Some("default");
        assert!(shown.iter().all(own), "{collection}: {shown:?}");
    }
    // Nor does a plan tell what is waiting elsewhere.
    let operator = server.entered_by(person(Role::Operator, only("default")));
    let body = json!({ "resources": [manifest("more", 2)] });
    let planned = operator
        .write(Method::POST, "/v1/apply?dryRun=true", &body)
        .await;
    let steps = planned.json()["plan"]["steps"].as_array().unwrap().clone();
    assert!(!steps.is_empty());
    for step in steps {
        let workload = step["workload"].to_string();
        assert!(
            workload.contains("default") && !workload.contains("default2"),
            "{workload}"
        );
    }
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .filter_map(|item| item["name"].as_str())
        .collect()
}

/// The namespace of each object in a list.
fn namespaces(list: &Value) -> Vec<Option<String>> {
    let items = list["items"].as_array().unwrap();
    let of = |item: &Value| {
        let subject = item.get("subject").unwrap_or(item);
        subject["namespace"].as_str().map(str::to_owned)
    };
    items.iter().map(of).collect()
}
