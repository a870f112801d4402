//! The native format: `kind`, `name` and `spec`, with the names of the API's own types.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::de::{DeserializeOwned, IgnoredAny};
use windlass_api::{
    ids::Namespace,
    resource::{Document, Manifest},
    spec::{CronJobSpec, DaemonSpec, JobSpec, Kind, ServiceSpec, WorkloadSpec},
    validate::{self, FieldError},
};

use crate::{
    collect::{self, UNKNOWN_FIELD, Unread},
    node::{Node, Span, Value},
    suggest,
    text::Mistake,
};

/// What every document must have, of whatever kind.
const REQUIRED: [&str; 3] = ["kind", "name", "spec"];
/// The maps whose keys the user chooses, wherever they stand.
const NAMED_BY_USER: [&str; 3] = ["labels", "env", "headers"];

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
            mistakes: judge(root, validate::validate(&manifest)),
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
    let Unread { mistakes, rest } = match collect::read_in_part::<Document<S>>(root, &REQUIRED) {
        Ok(document) => return Ok(document.into_manifest(namespace, spec)),
        Err(unread) => unread,
    };
    let rest = rest.map(|document| document.into_manifest(namespace, spec));
    let mistakes = with_missing_image(root, explain_misplaced::<S>(mistakes));
    Err(with_judged(root, mistakes, rest.as_ref()))
}

/// Adds what makes no sense in what could be read. What stands near to something that could not be
/// is left out: that may be why.
fn with_judged(root: &Node, mut mistakes: Vec<Mistake>, rest: Option<&Manifest>) -> Vec<Mistake> {
    let judged = rest.map(|rest| judge(root, validate::validate_part(rest)));
    for mistake in judged.into_iter().flatten() {
        // The positions in a list are others if one of its items could not be read.
        let list = |path: &str| path.split_once('[').map(|(list, _)| list.to_owned());
        let is_near = mistakes.iter().any(|known| {
            let lists = list(&known.path).is_some_and(|list| mistake.path.starts_with(&list));
            lists || mistake.path.starts_with(&known.path) || known.path.starts_with(&mistake.path)
        });
        if !is_near {
            mistakes.push(mistake);
        }
    }
    mistakes
}

/// The kind, if there is one and it is known.
fn kind(root: &Node) -> Option<Kind> {
    collect::read(&root.entry("kind")?.node, &[]).ok()
}

/// What makes no sense, with its place.
fn judge(root: &Node, errors: Vec<FieldError>) -> Vec<Mistake> {
    errors
        .into_iter()
        .map(|error| {
            let found = root.find(&error.path);
            // Of an entry that is named by the user, the key may be to blame as well.
            let key = found.key.filter(|_| is_named_by_user(&found.path));
            Mistake::new(
                key.unwrap_or_else(|| found.span()),
                error.path,
                error.message,
            )
        })
        .collect()
}

/// Whether a path leads to an entry of a map, or below it, and the map's keys are the user's.
fn is_named_by_user(path: &str) -> bool {
    let mut above = path;
    while let Some((map, _)) = above.rsplit_once('.') {
        let field = map.rsplit_once('.').map_or(map, |(_, field)| field);
        if NAMED_BY_USER.contains(&field) {
            return true;
        }
        above = map;
    }
    false
}

/// Says which kinds there are.
fn explain_kind(mut mistakes: Vec<Mistake>) -> Vec<Mistake> {
    for mistake in mistakes.iter_mut().filter(|m| m.path == "kind") {
        let kinds = Kind::ALL.map(Kind::name);
        mistake.help.get_or_insert_with(|| suggest::list(&kinds));
    }
    mistakes
}

/// Says that there is no image, as [`validate`] would if the rest could be read.
fn with_missing_image(root: &Node, mut mistakes: Vec<Mistake>) -> Vec<Mistake> {
    let spec = root.find("spec");
    let is_mapping = matches!(spec.node.value, Value::Mapping(_));
    let is_named = ["image", "containers"]
        .iter()
        .any(|field| spec.node.entry(field).is_some());
    // Another field may have been taken for one of them.
    let is_meant = mistakes.iter().any(|mistake| {
        let help = mistake.help.as_deref();
        help.is_some_and(|help| help.contains("`image`") || help.contains("`containers`"))
    });
    if spec.path == "spec" && is_mapping && !is_named && !is_meant {
        let (path, message) = ("spec.image".to_owned(), validate::NO_IMAGE.to_owned());
        mistakes.push(Mistake::new(spec.span(), path, message));
    }
    mistakes
}

/// Says of a field that is known elsewhere where it belongs.
fn explain_misplaced<S: JsonSchema>(mut mistakes: Vec<Mistake>) -> Vec<Mistake> {
    let fields = fields::<S>();
    let unknown = mistakes.iter_mut().filter(|m| m.message == UNKNOWN_FIELD);
    for mistake in unknown {
        if fields.contains(&mistake.path) {
            mistake.help = Some("it belongs under `spec`".to_owned());
        } else if let Some(field) = mistake.path.strip_prefix("spec.") {
            let owners: Vec<String> = Kind::ALL
                .into_iter()
                .filter(|kind| fields_of(*kind).contains(field))
                .map(|kind| format!("`{kind}`"))
                .collect();
            if !owners.is_empty() {
                mistake.help = Some(format!("only of {}", owners.join(" and ")));
            }
        }
    }
    mistakes
}

/// The fields of the spec of a kind.
fn fields_of(kind: Kind) -> BTreeSet<String> {
    match kind {
        Kind::Service => fields::<ServiceSpec>(),
        Kind::Daemon => fields::<DaemonSpec>(),
        Kind::Job => fields::<JobSpec>(),
        Kind::CronJob => fields::<CronJobSpec>(),
    }
}

/// The fields of a struct, as they are written.
fn fields<S: JsonSchema>() -> BTreeSet<String> {
    let schema = schemars::schema_for!(S);
    let fields = schema.get("properties").and_then(|p| p.as_object());
    fields.into_iter().flat_map(|f| f.keys().cloned()).collect()
}
