//! What a document is written in.

use std::sync::Arc;

use windlass_api::ids::Namespace;

use crate::{
    native::{self, Reading},
    node::{Key, Node, Value},
    text::Mistake,
};

enum Format<'a> {
    Native,
    /// The key by which the format is known.
    Kubernetes(&'a Key),
    Compose(&'a Key),
    /// A list of resources, as the API shows it.
    List(&'a [Arc<Node>]),
    /// The document is no mapping.
    None,
}

/// What stands beside the resources of a list, and says nothing about them.
const BESIDE_ITEMS: [&str; 2] = ["items", "version"];

/// Reads one document of any format that is taken. Only a list has not exactly one resource.
pub(crate) fn read(root: &Node, namespace: &Namespace) -> Vec<Reading> {
    match recognise(root) {
        Format::List(items) => {
            let foreign = root.entries().iter().find(|entry| {
                let key = &*entry.key.text;
                !BESIDE_ITEMS.contains(&key)
            });
            if let Some(entry) = foreign {
                let message = format!("there is no `{}` in a list of resources", entry.key.text);
                let help = "a list has `items`; one with `continue` is not the whole of it";
                let mistake = Mistake::new(entry.key.span, &*entry.key.text, message);
                return vec![Reading::refused(mistake.with_help(help))];
            }
            items.iter().map(|item| read_one(item, namespace)).collect()
        }
        _ => vec![read_one(root, namespace)],
    }
}

fn read_one(root: &Node, namespace: &Namespace) -> Reading {
    let foreign = |key: &Key, format: &str, help: &str| {
        let message = format!("this looks like {format}, which windlass does not read yet");
        Reading::refused(Mistake::new(key.span, &*key.text, message).with_help(help))
    };
    match recognise(root) {
        Format::Native => native::read(root, namespace),
        Format::List(_) => Reading::refused(
            Mistake::new(root.span, "", "a list is no resource")
                .with_help("write what it has among the others"),
        ),
        Format::Kubernetes(key) => foreign(
            key,
            "a Kubernetes manifest",
            "write `kind`, `name` and `spec`; `windlass schema` shows every field",
        ),
        Format::Compose(key) => foreign(
            key,
            "a Compose file",
            "write one document with `kind: Service`, `name` and `spec` for each service",
        ),
        Format::None => Reading::refused(
            Mistake::new(root.span, "", "a manifest is a mapping")
                .with_help("begin with `kind: Service`, and `name` and `spec` beside it"),
        ),
    }
}

fn recognise(root: &Node) -> Format<'_> {
    if !matches!(root.value, Value::Mapping(_)) {
        return Format::None;
    }
    if let Some(entry) = root.entry("apiVersion") {
        return Format::Kubernetes(&entry.key);
    }
    if let (Some(items), None) = (root.entry("items"), root.entry("kind"))
        && let Value::Sequence(items) = &items.node.value
    {
        return Format::List(items);
    }
    match root.entry("services") {
        Some(entry) if root.entry("kind").is_none() => Format::Compose(&entry.key),
        _ => Format::Native,
    }
}
