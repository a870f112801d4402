//! Who asks, and whether they may: every route passes through here.

use axum::{
    extract::{RawPathParams, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use windlass_api::{ids::Namespace, problem::Code, validate::FieldError};
use windlass_core::access::{Caller, Denied, Need, authorise};

use super::loopback;
use crate::error::Error;

/// Where requests come in, which says who sends them.
#[derive(Debug, Clone)]
pub(super) enum Entrance {
    /// A loopback address, without certificates: whoever is on this machine may do everything.
    Loopback,
    /// A door for tests.
    #[cfg(test)]
    For(Caller),
}

/// Names the caller of a request, or turns it away at the door.
pub(super) async fn enter(
    State(entrance): State<Entrance>,
    mut request: Request,
    next: Next,
) -> Response {
    let caller = match entrance {
        Entrance::Loopback => {
            if let Err(error) = loopback::check(request.headers(), request.uri()) {
                return error.into_response();
            }
            Caller::Local
        }
        #[cfg(test)]
        Entrance::For(caller) => caller,
    };
    request.extensions_mut().insert(caller);
    next.run(request).await
}

/// Lets a request through if its caller may do what it asks for. Handlers find the [`Caller`] in
/// its extensions.
pub(super) async fn admit(
    State(need): State<Need>,
    path: RawPathParams,
    request: Request,
    next: Next,
) -> Response {
    // Whoever an entrance has not named is nobody.
    let caller = request.extensions().get().unwrap_or(&Caller::Nobody);
    let judged =
        namespace(&path).and_then(|namespace| Ok(authorise(caller, need, namespace.as_ref())?));
    match judged {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// The namespace that a path names, if it names one.
fn namespace(path: &RawPathParams) -> Result<Option<Namespace>, Error> {
    let named = path.iter().find(|(key, _)| *key == "namespace");
    let Some((key, text)) = named else {
        return Ok(None);
    };
    text.parse()
        .map(Some)
        .map_err(|error: windlass_api::ids::NameError| {
            let error = FieldError::new(key, error.to_string());
            Error::malformed(format!("the path has a bad name: {error}"))
        })
}

impl From<Denied> for Error {
    fn from(denied: Denied) -> Self {
        let code = match denied {
            Denied::Unknown => Code::Unauthenticated,
            Denied::Role { .. }
            | Denied::Namespace(_)
            | Denied::Cluster
            | Denied::NotAnAgent
            | Denied::IsAnAgent
            | Denied::Expired(_) => Code::Forbidden,
        };
        Self::new(code, denied.to_string())
    }
}
