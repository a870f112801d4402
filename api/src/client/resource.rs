//! What can be listed and watched, and how a part of it is selected.

use std::fmt::{Display, Write};

use serde::de::DeserializeOwned;

use crate::{
    event::Event,
    ids::Namespace,
    resource::{Instance, Node, Workload},
    selector::Selector,
};

/// An object that the API lists.
pub trait Resource: DeserializeOwned {
    /// The name of the collection, as it stands in paths.
    const COLLECTION: &'static str;

    /// The object's name as [`crate::list::WatchEvent::Delete`] gives it.
    fn full_name(&self) -> String;
}

impl Resource for Workload {
    const COLLECTION: &'static str = "workloads";
    fn full_name(&self) -> String {
        self.manifest.key().to_string()
    }
}

impl Resource for Instance {
    const COLLECTION: &'static str = "instances";
    fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

impl Resource for Node {
    const COLLECTION: &'static str = "nodes";
    fn full_name(&self) -> String {
        self.name.to_string()
    }
}

impl Resource for Event {
    const COLLECTION: &'static str = "events";
    fn full_name(&self) -> String {
        match self.subject.namespace() {
            Some(namespace) => format!("{namespace}/{}", self.id),
            None => self.id.to_string(),
        }
    }
}

/// Which objects of a collection are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Those of one namespace; absent: of all.
    pub namespace: Option<Namespace>,
    /// Those with these labels.
    pub labels: Selector,
    /// Those with these fields.
    pub fields: Selector,
}

impl Selection {
    /// Everything in the cluster.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Everything in a namespace.
    #[must_use]
    pub fn of(namespace: &Namespace) -> Self {
        Self {
            namespace: Some(namespace.clone()),
            ..Self::default()
        }
    }

    /// The same, where the field `key` has this value.
    #[must_use]
    pub fn field(mut self, key: &str, value: impl Display) -> Self {
        let condition = format!("{key}={value}");
        let text = if self.fields.is_empty() {
            condition
        } else {
            format!("{},{condition}", self.fields)
        };
        self.fields = text
            .parse()
            .expect("the fields that the API knows are keys of selectors");
        self
    }

    pub(super) fn path<T: Resource>(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("/v1/{}/{namespace}", T::COLLECTION),
            None => format!("/v1/{}", T::COLLECTION),
        }
    }

    pub(super) fn query(&self) -> Query {
        let mut query = Query::default();
        if !self.labels.is_empty() {
            query.push("labelSelector", &self.labels);
        }
        if !self.fields.is_empty() {
            query.push("fieldSelector", &self.fields);
        }
        query
    }
}

/// The query of a URL.
#[derive(Debug, Clone, Default)]
pub(super) struct Query(String);

impl Query {
    /// Adds a parameter; `value` may hold any character.
    pub(super) fn push(&mut self, key: &str, value: impl Display) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(key);
        self.0.push('=');
        for byte in value.to_string().bytes() {
            // RFC 3986, section 2.3: these stand for themselves everywhere.
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                self.0.push(char::from(byte));
            } else {
                write!(self.0, "%{byte:02X}").expect("writing to a string cannot fail");
            }
        }
    }

    pub(super) fn appended_to(&self, path: &str) -> String {
        if self.0.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{}", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_survives_any_character() {
        let mut query = Query::default();
        query.push("labelSelector", "app=a b,!x");
        query.push("continue", "ü&=");
        assert_eq!(
            query.appended_to("/v1/nodes"),
            "/v1/nodes?labelSelector=app%3Da%20b%2C%21x&continue=%C3%BC%26%3D"
        );
    }

    #[test]
    fn fields_add_up() {
        let selection = Selection::of(&Namespace::default())
            .field("name", "web")
            .field("kind", 1);
        assert_eq!(selection.fields.to_string(), "name=web,kind=1");
        assert_eq!(selection.path::<Workload>(), "/v1/workloads/default");
    }
}
