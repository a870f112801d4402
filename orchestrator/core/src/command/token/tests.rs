use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;
use windlass_api::{
    access::Role,
    ids::{ClusterId, DIGEST_BYTES, Namespace},
};

use super::*;
use crate::{
    access::{AgentCaller, Caller, Holds, Person, Reach, Shown, identify, renewable},
    cluster::Cluster,
    command::{Force, agent, remove_node},
};

const HOUR: Duration = Duration::from_hours(1);

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn begin() -> Transaction {
    Transaction::new(&Cluster::new(ClusterId(Uuid::nil())), now())
}

fn later(txn: &Transaction, by: Duration) -> Transaction {
    Transaction::new(txn.cluster(), txn.now() + by)
}

fn hash(n: u32) -> TokenHash {
    let mut bytes = [7; DIGEST_BYTES];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    TokenHash(bytes)
}

fn request(usage: TokenUse) -> TokenRequest {
    TokenRequest {
        usage,
        description: "for the tests".to_owned(),
        expires_in: None,
    }
}

fn join() -> TokenRequest {
    request(TokenUse::Join { node: None })
}

fn join_as(node: &str) -> TokenRequest {
    let node = Some(node.parse().unwrap());
    request(TokenUse::Join { node })
}

fn access(role: Role, namespaces: Option<&[&str]>) -> TokenRequest {
    let namespaces = namespaces.map(|names| names.iter().map(|n| n.parse().unwrap()).collect());
    request(TokenUse::Access { role, namespaces })
}

fn admission(n: u128) -> AdmissionId {
    AdmissionId(Uuid::from_u128(n))
}

fn edge() -> NodeName {
    "edge-1".parse().unwrap()
}

fn with(token: TokenHash) -> Shown {
    Shown {
        token: Some(token),
        certificate: None,
    }
}

fn by(name: &NodeName, admission: AdmissionId) -> Shown {
    Shown {
        token: None,
        certificate: Some(AgentCaller {
            node: name.clone(),
            admission,
            certificate: Holds::Yes,
        }),
    }
}

#[test]
fn a_token_makes_its_owner_somebody_until_it_expires_or_is_revoked() {
    let mut txn = begin();
    create(&mut txn, hash(1), &access(Role::Operator, Some(&["shop"]))).unwrap();
    let expected = Caller::Person(Person {
        token: hash(1).id(),
        role: Role::Operator,
        reach: Reach::Namespaces(["shop".parse::<Namespace>().unwrap()].into()),
    });
    let days = |n: u32| now() + HOUR * 24 * n;
    let identified = |txn: &Transaction, at| identify(txn.cluster(), &with(hash(1)), at);
    assert_eq!(identified(&txn, days(0)), Ok(expected.clone()));
    assert_eq!(identified(&txn, days(89)), Ok(expected));
    let expired = Err(Denied::TokenExpired(days(90)));
    assert_eq!(identified(&txn, days(90)), expired);
    assert_eq!(
        identify(txn.cluster(), &with(hash(2)), now()),
        Err(Denied::NoSuchToken)
    );
    revoke(&mut txn, &hash(1).id()).unwrap();
    assert_eq!(identified(&txn, days(0)), Err(Denied::NoSuchToken));
    assert!(matches!(
        revoke(&mut txn, &hash(1).id()),
        Err(Refusal::NotFound { .. })
    ));
}

#[test]
fn another_token_of_the_same_name_is_not_the_same_token() {
    let mut txn = begin();
    create(&mut txn, hash(1), &access(Role::Admin, None)).unwrap();
    let mut twin = hash(1);
    twin.0[DIGEST_BYTES - 1] ^= 1;
    assert_eq!(twin.id(), hash(1).id());
    assert_eq!(
        identify(txn.cluster(), &with(twin), now()),
        Err(Denied::NoSuchToken)
    );
    assert!(matches!(
        create(&mut txn, twin, &join()),
        Err(Refusal::Conflict(_))
    ));
    let mut txn = begin();
    create(&mut txn, hash(1), &join()).unwrap();
    let refused = admit(&mut txn, twin, &edge(), admission(1));
    assert_eq!(refused, Err(Refusal::Denied(Denied::NoSuchToken)));
}

#[test]
fn a_node_joins_once_with_a_token_within_an_hour() {
    let mut txn = begin();
    create(&mut txn, hash(1), &join()).unwrap();
    assert_eq!(
        identify(txn.cluster(), &with(hash(1)), now()),
        Err(Denied::JoinToken)
    );
    let mut late = later(&txn, HOUR);
    let refused = admit(&mut late, hash(1), &edge(), admission(1));
    assert_eq!(
        refused,
        Err(Refusal::Denied(Denied::TokenExpired(now() + HOUR)))
    );
    admit(&mut txn, hash(1), &edge(), admission(1)).unwrap();
    let agent = identify(txn.cluster(), &by(&edge(), admission(1)), now()).unwrap();
    assert!(matches!(agent, Caller::Agent(agent) if agent.node == edge()));
    let again = admit(&mut txn, hash(1), &"edge-2".parse().unwrap(), admission(2));
    assert_eq!(again, Err(Refusal::Denied(Denied::NoSuchToken)));
}

#[test]
fn nobody_joins_with_a_token_for_the_api() {
    let mut txn = begin();
    create(&mut txn, hash(1), &access(Role::Admin, None)).unwrap();
    let refused = admit(&mut txn, hash(1), &edge(), admission(1));
    assert_eq!(refused, Err(Refusal::Denied(Denied::NotAJoinToken)));
}

#[test]
fn a_node_takes_no_others_place_unless_its_token_says_so() {
    let mut txn = begin();
    for n in 1..=4 {
        create(&mut txn, hash(n), &join()).unwrap();
    }
    admit(&mut txn, hash(1), &edge(), admission(1)).unwrap();
    // A stolen token does not make its thief a node that is there already.
    let refused = admit(&mut txn, hash(2), &edge(), admission(2));
    assert!(matches!(refused, Err(Refusal::Conflict(_))), "{refused:?}");
    identify(txn.cluster(), &by(&edge(), admission(1)), now()).unwrap();
    // One that was made for it does, and then the certificates from before are worth nothing.
    create(&mut txn, hash(9), &join_as("edge-1")).unwrap();
    let other = admit(&mut txn, hash(9), &"edge-2".parse().unwrap(), admission(9));
    assert_eq!(other, Err(Refusal::Denied(Denied::OtherNode(edge()))));
    admit(&mut txn, hash(9), &edge(), admission(9)).unwrap();
    identify(txn.cluster(), &by(&edge(), admission(9)), now()).unwrap();
    let old = identify(txn.cluster(), &by(&edge(), admission(1)), now());
    assert_eq!(old, Err(Denied::NotAdmitted(edge())));
}

#[test]
fn a_node_that_was_removed_renews_nothing_and_may_join_again() {
    let mut txn = begin();
    create(&mut txn, hash(1), &join()).unwrap();
    create(&mut txn, hash(2), &join()).unwrap();
    admit(&mut txn, hash(1), &edge(), admission(1)).unwrap();
    let mut hello = super::super::tests::hello(1);
    hello.node = edge();
    agent::hello(&mut txn, &hello).unwrap();
    let caller = |n| AgentCaller {
        node: edge(),
        admission: admission(n),
        certificate: Holds::ForRenewal,
    };
    assert_eq!(renewable(txn.cluster(), &caller(1)), Ok(()));
    remove_node(&mut txn, &edge(), Force::No, None).unwrap();
    assert_eq!(
        renewable(txn.cluster(), &caller(1)),
        Err(Denied::NotAdmitted(edge()))
    );
    admit(&mut txn, hash(2), &edge(), admission(2)).unwrap();
    let old = identify(txn.cluster(), &by(&edge(), admission(1)), now());
    assert_eq!(old, Err(Denied::NotAdmitted(edge())));
}

#[test]
fn a_certificate_without_an_admission_is_worth_nothing() {
    let shown = by(&edge(), admission(1));
    let denied = identify(begin().cluster(), &shown, now());
    assert_eq!(denied, Err(Denied::NotAdmitted(edge())));
    assert_eq!(
        identify(begin().cluster(), &Shown::default(), now()),
        Ok(Caller::Nobody)
    );
}

#[test]
fn tokens_are_bounded_and_expired_ones_make_room() {
    let mut txn = begin();
    for n in 0..TOKENS_MAX as u32 {
        create(&mut txn, hash(n), &join()).unwrap();
    }
    let refused = create(&mut txn, hash(1_000_000), &join());
    assert!(matches!(refused, Err(Refusal::Conflict(_))), "{refused:?}");
    let mut txn = later(&txn, HOUR);
    create(&mut txn, hash(1_000_000), &join()).unwrap();
    assert_eq!(txn.cluster().tokens.len(), 1);
}

#[test]
fn what_makes_no_sense_is_refused_with_its_field() {
    let refused = |request: &TokenRequest| -> Vec<String> {
        match create(&mut begin(), hash(1), request) {
            Err(Refusal::Invalid(errors)) => errors.into_iter().map(|error| error.path).collect(),
            other => panic!("{other:?}"),
        }
    };
    let none = access(Role::Viewer, Some(&[]));
    assert_eq!(refused(&none), ["use.namespaces"]);
    let long = TokenRequest {
        description: "x".repeat(201),
        expires_in: Some(Span::from_secs(0)),
        ..join()
    };
    assert_eq!(refused(&long), ["description", "expiresIn"]);
    let lines = TokenRequest {
        description: "a\nb".to_owned(),
        ..join()
    };
    assert_eq!(refused(&lines), ["description"]);
}
