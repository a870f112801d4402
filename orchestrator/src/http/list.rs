//! Lists: selected, in order, page by page; and the watches that go on from them.

use std::sync::Arc;

use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, HeaderName},
    response::Response,
};
use schemars::JsonSchema;
use serde::Deserialize;
use windlass_api::{
    ids::{Namespace, Version},
    list::{PAGE_DEFAULT, PAGE_MAX},
    selector::Selector,
};
use windlass_core::{
    access::{Caller, Reach},
    cluster::Cluster,
};

use super::{
    Api,
    collection::Collection,
    page,
    parameters::{PathParameters, Query},
    watch,
};
use crate::error::Error;

/// The header with the `id` of the last event that a client got of a watch.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What a list or a watch is asked for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Only objects with these labels: `a=b,c!=d,e,!f`.
    #[schemars(with = "String")]
    label_selector: Option<String>,
    /// Only objects with these fields, written like labels.
    #[schemars(with = "String")]
    field_selector: Option<String>,
    /// The most objects of a page, up to 5,000. Default 500.
    #[schemars(with = "usize", range(min = 1, max = 5_000))]
    limit: Option<usize>,
    /// Where the page begins: `continue` of the page before.
    #[serde(rename = "continue")]
    #[schemars(with = "String")]
    after: Option<String>,
    /// Answer with server-sent events instead: each is a watch event, its `event` the type, its
    /// `data` the JSON, and its `id`, where it has one, a version from which a watch can go on.
    #[serde(default)]
    watch: bool,
    /// Watch what happened after this version. Absent: begin with a `put` for every object that
    /// exists, then a `bookmark`.
    #[schemars(with = "Version")]
    from: Option<Version>,
}

/// Which objects of a collection are wanted.
#[derive(Debug, Clone)]
pub(super) struct Selection {
    reach: Reach,
    namespace: Option<Namespace>,
    labels: Selector,
    fields: Selector,
}

impl Selection {
    fn new<C: Collection>(
        reach: Reach,
        namespace: Option<Namespace>,
        query: &ListQuery,
    ) -> Result<Self, Error> {
        let fields = selector("fieldSelector", query.field_selector.as_deref())?;
        if let Some(unknown) = fields.keys().find(|key| !C::FIELDS.contains(key)) {
            return Err(Error::malformed(format!(
                "the query is not understood: fieldSelector: there is no field `{unknown}`; the \
                 fields are {}",
                C::FIELDS.join(", ")
            )));
        }
        let labels = selector("labelSelector", query.label_selector.as_deref())?;
        Ok(Self {
            reach,
            namespace,
            labels,
            fields,
        })
    }

    /// The object with this key in `cluster`, if it is wanted.
    pub(super) fn find<C: Collection>(&self, cluster: &Cluster, key: &C::Key) -> Option<C::Object> {
        // Asked first, since it is much cheaper than making the object.
        let namespace = C::namespace(cluster, key);
        if self.namespace.is_some() && namespace != self.namespace.as_ref() {
            return None;
        }
        if !self.reach.shows(namespace) {
            return None;
        }
        let object = C::get(cluster, key)?;
        let wanted = self.labels.selects(|key| C::label(&object, key))
            && self.fields.selects(|key| C::field(&object, key));
        wanted.then_some(object)
    }
}

fn selector(parameter: &str, text: Option<&str>) -> Result<Selector, Error> {
    text.unwrap_or_default().parse().map_err(|error| {
        Error::malformed(format!("the query is not understood: {parameter}: {error}"))
    })
}

/// Lists a collection, or watches it.
pub(super) async fn list<C: Collection>(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    path: PathParameters,
    Query(query): Query<ListQuery>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let selection = Selection::new::<C>(caller.reach(), path.optional("namespace")?, &query)?;
    if query.watch {
        if query.limit.is_some() || query.after.is_some() {
            return Err(contradiction(
                "a watch has no pages: leave out `limit` and `continue`",
            ));
        }
        let from = last_event(&headers)?.or(query.from);
        return watch::open::<C>(&api, selection, from);
    }
    if query.from.is_some() {
        return Err(contradiction("`from` belongs to a watch: add `watch=true`"));
    }
    let limit = query.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(contradiction(&format!(
            "limit: from 1 to {PAGE_MAX}, not {limit}"
        )));
    }
    let after = query.after.as_deref().map(key_of::<C>).transpose()?;
    let page = page::page::<C>(&api.handle.state(), &selection, after, limit);
    page::answer(&api, &page)
}

/// The last event that the client of an earlier watch got: a browser repeats the request with it.
fn last_event(headers: &HeaderMap) -> Result<Option<Version>, Error> {
    let Some(value) = headers.get(LAST_EVENT_ID) else {
        return Ok(None);
    };
    let id = value.to_str().ok().and_then(|id| id.parse().ok());
    id.map(|id| Some(Version(id))).ok_or_else(|| {
        Error::malformed("the last-event-id header has to be the `id` of an event of a watch")
    })
}

fn contradiction(why: &str) -> Error {
    Error::malformed(format!("the query is not understood: {why}"))
}

fn key_of<C: Collection>(token: &str) -> Result<C::Key, Error> {
    token.parse().map_err(|_| {
        contradiction("continue: this is not the `continue` of a page of this collection")
    })
}
