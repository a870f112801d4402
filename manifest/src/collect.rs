//! Every mistake of a document at once. serde stops at the first one: it is noted, what is to
//! blame is pruned, and the rest is read again, until it can be read or nothing is left to prune. What is missing only
//! because it was pruned is not told.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;

use crate::{
    de::{Blame, Fault, Kind, NodeDeserializer},
    node::{Found, Node, push_key},
    text::Mistake,
};

/// The most mistakes that are noted of one document. Each costs one more reading of it.
pub(crate) const MISTAKES_MAX: usize = 100;

/// What is said of a field that is not known.
pub(crate) const UNKNOWN_FIELD: &str = "unknown field";

/// What of a tree is not shown to serde, by positions in mappings and sequences.
#[derive(Debug, Default)]
pub(crate) struct Pruned {
    below: BTreeMap<usize, Branch>,
}

#[derive(Debug)]
enum Branch {
    Cut,
    Kept(Pruned),
}

static NOTHING: Pruned = Pruned {
    below: BTreeMap::new(),
};

impl Pruned {
    /// What is pruned below a position; `None` if it is cut off itself.
    pub(crate) fn below(&self, position: usize) -> Option<&Self> {
        match self.below.get(&position) {
            Some(Branch::Cut) => None,
            Some(Branch::Kept(pruned)) => Some(pruned),
            None => Some(&NOTHING),
        }
    }

    fn cut(&mut self, trail: &[usize]) -> Outcome {
        match trail {
            [] => Outcome::RootIsLeft,
            [last] => {
                self.below.insert(*last, Branch::Cut);
                Outcome::Cut
            }
            [first, rest @ ..] => {
                let branch = self.below.entry(*first);
                match branch.or_insert_with(|| Branch::Kept(Self::default())) {
                    Branch::Kept(pruned) => pruned.cut(rest),
                    Branch::Cut => Outcome::Cut,
                }
            }
        }
    }
}

/// What came of an attempt to prune.
#[derive(PartialEq, Eq)]
enum Outcome {
    Cut,
    /// The root is to blame, and cannot be cut off.
    RootIsLeft,
}

/// Reads a tree. serde tells of one missing field in a mapping only: `required` are the ones
/// that the root must have.
///
/// # Errors
/// Every mistake, of which there is at least one, and at most [`MISTAKES_MAX`] and the missing ones of the root.
pub(crate) fn read<T: DeserializeOwned>(
    root: &Node,
    required: &[&'static str],
) -> Result<T, Vec<Mistake>> {
    read_in_part(root, required).map_err(|unread| unread.mistakes)
}

/// A tree that could not be read as it is.
#[derive(Debug)]
pub(crate) struct Unread<T> {
    /// Why: see [`read`].
    pub(crate) mistakes: Vec<Mistake>,
    /// What is left without all that is to blame, if that is enough.
    pub(crate) rest: Option<T>,
}

/// [`read`], which keeps what could be read.
pub(crate) fn read_in_part<T: DeserializeOwned>(
    root: &Node,
    required: &[&'static str],
) -> Result<T, Unread<T>> {
    let mut pruned = Pruned::default();
    let mut findings = Findings::default();
    let mut rest = None;
    while findings.mistakes.len() < MISTAKES_MAX {
        let fault = match T::deserialize(NodeDeserializer::new(root, &pruned)) {
            Ok(value) if findings.mistakes.is_empty() => return Ok(value),
            Ok(value) => {
                rest = Some(value);
                break;
            }
            Err(fault) => fault,
        };
        let trail = fault.trail();
        findings.add(fault, root.follow(&trail));
        if pruned.cut(&trail) == Outcome::RootIsLeft {
            break;
        }
    }
    for field in required {
        findings.missing(field, &root.follow(&[]));
    }
    let mistakes = findings.mistakes;
    Err(Unread { mistakes, rest })
}

#[derive(Default)]
struct Findings {
    mistakes: Vec<Mistake>,
    /// The paths that are known to be missing, or were meant by a field that is not known.
    told: BTreeSet<String>,
}

impl Findings {
    fn add(&mut self, fault: Fault, found: Found<'_>) {
        let span = match fault.blame {
            Blame::Key => found.key.unwrap_or(found.node.span),
            Blame::Value => found.span(),
        };
        let mistake = match fault.kind {
            Kind::Missing(field) => return self.missing(field, &found),
            Kind::Unknown { meant, help } => {
                self.told
                    .extend(meant.map(|field| beside(&found.path, field)));
                Mistake::new(span, found.path, UNKNOWN_FIELD).with_help(help)
            }
            Kind::Wrong { message, help } => Mistake {
                span,
                path: found.path,
                message,
                help,
            },
        };
        self.mistakes.push(mistake);
    }

    /// A field is missing: no news if it was pruned, or if another one was taken for it.
    fn missing(&mut self, field: &str, mapping: &Found<'_>) {
        let mut path = mapping.path.clone();
        push_key(&mut path, field);
        if mapping.node.entry(field).is_none() && self.told.insert(path.clone()) {
            let message = format!("missing field `{field}`");
            self.mistakes
                .push(Mistake::new(mapping.span(), path, message));
        }
    }
}

/// The path of a field in the mapping of another one.
fn beside(path: &str, field: &str) -> String {
    let mut beside = path
        .rsplit_once('.')
        .map_or("", |(above, _)| above)
        .to_owned();
    push_key(&mut beside, field);
    beside
}
