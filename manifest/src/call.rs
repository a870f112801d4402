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
    native::Reading,
    node::Span,
    source::Source,
    text::{Mistake, Text},
    tree::{Budget, Documents},
};

struct Call<'a> {
    namespace: &'a Namespace,
    budget: Budget,
    /// How many resources there were, well formed or not.
    resources: usize,
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
        resources: 0,
        manifests: Vec::new(),
        errors: Vec::new(),
        defined: HashMap::new(),
    };
    for source in sources {
        if call.source(source) == Next::Stop {
            break;
        }
    }
    if call.resources == 0 {
        call.nothing(sources);
    }
    if call.errors.is_empty() {
        debug_assert_eq!(call.manifests.len(), call.resources, "a resource got lost");
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
            match document {
                Ok(document) => {
                    let readings = format::read(&document.root, self.namespace);
                    self.resources += readings.len();
                    if self.resources > RESOURCES_PER_CALL_MAX {
                        mistakes.push(too_many(document.root.span));
                        next = Next::Stop;
                        continue;
                    }
                    mistakes.extend(document.mistakes);
                    for reading in readings {
                        mistakes.extend(self.resource(&text, reading));
                    }
                }
                Err(mistake) => {
                    self.resources += 1;
                    mistakes.push(mistake);
                }
            }
            if documents.budget_is_spent() {
                next = Next::Stop;
            }
        }
        self.report(&text, mistakes);
        next
    }

    fn resource(&mut self, text: &Text<'_>, reading: Reading) -> Vec<Mistake> {
        let mut mistakes = reading.mistakes;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Manifest>, Errors> {
        let source = Source {
            name: "list.json".to_owned(),
            text: text.to_owned(),
        };
        parse(&[source], &Namespace::default())
    }

    fn web(name: &str) -> String {
        format!(r#"{{ "kind": "Service", "name": "{name}", "spec": {{ "image": "nginx" }} }}"#)
    }

    #[test]
    fn a_list_of_the_api_is_read_like_its_resources() {
        let list = format!(
            r#"{{ "items": [{}, {}], "version": 7 }}"#,
            web("a"),
            web("b")
        );
        let one = format!("{}\n---\n{}", web("a"), web("b"));
        assert_eq!(read(&list).unwrap(), read(&one).unwrap());
    }

    #[test]
    fn what_is_wrong_with_a_list_is_told() {
        for (list, says) in [
            (
                format!(r#"{{ "items": [{}, {}] }}"#, web("a"), web("a")),
                "there twice",
            ),
            (
                format!(r#"{{ "items": [{}], "continue": "default/a" }}"#, web("a")),
                "not the whole of it",
            ),
            (
                r#"{ "items": [{ "items": [] }] }"#.to_owned(),
                "a list is no resource",
            ),
            (r#"{ "items": [{ "name": "n1" }] }"#.to_owned(), "kind"),
            (r#"{ "items": [] }"#.to_owned(), "no resources"),
        ] {
            let errors = read(&list).unwrap_err();
            assert!(errors.to_string().contains(says), "{list}: {errors}");
        }
        let many: Vec<_> = (0..=RESOURCES_PER_CALL_MAX)
            .map(|i| web(&format!("w{i}")))
            .collect();
        let errors = read(&format!(r#"{{ "items": [{}] }}"#, many.join(","))).unwrap_err();
        assert!(errors.to_string().contains("more than"), "{errors}");
    }
}
