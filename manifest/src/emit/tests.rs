use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    collect,
    text::Text,
    tree::{Budget, Documents},
};

fn read_back(yaml: &str) -> Value {
    let text = Text::new("x", yaml);
    let document = Documents::of(&text).next(&mut Budget::for_a_call());
    let document = document.unwrap().unwrap();
    assert_eq!(document.mistakes, []);
    collect::read(&document.root, &[]).unwrap()
}

#[test]
fn it_reads_well() {
    let value = json!({
        "kind": "Service", "name": "web",
        "spec": {
            "args": ["demo", "--port", "8080", ""],
            "env": { "A": "yes", "B": "a: b", "C": "two\nlines", "D": "/srv a" },
            "image": "nginx:1.27",
            "ports": [{ "container": 80, "host": 8080 }, {}],
            "matrix": [[1, 2], [], [[3]]],
            "none": null, "ratio": 0.5, "since": "2026-01-01T00:00:00Z", "empty": {},
        },
    });
    let yaml = "\
kind: Service
name: web
spec:
  args:
    - demo
    - \"--port\"
    - \"8080\"
    - \"\"
  empty: {}
  env:
    A: \"yes\"
    B: \"a: b\"
    C: \"two\\nlines\"
    D: /srv a
  image: nginx:1.27
  matrix:
    - - 1
      - 2
    - []
    - - - 3
  none: null
  ports:
    - container: 80
      host: 8080
    - {}
  ratio: 0.5
  since: \"2026-01-01T00:00:00Z\"
";
    assert_eq!(to_yaml(&value), yaml);
    assert_eq!(read_back(yaml), value);
}

#[test]
fn what_other_parsers_would_take_for_something_else_is_quoted() {
    for text in [
        "yes",
        "Off",
        "n",
        "1:30",
        "12e03",
        "0o7",
        "2024-01-01",
        "~",
        "null",
        "- a",
        "a #b",
        "*a",
        "&a",
        "!a",
        "%a",
        "@a",
        "`a",
        "{a",
        "[a",
        "a:",
        " a",
        "a ",
        "=",
        "<<",
        "---",
        "1_000",
    ] {
        let yaml = to_yaml(&json!(text));
        assert!(yaml.starts_with('"'), "{yaml}");
    }
    for text in [
        "web",
        "64Mi",
        "250m",
        "10s",
        "a/b:1.2@sha256:ab",
        "node.labels.zone == eu",
    ] {
        assert_eq!(to_yaml(&json!(text)), format!("{text}\n"));
    }
}

fn values() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        any::<String>(),
        "[-a-c0-2:&*<{}\\[\\],!?|>#%@'\"\\\\ \t\r\n\u{85}\u{feff}\u{2028}~.eExo+_]{0,12}",
        "[a-z]{1,1100}",
    ];
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    scalar.prop_recursive(5, 40, 6, move |inner| {
        let fields = prop::collection::btree_map(text.clone(), inner.clone(), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..6).prop_map(Value::from),
            fields.prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back_equal(value in values()) {
        // An empty text would be an empty document.
        let value = json!({ "value": value });
        let yaml = to_yaml(&value);
        prop_assert_eq!(read_back(&yaml), value, "{}", yaml);
    }
}
