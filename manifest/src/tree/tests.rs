use proptest::prelude::*;

use super::*;
use crate::node::Value;

/// The documents of a text, and how much of the budget they cost.
fn compose(text: &str) -> (Vec<Result<Document, Mistake>>, Size) {
    let text = Text::new("x", text);
    let mut budget = Budget::for_a_call();
    let mut documents = Documents::of(&text);
    let mut all = Vec::new();
    while let Some(document) = documents.next(&mut budget) {
        all.push(document);
    }
    let spent = Size {
        nodes: NODES_MAX - budget.nodes,
        bytes: BYTES_MAX - budget.bytes,
        depth: 0,
    };
    (all, spent)
}

fn only(text: &str) -> Document {
    let (mut documents, _) = compose(text);
    assert_eq!(documents.len(), 1, "{documents:?}");
    documents.remove(0).unwrap()
}

/// The tree as flow YAML, without places.
fn flow(node: &Node) -> String {
    match &node.value {
        Value::Scalar(scalar) => scalar.text.clone(),
        Value::Sequence(items) => {
            let items: Vec<_> = items.iter().map(|i| flow(i)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Mapping(entries) => {
            let entries: Vec<_> = entries
                .iter()
                .map(|e| format!("{}: {}", e.key.text, flow(&e.node)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

#[test]
fn empty_documents_do_not_count() {
    for text in [
        "",
        "\n",
        "---\n",
        "---\n---\n...\n",
        "# a\n---\n# b\n",
        "\u{feff}",
    ] {
        assert!(compose(text).0.is_empty(), "{text:?}");
    }
    let (documents, _) = compose("a\n---\n---\nb\n...\n---\n~\n");
    let lines: Vec<_> = documents
        .into_iter()
        .map(|d| d.unwrap().root.span.line)
        .collect();
    assert_eq!(lines, [1, 4, 7]);
}

#[test]
fn places_are_those_of_the_text() {
    let document = only("a:\n  - b\n  - c d # e\n");
    let c = document.root.find("a[1]");
    let expected = Span {
        line: 3,
        column: 5,
        width: 3,
    };
    assert_eq!(c.span(), expected);
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_are_fine() {
    let document = only("\u{feff}a:\r\n  b: c\r\n");
    let c = document.root.find("a.b");
    assert_eq!((c.span().line, c.span().column), (2, 6));
    assert_eq!(flow(&document.root), "{a: {b: c}}");
}

#[test]
fn after_a_syntax_error_the_next_document_is_read_in_its_place() {
    let (documents, _) = compose("a: b\n---\nc: @\n---\nd: 'e\n--- # f\n\ng: h\n");
    let mut lines = Vec::new();
    for document in &documents {
        match document {
            Ok(document) => lines.push((document.root.span.line, "ok")),
            Err(mistake) => lines.push((mistake.span.line, "wrong")),
        }
    }
    assert_eq!(lines, [(1, "ok"), (3, "wrong"), (5, "wrong"), (8, "ok")]);
}

#[test]
fn a_character_with_the_code_0_is_not_taken_for_the_end() {
    let (documents, _) = compose("a: b\n\0\nc: d\n");
    let mistake = documents[0].as_ref().unwrap_err();
    assert!(mistake.message.contains("code 0"), "{mistake:?}");
    assert_eq!((documents.len(), mistake.span.line), (1, 2));
}

#[test]
fn the_text_of_a_refused_tag_is_paid_for() {
    let (documents, spent) = compose("[!tag]");
    assert_eq!(documents[0].as_ref().unwrap().mistakes.len(), 1);
    assert_eq!(spent.bytes, "!tag".len());
}

#[test]
fn merge_keys_bring_in_what_is_not_there() {
    for (text, merged) in [
        ("{ <<: { a: 1, b: 2 }, b: 3, c: 4 }", "{b: 3, c: 4, a: 1}"),
        (
            "{ b: 3, <<: [{ a: 1 }, { a: 2, c: 5 }] }",
            "{b: 3, a: 1, c: 5}",
        ),
        ("{ '<<': { a: 1 } }", "{<<: {a: 1}}"),
        (
            "{ x: &x { a: 1 }, y: { <<: *x } }",
            "{x: {a: 1}, y: {a: 1}}",
        ),
        ("{ <<: { <<: { a: 1 }, b: 2 } }", "{b: 2, a: 1}"),
    ] {
        let document = only(text);
        assert!(document.mistakes.is_empty(), "{text}");
        assert_eq!(flow(&document.root), merged, "{text}");
    }
}

#[test]
fn an_alias_shares_its_node() {
    let document = only("a: &a [1, 2]\nb: *a\nc: *a\n");
    let Value::Mapping(entries) = &document.root.value else {
        panic!("{:?}", document.root);
    };
    assert!(Arc::ptr_eq(&entries[0].node, &entries[2].node));
    assert_eq!(Arc::strong_count(&entries[0].node), 3);
}

#[test]
fn a_fat_anchor_is_refused_before_it_costs_memory() {
    let text = include_str!("../../tests/errors/fat-anchor.yaml");
    assert!(text.len() < 60_000);
    let (documents, spent) = compose(text);
    let refused: Vec<_> = documents.iter().filter(|d| d.is_err()).collect();
    assert_eq!((documents.len(), refused.len()), (1, 1));
    // Written out, it would be 6,000 x 20,000 bytes.
    assert!(spent.bytes <= BYTES_MAX && spent.nodes < 1000, "{spent:?}");
}

#[test]
fn an_alias_costs_what_it_stands_for() {
    let (_, spent) = compose("a: &a [x, yy]\nb: *a\n");
    // The mapping, two keys, and twice a sequence of two.
    let expected = Size {
        nodes: 1 + 2 + 3 + 3,
        bytes: 2 + 3 + 3,
        depth: 0,
    };
    assert_eq!(spent, expected);
    let document = only("a: &a [x, yy]\nb: *a\n");
    assert_eq!(document.root.size, Size { depth: 2, ..spent });
}

#[test]
fn anchors_end_with_their_document() {
    let (documents, _) = compose("a: &a b\n---\nc: *a\n");
    assert!(documents[0].is_ok());
    assert!(documents[1].as_ref().unwrap_err().message.contains("`a`"));
}

#[test]
fn aliases_count_for_the_depth() {
    let mut text = String::from("- &a0 [x]\n");
    for i in 1..100 {
        text.push_str(&format!("- &a{i} [*a{}]\n", i - 1));
    }
    let (documents, _) = compose(&text);
    let mistake = documents[0].as_ref().unwrap_err();
    assert!(mistake.message.contains("64 deep"), "{mistake:?}");
    assert_eq!(mistake.span.line, 64);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[-a-c0-2:&*<{}\\[\\],!?|>#%@'\"\\\\ \t\r\n\u{feff}é~.]{0,200}") {
        let (documents, spent) = compose(&text);
        let lines = text.split(['\r', '\n']).count();
        prop_assert!(spent.nodes <= NODES_MAX);
        for document in documents {
            let line = match document {
                Ok(document) => document.root.span.line,
                Err(mistake) => mistake.span.line,
            };
            prop_assert!((1..=lines).contains(&line), "{} of {}", line, lines);
        }
    }
}
