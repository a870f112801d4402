//! The OpenAPI 3.1 document, made from the table of operations and the types.

use bytes::Bytes;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};
use windlass_api::{
    ids::{InstanceId, Namespace, NodeName, WorkloadName},
    problem::{PROBLEM_JSON, Problem},
};

use super::operation::{Operation, RequestBody, RequestHeader};

/// The document as JSON.
pub(super) fn document(operations: &[Operation]) -> Bytes {
    let text = serde_json::to_vec(&describe(operations));
    text.expect("a value with string keys is valid JSON").into()
}

pub(super) fn describe(operations: &[Operation]) -> Value {
    // JSON Schema 2020-12 is the dialect of OpenAPI 3.1.
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
    });
    let mut generator = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations {
        let methods = paths.entry(operation.path).or_insert_with(|| json!({}));
        methods[operation.method.as_str().to_lowercase()] = describe_one(operation, &mut generator);
    }
    let problem = generator.subschema_for::<Problem>();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Windlass",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The API of a windlass server. Every error is a problem (RFC 9457), except \
                            where a request's head is not HTTP or too large (64 KiB always fit): there is \
                            no more than the status, 400, 414 or 431. Bodies are JSON objects in \
                            which each key is there once; an array is never taken for an object.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "responses": {
                "Problem": {
                    "description": "The request was refused; `code` says why.",
                    "content": { PROBLEM_JSON: { "schema": problem } },
                },
            },
            "schemas": generator.take_definitions(true),
        },
    })
}

fn describe_one(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let mut parameters = path_parameters(operation.path, generator);
    parameters.extend(query_parameters(operation, generator));
    parameters.extend(
        operation
            .headers
            .iter()
            .map(|header| header_parameter(*header)),
    );
    let mut responses = Map::new();
    for answer in &operation.answers {
        let content: Map<String, Value> = answer
            .content
            .iter()
            .map(|(media, schema)| ((*media).to_owned(), json!({ "schema": schema(generator) })))
            .collect();
        let mut response = json!({ "description": answer.description });
        if !content.is_empty() {
            response["content"] = content.into();
        }
        responses.insert(answer.status.as_u16().to_string(), response);
    }
    responses.insert(
        "default".to_owned(),
        json!({ "$ref": "#/components/responses/Problem" }),
    );
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "parameters": parameters,
        "responses": responses,
    });
    if let Some(body) = operation.body {
        let content = match body {
            RequestBody::Json(schema) => {
                json!({ "application/json": { "schema": schema(generator) } })
            }
            RequestBody::Stream(media_type) => json!({ media_type: {} }),
        };
        described["requestBody"] = json!({ "required": true, "content": content });
    }
    described
}

fn path_parameters(path: &str, generator: &mut SchemaGenerator) -> Vec<Value> {
    names_in(path)
        .map(|name| {
            let schema = match name {
                "namespace" => schema::<Namespace>(generator),
                "workload" => schema::<WorkloadName>(generator),
                "instance" => schema::<InstanceId>(generator),
                "node" => schema::<NodeName>(generator),
                _ => json!({ "type": "string" }),
            };
            json!({ "name": name, "in": "path", "required": true, "schema": schema })
        })
        .collect()
}

/// The names of the parameters in a route's path.
fn names_in(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

/// The properties of the query's schema, each as a parameter.
fn query_parameters(operation: &Operation, generator: &mut SchemaGenerator) -> Vec<Value> {
    let Some(query) = operation.query else {
        return Vec::new();
    };
    let query = query(generator).to_value();
    let properties = query.get("properties").and_then(Value::as_object);
    properties
        .into_iter()
        .flatten()
        .map(|(name, schema)| {
            let mut schema = schema.clone();
            let description = schema
                .as_object_mut()
                .and_then(|schema| schema.remove("description"));
            json!({ "name": name, "in": "query", "description": description, "schema": schema })
        })
        .collect()
}

fn header_parameter(header: RequestHeader) -> Value {
    let (name, description) = match header {
        RequestHeader::IfMatch => (
            "If-Match",
            "Only if the object still has the version in this etag: `\"<version>\"`, with or \
             without the digest that follows it in etags; `*`: only if it exists; `\"0\"`: only \
             if it does not.",
        ),
        RequestHeader::IfNoneMatch => (
            "If-None-Match",
            "Of a read: answer 304 if what is shown still has one of these etags. Of a write: `*` \
             means only if the object does not exist.",
        ),
        RequestHeader::IdempotencyKey => (
            "Idempotency-Key",
            "Makes the request repeatable for a day: at most 128 visible ASCII characters, chosen \
             anew for every request that is not a repetition.",
        ),
        RequestHeader::LastEventId => (
            "Last-Event-ID",
            "Of a watch: the `id` of the last event that came, where it goes on. Browsers send it \
             when they connect again; it then counts instead of `from`.",
        ),
    };
    json!({
        "name": name,
        "in": "header",
        "description": description,
        "schema": { "type": "string" },
    })
}
