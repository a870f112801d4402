//! Everything that is read in one call: all sources, all documents.

use std::collections::HashMap;

use windlass_api::{
    ids::{Namespace, WorkloadKey},
    resource::Manifest,
    validate::RESOURCES_PER_CALL_MAX,
};

use crate::{
    error::{Error, Errors},
    format,
    node::Span,
    source::Source,
    text::{Mistake, Text},
    tree::{Budget, Document, Documents},
};

struct Call<'a> {
    namespace: &'a Namespace,
    budget: Budget,
    documents: usize,
    manifests: Vec<Manifest>,
    errors: Vec<Error>,
    /// Where each resource was first defined.
    defined: HashMap<WorkloadKey, String>,
}

/// Whether more is read after a document.
#[derive(PartialEq, Eq)]
enum Next {
    Continue,
    Stop,
}

/// See [`crate::parse`].
pub(crate) fn parse(sources: &[Source], namespace: &Namespace) -> Result<Vec<Manifest>, Errors> {
    let mut call = Call {
        namespace,
        budget: Budget::for_a_call(),
        documents: 0,
        manifests: Vec::new(),
        errors: Vec::new(),
        defined: HashMap::new(),
    };
    for source in sources {
        if call.source(source) == Next::Stop {
            break;
        }
    }
    if call.documents == 0 {
        call.nothing(sources);
    }
    if call.errors.is_empty() {
        debug_assert_eq!(call.manifests.len(), call.documents, "a document got lost");
        Ok(call.manifests)
    } else {
        Err(Errors(call.errors))
    }
}

impl Call<'_> {
    fn source(&mut self, source: &Source) -> Next {
        let text = Text::new(&source.name, &source.text);
        let mut documents = Documents::of(&text);
        let mut mistakes = Vec::new();
        let mut next = Next::Continue;
        while next == Next::Continue
            && let Some(document) = documents.next(&mut self.budget)
        {
            self.documents += 1;
            if self.documents > RESOURCES_PER_CALL_MAX {
                let span = document.map_or_else(|m| m.span, |d| d.root.span);
                mistakes.push(too_many(span));
                next = Next::Stop;
                continue;
            }
            match document {
                Ok(document) => mistakes.extend(self.document(&text, document)),
                Err(mistake) => mistakes.push(mistake),
            }
            if documents.budget_is_spent() {
                next = Next::Stop;
            }
        }
        self.report(&text, mistakes);
        next
    }

    fn document(&mut self, text: &Text<'_>, document: Document) -> Vec<Mistake> {
        let mut mistakes = document.mistakes;
        let reading = format::read(&document.root, self.namespace);
        mistakes.extend(reading.mistakes);
        if let Some(manifest) = reading.manifest {
            mistakes.extend(self.define(text, &manifest, reading.name));
            self.manifests.push(manifest);
        }
        mistakes
    }

    fn define(&mut self, text: &Text<'_>, manifest: &Manifest, name: Span) -> Option<Mistake> {
        let place = format!("{}:{}:{}", text.name, name.line, name.column);
        let key = manifest.key();
        if let Some(first) = self.defined.get(&key) {
            let message = format!("`{key}` is there twice, first at {first}");
            let help = "rename or remove one of them";
            return Some(Mistake::new(name, "name", message).with_help(help));
        }
        self.defined.insert(key, place);
        None
    }

    /// Notes the mistakes of a source in the order of its text. What an alias repeats is
    /// noted once.
    fn report(&mut self, text: &Text<'_>, mut mistakes: Vec<Mistake>) {
        mistakes.sort_by_key(|m| (m.span.line, m.span.column));
        mistakes.dedup_by(|a, b| a.span == b.span && a.message == b.message && a.help == b.help);
        self.errors.extend(mistakes.iter().map(|m| text.error(m)));
    }

    fn nothing(&mut self, sources: &[Source]) {
        let help = "a manifest begins with `kind: Service`";
        for source in sources {
            let message = "there are no resources in it";
            self.errors
                .push(Error::of_source(&source.name, message, help));
        }
    }
}

fn too_many(span: Span) -> Mistake {
    let message = format!("more than {RESOURCES_PER_CALL_MAX} resources in one call");
    Mistake::new(span, "", message).with_help("apply them in several calls")
}
