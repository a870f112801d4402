use std::collections::BTreeMap;

use serde::Deserialize;
use windlass_api::spec::ScalarText;

use crate::{
    collect,
    text::{Mistake, Text},
    tree::{Budget, Documents},
};

fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Vec<Mistake>> {
    let text = Text::new("x", text);
    let document = Documents::of(&text).next(&mut Budget::for_a_call());
    collect::read(&document.unwrap().unwrap().root, &[])
}

fn mistakes<T: serde::de::DeserializeOwned + std::fmt::Debug>(text: &str) -> Vec<String> {
    let mistakes = read::<T>(text).unwrap_err();
    mistakes
        .iter()
        .map(|m| format!("{}: {}", m.path, m.message))
        .collect()
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    size: u16,
    #[serde(default)]
    parts: Vec<Part>,
    #[serde(default)]
    label: Option<ScalarText>,
}

#[test]
fn scalar_text_is_the_source_text() {
    let texts: BTreeMap<String, ScalarText> =
        read("{ a: 1.10, b: 0x10, c: yes, d: 'null', e: 1e3, 5: TRUE }").unwrap();
    let texts: Vec<_> = texts.iter().map(|(k, v)| (&**k, &*v.0)).collect();
    assert_eq!(
        texts,
        [
            ("5", "TRUE"),
            ("a", "1.10"),
            ("b", "0x10"),
            ("c", "yes"),
            ("d", "null"),
            ("e", "1e3")
        ]
    );
}

#[test]
fn no_value_is_no_way_to_leave_out_a_field() {
    assert_eq!(
        mistakes::<Part>("{ size: 1, label: null, parts: }"),
        [
            "label: expected a string, a number or a boolean, not nothing",
            "parts: expected a list, not nothing"
        ]
    );
}

#[test]
fn every_mistake_is_found_and_told_once() {
    let text = "
        size: x
        colour: red
        parts:
          - { size: 1 }
          - { size: 70000, parts: [{}, 5, { size: 1, parts: { a: b } }] }
          - { sise: 2 }
          - { parts: [] }
    ";
    assert_eq!(
        mistakes::<Part>(text),
        [
            "size: expected a whole number from 0 to 65535, not the text `x`",
            "colour: unknown field",
            "parts[1].size: expected a whole number from 0 to 65535, not the number `70000`",
            "parts[1].parts[0].size: missing field `size`",
            "parts[1].parts[1]: expected a mapping, not the number `5`",
            "parts[1].parts[2].parts: expected a list, not a mapping",
            "parts[2].sise: unknown field",
            "parts[3].size: missing field `size`",
        ]
    );
}

#[test]
fn mistakes_are_bounded() {
    let text = format!("size: 1\nparts: [{}]", "x,".repeat(1000));
    assert_eq!(mistakes::<Part>(&text).len(), collect::MISTAKES_MAX);
}

#[test]
fn a_wrong_root_is_one_mistake() {
    assert_eq!(mistakes::<Part>("[1, [], x]").len(), 1);
    assert_eq!(mistakes::<Vec<u8>>("a: b").len(), 1);
}
