//! Tokens: making and revoking them, and letting nodes in with them.

use std::{collections::BTreeSet, sync::Arc};

use windlass_api::{
    access::{TokenRequest, TokenUse},
    duration::Span,
    event::Subject,
    ids::{AdmissionId, NodeName, TokenHash, TokenId},
    validate::FieldError,
};

use super::{Refusal, note};
use crate::{
    access::Denied,
    record::{AdmissionRecord, Change, TokenRecord},
    transaction::Transaction,
};

/// The most tokens at a time: a few for each person and program of a large site. Those that have
/// expired make room.
pub const TOKENS_MAX: usize = 1_000;
/// The longest description, in characters.
const DESCRIPTION_LEN_MAX: usize = 200;
/// The most namespaces that a token names. More of them are what roles are for.
const NAMESPACES_MAX: usize = 100;
/// How long a token to join with is good: as long as somebody needs who sets up machines.
const JOIN_WITHIN: Span = Span::from_secs(3_600);
/// How long others are good.
const ACCESS_FOR: Span = Span::from_secs(90 * 24 * 3_600);

/// Makes a token.
///
/// # Errors
/// It makes no sense, or there are too many.
pub fn create(
    txn: &mut Transaction,
    hash: TokenHash,
    request: &TokenRequest,
) -> Result<(), Refusal> {
    let errors = mistakes(request);
    if !errors.is_empty() {
        return Err(Refusal::Invalid(errors));
    }
    forget_expired(txn);
    if txn.cluster().tokens.len() >= TOKENS_MAX {
        return Err(Refusal::Conflict(format!(
            "there are {TOKENS_MAX} tokens already: revoke some"
        )));
    }
    if txn.cluster().tokens.contains_key(&hash.id()) {
        return Err(Refusal::Conflict(
            "another token has the same name by chance: try again".to_owned(),
        ));
    }
    let usual = match request.usage {
        TokenUse::Join { .. } => JOIN_WITHIN,
        TokenUse::Access { .. } => ACCESS_FOR,
    };
    let good_for = request.expires_in.unwrap_or(usual);
    let expires_at = txn.now().checked_add(good_for.as_std());
    let record = TokenRecord {
        hash,
        usage: request.usage.clone(),
        description: request.description.clone(),
        created_at: txn.now(),
        expires_at: expires_at.map_err(|_| too_long())?,
        version: txn.version(),
    };
    txn.put(Change::Token(hash.id(), Some(Arc::new(record))));
    Ok(())
}

fn too_long() -> Refusal {
    Refusal::Invalid(vec![FieldError::new("expiresIn", "too long")])
}

fn mistakes(request: &TokenRequest) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let description = &request.description;
    if description.chars().count() > DESCRIPTION_LEN_MAX {
        let message = format!("at most {DESCRIPTION_LEN_MAX} characters");
        errors.push(FieldError::new("description", message));
    }
    if description.contains(char::is_control) {
        errors.push(FieldError::new("description", "one line of text"));
    }
    if request.expires_in.is_some_and(|span| span.is_zero()) {
        errors.push(FieldError::new("expiresIn", "more than nothing"));
    }
    if let TokenUse::Access {
        namespaces: Some(namespaces),
        ..
    } = &request.usage
        && !(1..=NAMESPACES_MAX).contains(&namespaces.len())
    {
        let message = format!("between 1 and {NAMESPACES_MAX}; leave it out for all of them");
        errors.push(FieldError::new("use.namespaces", message));
    }
    errors
}

/// Revokes a token. Whoever has it is nobody from then on.
///
/// # Errors
/// There is none of that name.
pub fn revoke(txn: &mut Transaction, id: &TokenId) -> Result<(), Refusal> {
    if !txn.cluster().tokens.contains_key(id) {
        return Err(Refusal::NotFound {
            what: format!("token {id}"),
        });
    }
    txn.put(Change::Token(id.clone(), None));
    Ok(())
}

/// Lets a node in. The token is worth nothing after that.
///
/// # Errors
/// The token is not good for it, or the node is in already.
pub fn admit(
    txn: &mut Transaction,
    hash: TokenHash,
    name: &NodeName,
    admission: AdmissionId,
) -> Result<(), Refusal> {
    let record = txn.cluster().tokens.get(&hash.id()).cloned();
    let record = record.filter(|record| record.hash == hash);
    let record = record.ok_or(Refusal::Denied(Denied::NoSuchToken))?;
    if record.expires_at <= txn.now() {
        return Err(Refusal::Denied(Denied::TokenExpired(record.expires_at)));
    }
    let TokenUse::Join { node: meant } = &record.usage else {
        return Err(Refusal::Denied(Denied::NotAJoinToken));
    };
    if let Some(meant) = meant.as_ref().filter(|meant| *meant != name) {
        return Err(Refusal::Denied(Denied::OtherNode(meant.clone())));
    }
    let cluster = txn.cluster();
    let removed = cluster
        .nodes
        .get(name)
        .is_some_and(|node| node.is_removed());
    if meant.is_none() && !removed && cluster.admissions.contains_key(name) {
        return Err(Refusal::Conflict(format!(
            "there is a node {name} already: choose another name, remove that node, or join with a \
             token that was made for it (`windlass token create --join {name}`)"
        )));
    }
    txn.put(Change::Token(hash.id(), None));
    let record = AdmissionRecord {
        id: admission,
        at: txn.now(),
    };
    txn.put(Change::Admission(name.clone(), Some(Arc::new(record))));
    let message = format!("it joined with the token {}", hash.id());
    note(txn, Subject::node(name), "Admitted", message);
    Ok(())
}

fn forget_expired(txn: &mut Transaction) {
    let now = txn.now();
    let tokens = txn.cluster().tokens.iter();
    let expired: BTreeSet<TokenId> = tokens
        .filter(|(_, record)| record.expires_at <= now)
        .map(|(id, _)| id.clone())
        .collect();
    for id in expired {
        txn.put(Change::Token(id, None));
    }
}

#[cfg(test)]
mod tests;
