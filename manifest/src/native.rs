//! The native format: `kind`, `name` and `spec`, with the names of the API's own types.

use schemars::JsonSchema;
use serde::de::{DeserializeOwned, IgnoredAny};
use windlass_api::{
    ids::Namespace,
    resource::{Document, Manifest},
    spec::{Kind, WorkloadSpec},
    validate,
};

use crate::{
    collect::{self, UNKNOWN_FIELD},
    node::{Node, Span},
    suggest,
    text::Mistake,
};

/// What is told when there is none.
const KINDS: [Kind; 4] = Kind::ALL;
/// What every document must have, of whatever kind.
const REQUIRED: [&str; 3] = ["kind", "name", "spec"];
/// Where the user chooses the keys.
const NAMED_BY_USER: [&str; 3] = ["labels.", "spec.labels.", "spec.env."];

/// What was read of a document. The manifest is there if it is well formed, which does not
/// mean that nothing is wrong with it.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) manifest: Option<Manifest>,
    /// Where the name stands.
    pub(crate) name: Span,
    pub(crate) mistakes: Vec<Mistake>,
}

impl Reading {
    pub(crate) fn refused(mistake: Mistake) -> Self {
        Self {
            manifest: None,
            name: mistake.span,
            mistakes: vec![mistake],
        }
    }
}

/// Reads a document that is a mapping.
pub(crate) fn read(root: &Node, namespace: &Namespace) -> Reading {
    let manifest = match kind(root) {
        Some(Kind::Service) => read_as(root, namespace, WorkloadSpec::Service),
        Some(Kind::Daemon) => read_as(root, namespace, WorkloadSpec::Daemon),
        Some(Kind::Job) => read_as(root, namespace, WorkloadSpec::Job),
        Some(Kind::CronJob) => read_as(root, namespace, WorkloadSpec::CronJob),
        // Without a kind nothing is known of the spec; the fields beside it are read all the same.
        None => Err(collect::read::<Document<IgnoredAny>>(root, &REQUIRED)
            .err()
            .map(explain_kind)
            .unwrap_or_default()),
    };
    let name = root.find("name").span();
    match manifest {
        Ok(manifest) => Reading {
            mistakes: judge(root, &manifest),
            manifest: Some(manifest),
            name,
        },
        Err(mistakes) => Reading {
            manifest: None,
            name,
            mistakes,
        },
    }
}

/// Reads a document whose spec is known.
fn read_as<S: DeserializeOwned + JsonSchema>(
    root: &Node,
    namespace: &Namespace,
    spec: fn(S) -> WorkloadSpec,
) -> Result<Manifest, Vec<Mistake>> {
    collect::read::<Document<S>>(root, &REQUIRED)
        .map(|document| document.into_manifest(namespace, spec))
        .map_err(explain_misplaced::<S>)
}

/// The kind, if there is one and it is known.
fn kind(root: &Node) -> Option<Kind> {
    collect::read(&root.entry("kind")?.node, &[]).ok()
}

/// What makes no sense, in a document that is well formed.
fn judge(root: &Node, manifest: &Manifest) -> Vec<Mistake> {
    let errors = validate::validate(manifest).into_iter();
    errors
        .map(|error| {
            let found = root.find(&error.path);
            // Of an entry that is named by the user, the key may be to blame as well.
            let named_by_user = NAMED_BY_USER.iter().any(|p| error.path.starts_with(p));
            let key = found.key.filter(|_| named_by_user);
            Mistake::new(
                key.unwrap_or_else(|| found.span()),
                error.path,
                error.message,
            )
        })
        .collect()
}

/// Says which kinds there are.
fn explain_kind(mut mistakes: Vec<Mistake>) -> Vec<Mistake> {
    for mistake in mistakes.iter_mut().filter(|m| m.path == "kind") {
        let kinds = KINDS.map(|k| k.to_string());
        let kinds: Vec<_> = kinds.iter().map(String::as_str).collect();
        mistake.help.get_or_insert_with(|| suggest::list(&kinds));
    }
    mistakes
}

/// Says of a field beside `spec` that it belongs into it.
fn explain_misplaced<S: JsonSchema>(mut mistakes: Vec<Mistake>) -> Vec<Mistake> {
    let schema = schemars::schema_for!(S);
    let fields = schema.get("properties").and_then(|p| p.as_object());
    let unknown = mistakes.iter_mut().filter(|m| m.message == UNKNOWN_FIELD);
    for mistake in unknown {
        if fields.is_some_and(|f| f.contains_key(&mistake.path)) {
            mistake.help = Some("it belongs under `spec`".to_owned());
        }
    }
    mistakes
}
