//! What a document is written in.

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
    /// The document is no mapping.
    None,
}

/// Reads one document of any format that is taken.
pub(crate) fn read(root: &Node, namespace: &Namespace) -> Reading {
    let foreign = |key: &Key, format: &str, help: &str| {
        let message = format!("this looks like {format}, which windlass does not read yet");
        Reading::refused(Mistake::new(key.span, &*key.text, message).with_help(help))
    };
    match recognise(root) {
        Format::Native => native::read(root, namespace),
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
    match root.entry("services") {
        Some(entry) if root.entry("kind").is_none() => Format::Compose(&entry.key),
        _ => Format::Native,
    }
}
