//! The OpenAPI document says what there is, and there is nothing else.

use std::collections::BTreeSet;

use axum::{body::Body, http::Method};
use serde_json::Value;

use super::fixture::{Server, request};
use crate::http::{openapi, operations};

fn document() -> Value {
    openapi::describe(&operations::all())
}

/// Every operation in the document: its path, method and description.
fn described(document: &Value) -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            all.push((path.clone(), method.clone(), operation.clone()));
        }
    }
    all
}

#[test]
fn every_operation_is_described() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let described = described(&document);
    assert_eq!(described.len(), operations::all().len());
    let mut ids = BTreeSet::new();
    for (path, method, operation) in described {
        let at = format!("{method} {path}");
        assert!(
            ids.insert(operation["operationId"].as_str().unwrap().to_owned()),
            "{at}"
        );
        assert!(
            operation["summary"].as_str().unwrap().ends_with('.'),
            "{at}"
        );
        let responses = operation["responses"].as_object().unwrap();
        assert!(
            responses.contains_key("default") && responses.len() > 1,
            "{at}"
        );
        let declared = |place: &str| -> BTreeSet<String> {
            let parameters = operation["parameters"].as_array().unwrap().iter();
            let here = parameters.filter(|p| p["in"] == place);
            here.map(|p| p["name"].as_str().unwrap().to_owned())
                .collect()
        };
        let in_path = path
            .split('/')
            .filter_map(|p| p.strip_prefix('{')?.strip_suffix('}'));
        assert_eq!(
            declared("path"),
            in_path.map(str::to_owned).collect(),
            "{at}"
        );
        for parameter in operation["parameters"].as_array().unwrap() {
            assert!(parameter["schema"].is_object(), "{at}: {parameter}");
            let explained = parameter["in"] == "path" || parameter["description"].is_string();
            assert!(explained, "{at}: {parameter}");
        }
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 50);
    for reference in references {
        let pointer = reference
            .strip_prefix('#')
            .unwrap_or_else(|| panic!("{reference}"));
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    // As the standard wants the names of components to be.
    for name in document["components"]["schemas"]
        .as_object()
        .unwrap()
        .keys()
    {
        assert!(
            !name.ends_with(char::is_numeric),
            "{name} stands for several types"
        );
        assert!(
            name.chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)),
            "{name}"
        );
    }
}

#[test]
fn a_workload_of_each_kind_is_described() {
    let document = document();
    let kinds = document["components"]["schemas"]["WorkloadDocument"]["oneOf"].as_array();
    let kinds: Vec<&Value> = kinds
        .unwrap()
        .iter()
        .map(|kind| &kind["allOf"][1]["properties"]["kind"]["const"])
        .collect();
    assert_eq!(kinds, ["Service", "Daemon", "Job", "CronJob"]);
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            references.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| collect(value, references));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        _ => {}
    }
}

#[tokio::test]
async fn what_is_described_exists_and_nothing_else_does() {
    let server = Server::start();
    let served = server.get("/openapi.json").await;
    assert_eq!(served.json(), document());
    let described: BTreeSet<(String, String)> = described(&document())
        .into_iter()
        .map(|(path, method, _)| (path, method))
        .collect();
    let paths: BTreeSet<&String> = described.iter().map(|(path, _)| path).collect();
    for path in paths {
        let target = path
            .split('/')
            .map(|part| if part.starts_with('{') { "x" } else { part })
            .collect::<Vec<_>>()
            .join("/");
        for method in ["GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
            let request = request(method.parse::<Method>().unwrap(), &target);
            let answer = server.send(request.body(Body::empty()).unwrap()).await;
            let exists = described.contains(&(path.clone(), method.to_lowercase()));
            assert_eq!(
                answer.status == 405,
                !exists,
                "{method} {path}: {}",
                answer.status
            );
        }
    }
}
