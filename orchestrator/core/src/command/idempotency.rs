//! Requests that may be repeated: the same key leads to the same answer, once.

use std::sync::Arc;

use jiff::SignedDuration;
use windlass_api::{apply::Outcome, ids::WorkloadKey};

use super::Refusal;
use crate::{
    record::{Change, IdempotencyRecord},
    transaction::Transaction,
};

/// How long an answer is kept.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(24);
/// The most answers that are kept. One is about 100 bytes for each workload in the request.
const KEPT_MAX: usize = 1_000;
/// How many are forgotten at once, so that not every request has to look for the oldest.
const FORGOTTEN_AT_ONCE: usize = 100;
/// The longest key, in bytes.
pub const KEY_LEN_MAX: usize = 128;

/// What a request with this key led to, if there was one.
///
/// # Errors
/// If the key was used for another request.
pub fn recall(
    txn: &Transaction,
    key: &str,
    request: u64,
) -> Result<Option<Arc<IdempotencyRecord>>, Refusal> {
    let now = txn.now();
    let known = txn.cluster().idempotency.get(key);
    match known.filter(|record| now.duration_since(record.at) <= KEPT_FOR) {
        Some(record) if record.request == request => Ok(Some(Arc::clone(record))),
        Some(_) => Err(Refusal::KeyReused),
        None => Ok(None),
    }
}

/// Remembers what a request led to, and forgets the oldest ones beyond the bound.
pub fn remember(
    txn: &mut Transaction,
    key: String,
    request: u64,
    results: Vec<(WorkloadKey, Outcome)>,
) {
    let at = txn.now();
    let record = IdempotencyRecord {
        key: key.clone(),
        request,
        results,
        at,
    };
    txn.put(Change::Idempotency(key, Some(Arc::new(record))));
    if txn.cluster().idempotency.len() <= KEPT_MAX {
        return;
    }
    let mut by_age: Vec<_> = txn
        .cluster()
        .idempotency
        .values()
        .map(|r| (r.at, r.key.clone()))
        .collect();
    by_age.sort();
    for (_, key) in by_age.into_iter().take(FORGOTTEN_AT_ONCE) {
        txn.put(Change::Idempotency(key, None));
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use windlass_api::ids::ClusterId;

    use super::*;
    use crate::{cluster::Cluster, command::clock};

    fn transaction(now: &str) -> Transaction {
        Transaction::new(&Cluster::new(ClusterId(Uuid::nil())), now.parse().unwrap())
    }

    #[test]
    fn a_key_is_recalled_for_the_same_request_only() {
        let mut txn = transaction("2026-01-01T00:00:00Z");
        assert_eq!(recall(&txn, "k", 1), Ok(None));
        remember(
            &mut txn,
            "k".to_owned(),
            1,
            vec![("a/b".parse().unwrap(), Outcome::Created)],
        );
        assert_eq!(recall(&txn, "k", 1).unwrap().unwrap().results.len(), 1);
        assert_eq!(recall(&txn, "k", 2), Err(Refusal::KeyReused));
    }

    #[test]
    fn a_key_expires_after_a_day() {
        let mut txn = transaction("2026-01-01T00:00:00Z");
        remember(&mut txn, "k".to_owned(), 1, Vec::new());
        let later = Transaction::new(txn.cluster(), "2026-01-02T00:00:01Z".parse().unwrap());
        assert_eq!(recall(&later, "k", 2), Ok(None));
    }

    #[test]
    fn a_key_does_not_expire_because_the_clock_was_set() {
        let mut txn = transaction("2026-01-01T00:00:00Z");
        remember(&mut txn, "k".to_owned(), 1, Vec::new());
        let set = "2026-01-03T00:00:00Z".parse().unwrap();
        let mut later = Transaction::new(txn.cluster(), set);
        clock::set(&mut later, SignedDuration::from_hours(48));
        assert!(recall(&later, "k", 1).unwrap().is_some());
    }

    #[test]
    fn keys_are_bounded() {
        let mut txn = transaction("2026-01-01T00:00:00Z");
        for i in 0..3 * KEPT_MAX {
            remember(&mut txn, format!("k{i}"), 1, Vec::new());
        }
        assert!(txn.cluster().idempotency.len() <= KEPT_MAX);
    }
}
