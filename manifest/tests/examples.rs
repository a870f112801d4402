//! The examples of the project, and what holds for every text.

use std::{collections::BTreeSet, path::PathBuf};

use proptest::prelude::*;
use windlass_api::{ids::Namespace, spec::Kind, validate::RESOURCES_PER_CALL_MAX};
use windlass_manifest::{Source, load, parse, to_yaml};

fn source(text: &str) -> [Source; 1] {
    let (name, text) = ("x.yaml".to_owned(), text.to_owned());
    [Source { name, text }]
}

#[test]
fn every_example_parses_and_reads_back() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let sources = load(&[folder]).expect("the examples are there");
    assert!(sources.len() >= 12, "only {} examples", sources.len());
    let mut kinds = BTreeSet::new();
    for example in sources {
        let manifests = parse(std::slice::from_ref(&example), &Namespace::default());
        for manifest in manifests.unwrap_or_else(|errors| panic!("{errors}")) {
            kinds.insert(manifest.kind);
            let value = serde_json::to_value(&manifest).expect("a manifest is JSON");
            let yaml = to_yaml(&value);
            let again = parse(&source(&yaml), &Namespace::default());
            assert_eq!(
                again.unwrap_or_else(|errors| panic!("{errors}")),
                [manifest],
                "{yaml}"
            );
        }
    }
    assert_eq!(kinds, Kind::ALL.into(), "there is one of every kind");
}

#[test]
fn the_default_namespace_is_where_nothing_else_is_said() {
    let text = "kind: Service\nname: a\nspec: { image: x }\n---\n\
                kind: Service\nname: a\nnamespace: other\nspec: { image: x }\n";
    let team: Namespace = "team".parse().expect("it is a name");
    let manifests = parse(&source(text), &team).expect("nothing is wrong");
    let keys: Vec<_> = manifests.iter().map(|m| m.key().to_string()).collect();
    assert_eq!(keys, ["team/a", "other/a"]);
}

#[test]
fn a_call_takes_a_bounded_number_of_resources() {
    let one = |i: usize| format!("---\nkind: Service\nname: s{i}\nspec: {{ image: x }}\n");
    let full: String = (0..RESOURCES_PER_CALL_MAX).map(one).collect();
    let manifests = parse(&source(&full), &Namespace::default()).expect("that many are fine");
    assert_eq!(manifests.len(), RESOURCES_PER_CALL_MAX);

    let errors = parse(&source(&full.repeat(3)), &Namespace::default()).expect_err("too many");
    assert_eq!(errors.0.len(), 1);
    assert_eq!(errors.0[0].message, "more than 500 resources in one call");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(texts in prop::collection::vec(text(), 0..4)) {
        let sources: Vec<_> = texts.iter().flat_map(|t| source(t)).collect();
        match parse(&sources, &Namespace::default()) {
            Ok(manifests) => prop_assert!(!manifests.is_empty() || sources.is_empty()),
            Err(errors) => {
                prop_assert!(!errors.0.is_empty());
                let shown = errors.to_string();
                prop_assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{}", shown);
            }
        }
    }
}

/// Any text, and such that is nearly a manifest.
fn text() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "kind: Service",
        "name: web",
        "spec:",
        "image: nginx",
        "replicas: 3",
        "ports:",
        "- ",
        "  ",
        "    ",
        "\n",
        "---\n",
        "&a ",
        "*a",
        "<<: ",
        "{",
        "}",
        "[",
        "]",
        ": ",
        "\"",
        "'",
        "\t",
        "#",
        "!!str ",
        "|\n",
        "null",
        "env:",
        "-1",
        ", ",
        "? ",
    ]);
    prop_oneof![
        any::<String>(),
        prop::collection::vec(word, 0..60).prop_map(|words| words.concat()),
    ]
}
