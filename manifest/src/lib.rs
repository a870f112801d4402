//! YAML in, [`Manifest`]s out. Nothing else in the project parses YAML.
//!
//! A file goes through four stages, each its own module:
//!
//! 1. `tree`: parser events become documents, trees of nodes that know their place in the
//!    text. Aliases share nodes, and a budget bounds what they expand to.
//! 2. `format`: what a document is written in. Only `native` is taken so far; another format is
//!    a sibling module that turns a tree into the same [`Manifest`].
//! 3. `collect` and `de`: serde reads the tree into the API's types, again and again without what
//!    was wrong, until every mistake is known.
//! 4. `windlass_api::validate` judges what is well formed; its paths are found again in the tree.
#![warn(missing_docs)]

mod call;
mod collect;
mod de;
mod emit;
mod error;
mod format;
mod native;
mod node;
mod scalar;
mod schema;
mod source;
mod suggest;
mod syntax;
mod text;
mod tree;

pub use emit::to_yaml;
pub use error::{Error, Errors, Excerpt, Place, Styles};
pub use schema::schema;
pub use source::{FILE_BYTES_MAX, Source, TOTAL_BYTES_MAX, load};
use windlass_api::{ids::Namespace, resource::Manifest};

/// Reads every manifest of all sources, in order. A document that names no namespace is in
/// `default_namespace`. Documents that are empty do not count.
///
/// # Errors
/// Every mistake of every source, in order; one, if there is no resource in any of them.
pub fn parse(sources: &[Source], default_namespace: &Namespace) -> Result<Vec<Manifest>, Errors> {
    call::parse(sources, default_namespace)
}
