//! Who asks, and whether they may: every route passes through here.

use std::sync::Arc;

use axum::{
    extract::{RawPathParams, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use windlass_api::{ids::Namespace, validate::FieldError};
use windlass_core::access::{Caller, Need, authorise};

use super::{Api, loopback, peer::Peer};
use crate::error::Error;

/// Where requests come in, which says who sends them.
#[derive(Debug, Clone)]
pub(crate) enum Entrance {
    /// A loopback address, without certificates: whoever is on this machine may do everything.
    Loopback,
    /// A socket that only the server's owner can open.
    Local,
    /// Any address, encrypted: people have tokens, and agents certificates.
    Network,
    /// A door for tests.
    #[cfg(test)]
    For(Caller),
}

/// Names the caller of a request, or turns it away at the door.
pub(super) async fn enter(
    State((entrance, api)): State<(Entrance, Arc<Api>)>,
    mut request: Request,
    next: Next,
) -> Response {
    let caller = match entrance {
        Entrance::Loopback => {
            loopback::check(request.headers(), request.uri()).map(|()| Caller::Local)
        }
        Entrance::Local => Ok(Caller::Local),
        Entrance::Network => {
            let peer = request.extensions().get::<Peer>();
            let peer = peer.expect("the listener says for each connection what it showed");
            peer.caller(request.headers(), &api.handle.state(), api.handle.now())
        }
        #[cfg(test)]
        Entrance::For(caller) => Ok(caller),
    };
    match caller {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
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
