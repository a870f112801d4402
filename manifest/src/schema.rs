//! The JSON Schema of the native format, for editors.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Value, json};
use windlass_api::{
    resource::Document,
    spec::{CronJobSpec, DaemonSpec, JobSpec, Kind, ServiceSpec},
};

const ID: &str = "urn:windlass:schema:manifest";

/// The JSON Schema (draft 2020-12) of one document.
#[must_use]
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let kinds = [
        document::<ServiceSpec>(&mut generator, Kind::Service),
        document::<DaemonSpec>(&mut generator, Kind::Daemon),
        document::<JobSpec>(&mut generator, Kind::Job),
        document::<CronJobSpec>(&mut generator, Kind::CronJob),
    ];
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ID,
        "title": "Windlass manifest",
        "oneOf": kinds,
        "$defs": generator.take_definitions(true),
    });
    for_editors(&mut schema);
    schema
}

/// The schema of the documents of one kind.
fn document<S: JsonSchema>(generator: &mut SchemaGenerator, kind: Kind) -> Value {
    let mut schema = Document::<S>::json_schema(generator);
    if let Some(field) = schema.pointer_mut("/properties/kind") {
        field["const"] = json!(kind);
    }
    schema.insert("title".to_owned(), json!(kind));
    // What a kind is, its spec says best.
    let spec = schemars::schema_for!(S);
    if let Some(description) = spec.get("description") {
        schema.insert("description".to_owned(), description.clone());
    }
    schema.to_value()
}

/// Makes it what an editor shows best. A field that may be absent takes no `null` for it; what is
/// then the only alternative needs no list; and a description is broken where it is shown.
fn for_editors(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.values_mut().for_each(for_editors);
            if let Some(Value::String(description)) = fields.get_mut("description") {
                *description = description.replace('\n', " ");
            }
            if fields.get("default").is_some_and(Value::is_null) {
                fields.remove("default");
            }
            for alternatives in ["type", "anyOf"] {
                if let Some(Value::Array(options)) = fields.get_mut(alternatives) {
                    options.retain(|o| *o != "null" && *o != json!({ "type": "null" }));
                }
            }
            if let Some([only]) = fields
                .get("type")
                .and_then(Value::as_array)
                .map(Vec::as_slice)
            {
                let only = only.clone();
                fields.insert("type".to_owned(), only);
            }
            if let Some([Value::Object(only)]) = fields
                .get("anyOf")
                .and_then(Value::as_array)
                .map(Vec::as_slice)
            {
                let only = only.clone();
                fields.remove("anyOf");
                fields.extend(only);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(for_editors),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(fields) => {
                    found.extend(
                        fields
                            .get("$ref")
                            .and_then(Value::as_str)
                            .map(str::to_owned),
                    );
                    fields.values().for_each(|v| references(v, found));
                }
                Value::Array(items) => items.iter().for_each(|v| references(v, found)),
                _ => {}
            }
        }
        let schema = schema();
        let mut found = Vec::new();
        references(&schema, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(schema.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn it_is_strict_and_names_the_kind() {
        let schema = schema();
        let service = &schema["oneOf"][0];
        assert_eq!(service["description"], "Kept running, `replicas` times.");
        assert_eq!(service["properties"]["kind"]["const"], "Service");
        assert_eq!(service["additionalProperties"], false);
        assert_eq!(service["required"], json!(["kind", "name", "spec"]));
        assert_eq!(
            schema["$defs"]["ServiceSpec"]["additionalProperties"],
            false
        );
        assert_eq!(
            schema["$defs"]["CronJobSpec"]["required"],
            json!(["schedule"])
        );
        assert_eq!(
            schema["$defs"]["Probes"]["properties"]["liveness"]["$ref"],
            "#/$defs/Probe"
        );
        let text = schema.to_string();
        assert!(!text.contains("null") && !text.contains("\\n"));
    }
}
