//! One operation of the API: its route, its documentation and its handler, in one value.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    BoxError, Router,
    error_handling::HandleErrorLayer,
    extract::Request,
    handler::Handler,
    http::{Method, StatusCode},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use tokio::sync::Semaphore;
use tower::{
    ServiceBuilder, limit::GlobalConcurrencyLimitLayer, load_shed, timeout::error::Elapsed,
};
use tower_http::limit::RequestBodyLimitLayer;
use windlass_api::problem::Code;
use windlass_core::access::Need;

use super::{Api, access, parameters::NoQuery};
use crate::error::Error;

/// How many plain requests that read may be worked on at a time, and how many that write: apart,
/// so that writers who are slow to send what they have keep nobody from looking. They wait for a
/// disk at most, which a batch of all of them shares, so more would only be memory: 64 bodies of
/// 1 MiB.
pub(super) const REQUESTS_MAX: usize = 64;
/// How long a plain request may take, its body included.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// The largest body of a request, in bytes, where it is read as a whole: 500 workloads of 2 KB
/// each, and a bound on what a request can cost.
pub(super) const BODY_BYTES_MAX: usize = 1 << 20;

/// Makes the schema of a type, and of those in it.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// One operation of the API.
pub(super) struct Operation {
    /// What whoever asks for it needs. There is no operation without it.
    pub(super) need: Need,
    pub(super) method: Method,
    pub(super) path: &'static str,
    /// The name of the operation for generated clients.
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    /// The parameters in the query, as the properties of a schema.
    pub(super) query: Option<SchemaOf>,
    pub(super) headers: Vec<RequestHeader>,
    pub(super) body: Option<RequestBody>,
    pub(super) answers: Vec<Answer>,
    budget: Budget,
    handler: MethodRouter<Arc<Api>>,
}

/// A header that an operation looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestHeader {
    IfMatch,
    IfNoneMatch,
    IdempotencyKey,
    LastEventId,
}

/// What an operation takes.
#[derive(Clone, Copy)]
pub(super) enum RequestBody {
    /// JSON, which is read as a whole.
    Json(SchemaOf),
    /// Bytes of this media type, however many: they are passed on as they come.
    Stream(&'static str),
}

/// An answer that is not an error.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) description: &'static str,
    /// The media type and the schema of what is in it.
    pub(super) content: Vec<(&'static str, SchemaOf)>,
}

/// What bounds an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Budget {
    /// It is one of [`REQUESTS_MAX`], and ends within [`REQUEST_LIMIT`].
    Plain,
    /// It is bounded in its own way, or costs next to nothing and has to be answered under load.
    Own,
}

impl Operation {
    /// An operation that promises nothing: one that changes something cannot be repeated to the same
    /// effect.
    pub(super) fn new<H, T>(
        need: Need,
        method: Method,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Arc<Api>>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).expect("the API uses known methods");
        Self {
            need,
            method,
            path,
            id,
            summary,
            query: None,
            headers: Vec::new(),
            body: None,
            answers: Vec::new(),
            budget: Budget::Plain,
            handler: on(filter, handler),
        }
    }

    /// An operation that reads.
    pub(super) fn get<H, T>(
        need: Need,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Arc<Api>>,
        T: 'static,
    {
        Self::new(need, Method::GET, path, id, summary, handler)
    }

    /// An operation that changes something: it can be repeated with an idempotency key.
    pub(super) fn write<H, T>(
        need: Need,
        method: Method,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Arc<Api>>,
        T: 'static,
    {
        Self::new(need, method, path, id, summary, handler).header(RequestHeader::IdempotencyKey)
    }

    /// An operation that takes bytes of this media type, however many, and deals with them as they
    /// come. It has its own budget.
    pub(super) fn upload<H, T>(
        need: Need,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        handler: H,
        media_type: &'static str,
    ) -> Self
    where
        H: Handler<T, Arc<Api>>,
        T: 'static,
    {
        Self {
            body: Some(RequestBody::Stream(media_type)),
            ..Self::new(need, Method::PUT, path, id, summary, handler).with_own_budget()
        }
    }

    /// It takes these parameters in the query; without this, none.
    pub(super) fn query<Q: JsonSchema>(mut self) -> Self {
        self.query = Some(Q::json_schema);
        self
    }

    /// It looks at this header.
    pub(super) fn header(mut self, header: RequestHeader) -> Self {
        self.headers.push(header);
        self
    }

    /// It takes this as JSON.
    pub(super) fn body<B: JsonSchema>(mut self) -> Self {
        self.body = Some(RequestBody::Json(|generator| {
            generator.subschema_for::<B>()
        }));
        self
    }

    /// It can answer with this as JSON.
    pub(super) fn answers<A: JsonSchema>(
        self,
        status: StatusCode,
        description: &'static str,
    ) -> Self {
        self.answers_as::<A>(status, description, "application/json")
    }

    /// It can answer with this. For the same status, another form of the answer.
    pub(super) fn answers_as<A: JsonSchema>(
        mut self,
        status: StatusCode,
        description: &'static str,
        media_type: &'static str,
    ) -> Self {
        let content: (_, SchemaOf) = (media_type, |generator| generator.subschema_for::<A>());
        match self
            .answers
            .iter_mut()
            .find(|answer| answer.status == status)
        {
            Some(answer) => answer.content.push(content),
            None => self.answers.push(Answer {
                status,
                description,
                content: vec![content],
            }),
        }
        self
    }

    /// It can answer without content.
    pub(super) fn answers_empty(mut self, status: StatusCode, description: &'static str) -> Self {
        self.answers.push(Answer {
            status,
            description,
            content: Vec::new(),
        });
        self
    }

    /// It is not one of the bounded number of plain requests.
    pub(super) fn with_own_budget(mut self) -> Self {
        self.budget = Budget::Own;
        self
    }

    fn route(self, requests: &Requests) -> MethodRouter<Arc<Api>> {
        let requests = if self.method.is_safe() {
            &requests.reads
        } else {
            &requests.writes
        };
        let handler = match self.query {
            Some(_) => self.handler,
            None => self.handler.layer(from_fn(without_query)),
        };
        let handler = match self.body {
            Some(RequestBody::Stream(_)) => handler,
            Some(RequestBody::Json(_)) | None => {
                handler.layer(RequestBodyLimitLayer::new(BODY_BYTES_MAX))
            }
        };
        let handler = match self.budget {
            Budget::Own => handler,
            Budget::Plain => handler.layer(
                ServiceBuilder::new()
                    .layer(HandleErrorLayer::new(turned_away))
                    .timeout(REQUEST_LIMIT)
                    .load_shed()
                    .layer(GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(
                        requests,
                    ))),
            ),
        };
        // Outermost: who may not do it holds nothing up, and is told nothing about it.
        handler.layer(from_fn_with_state(self.need, access::admit))
    }
}

/// The plain requests that may still be taken.
struct Requests {
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
}

impl Default for Requests {
    fn default() -> Self {
        let free = || Arc::new(Semaphore::new(REQUESTS_MAX));
        Self {
            reads: free(),
            writes: free(),
        }
    }
}

/// The routes of these operations, and of nothing else.
pub(super) fn routes(operations: Vec<Operation>) -> Router<Arc<Api>> {
    let requests = Requests::default();
    let mut paths: BTreeMap<&'static str, MethodRouter<Arc<Api>>> = BTreeMap::new();
    for operation in operations {
        let path = operation.path;
        let route = operation.route(&requests);
        let merged = match paths.remove(path) {
            Some(others) => others.merge(route),
            None => route,
        };
        paths.insert(path, merged);
    }
    paths
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| {
            router.route(path, methods.fallback(no_method))
        })
}

/// The answer where no operation has the path.
pub(super) async fn no_route(request: Request) -> Error {
    let path: String = request.uri().path().chars().take(120).collect();
    let detail = format!("there is no route `{path}`; /openapi.json has all that there are");
    Error::new(Code::NoRoute, detail)
}

/// The answer where an operation has the path, but not with this method.
async fn no_method(request: Request) -> Error {
    let detail = format!(
        "this route does not take {}; the `allow` header says what it takes",
        request.method()
    );
    Error::new(Code::NoRoute, detail).with_status(StatusCode::METHOD_NOT_ALLOWED)
}

async fn without_query(_: NoQuery, request: Request, next: Next) -> Response {
    next.run(request).await
}

/// A plain request that the bounds did not let through, or cut off.
async fn turned_away(error: BoxError) -> Response {
    if error.is::<Elapsed>() {
        let detail = format!(
            "the request took more than {} s, and may still be carried out: look, or repeat it \
             with the same idempotency key",
            REQUEST_LIMIT.as_secs()
        );
        return Error::new(Code::Timeout, detail).into_response();
    }
    if error.is::<load_shed::error::Overloaded>() {
        let detail = format!("{REQUESTS_MAX} requests are being worked on: try again in a moment");
        return Error::new(Code::Overloaded, detail).into_response();
    }
    tracing::error!(error = %error, "a request failed in a layer");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}
