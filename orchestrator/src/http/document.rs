//! The body of a request that makes or replaces a workload, as it is documented.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::json;
use windlass_api::{
    resource::Document,
    spec::{CronJobSpec, DaemonSpec, JobSpec, Kind, ServiceSpec},
};

/// A workload of any kind; the kind decides what its spec is.
pub(super) struct AnyDocument;

impl JsonSchema for AnyDocument {
    fn schema_name() -> Cow<'static, str> {
        "WorkloadDocument".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let of_kinds = Kind::ALL.map(|kind| {
            let document = match kind {
                Kind::Service => generator.subschema_for::<Document<ServiceSpec>>(),
                Kind::Daemon => generator.subschema_for::<Document<DaemonSpec>>(),
                Kind::Job => generator.subschema_for::<Document<JobSpec>>(),
                Kind::CronJob => generator.subschema_for::<Document<CronJobSpec>>(),
            };
            // Without the constant, a short spec would be one of several kinds.
            json!({ "allOf": [document, { "properties": { "kind": { "const": kind } } }] })
        });
        json_schema!({ "oneOf": of_kinds })
    }
}
