//! The difference between two manifests, field by field.

use serde::Serialize;
use serde_json::Value;
use windlass_api::apply::FieldChange;

/// The fields in which two values differ, in the order of their paths.
#[must_use]
pub fn fields<T: Serialize>(from: Option<&T>, to: Option<&T>) -> Vec<FieldChange> {
    let value = |v: Option<&T>| {
        // A manifest consists of strings, numbers, lists and maps with string keys.
        v.map(|v| serde_json::to_value(v).expect("a manifest can be written as json"))
    };
    let mut changes = Vec::new();
    compare("", value(from).as_ref(), value(to).as_ref(), &mut changes);
    changes
}

fn compare(path: &str, from: Option<&Value>, to: Option<&Value>, changes: &mut Vec<FieldChange>) {
    match (from, to) {
        (from, to) if from == to => {}
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                compare(&path, a.get(key), b.get(key), changes);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            for i in 0..a.len().max(b.len()) {
                compare(&format!("{path}[{i}]"), a.get(i), b.get(i), changes);
            }
        }
        (from, to) => changes.push(FieldChange {
            path: path.to_owned(),
            from: from.cloned(),
            to: to.cloned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_name_the_field() {
        let a = json!({ "spec": { "env": { "A": "1", "B": "2" }, "ports": [1] } });
        let b = json!({ "spec": { "env": { "A": "1", "B": "3" }, "ports": [1, 2] } });
        let changes = fields(Some(&a), Some(&b));
        let paths: Vec<_> = changes.iter().map(|c| c.path.as_str()).collect();
        assert_eq!(paths, ["spec.env.B", "spec.ports[1]"]);
        assert_eq!(changes[0].from, Some(json!("2")));
        assert_eq!(changes[1].from, None);
        assert!(fields(Some(&a), Some(&a)).is_empty());
    }
}
