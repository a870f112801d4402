//! Pages of lists, bounded in bytes as well as in number: objects differ in size by a factor of a
//! thousand, and a client that reads slowly keeps its page in the server's memory.

use std::sync::Arc;

use axum::{
    body::Body,
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::OwnedSemaphorePermit;
use windlass_api::{list::List, problem::Code};
use windlass_core::cluster::Cluster;

use super::{Api, collection::Collection, list::Selection};
use crate::error::Error;

/// The most bytes of a page, unless its only object is larger. About 2,000 workloads.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// The most KiB of pages that wait in memory for their readers: sixteen of the largest.
pub(super) const UNREAD_KIB_MAX: usize = 64 << 10;
/// How much of a page is handed over at a time, in bytes.
const PIECE_BYTES: usize = 64 << 10;

/// A page: the first `limit` wanted objects after `after`, or fewer if they are large.
pub(super) fn page<C: Collection>(
    cluster: &Cluster,
    selection: &Selection,
    after: Option<C::Key>,
    limit: usize,
) -> List<Box<RawValue>> {
    let mut items: Vec<Box<RawValue>> = Vec::new();
    let mut bytes = 0;
    let mut last = None;
    let mut next = None;
    for key in C::keys(cluster, after.as_ref()) {
        let Some(object) = selection.find::<C>(cluster, key) else {
            continue;
        };
        let object = to_raw_value(&object).expect("the API's types are valid JSON");
        bytes += object.get().len();
        if items.len() == limit || (bytes > PAGE_BYTES_MAX && !items.is_empty()) {
            // There is more: the next page begins after the last object of this one.
            next = last.map(ToString::to_string);
            break;
        }
        items.push(object);
        last = Some(key);
    }
    List {
        items,
        version: cluster.version,
        next,
    }
}

/// The page as a response, which counts until it was read.
pub(super) fn answer(api: &Arc<Api>, page: &List<Box<RawValue>>) -> Result<Response, Error> {
    let json = serde_json::to_vec(page).expect("the API's types are valid JSON");
    let kib = u32::try_from(json.len().div_ceil(1024)).unwrap_or(u32::MAX);
    let permit = Arc::clone(&api.unread)
        .try_acquire_many_owned(kib)
        .map_err(|_| {
            let detail = "too many large answers wait to be read: try again in a moment";
            Error::new(Code::Overloaded, detail)
        })?;
    let unread = Unread {
        json: json.into(),
        _permit: permit,
    };
    // In pieces, since the last one is asked for only when those before it were sent.
    let pieces = stream::unfold(unread, |mut unread| async {
        let piece = unread.json.split_to(PIECE_BYTES.min(unread.json.len()));
        (!piece.is_empty()).then_some((Ok::<_, std::convert::Infallible>(piece), unread))
    });
    let headers = [(header::CONTENT_TYPE, "application/json")];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// What was not sent of a page.
struct Unread {
    json: Bytes,
    _permit: OwnedSemaphorePermit,
}
