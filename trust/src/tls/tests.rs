use std::io;

use rustls::{ClientConnection, ServerConnection, time_provider::TimeProvider};
use windlass_api::ids::{AdmissionId, ClusterId};

use super::*;
use crate::{
    authority::{Authority, Host, PrivateKey, Validity},
    certificate::to_pem,
    subject::{Role, Subject},
};

const DAY: Duration = Duration::from_hours(24);
const WEEK: Duration = Duration::from_hours(7 * 24);

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn for_a_week() -> Validity {
    Validity {
        from: now(),
        lifetime: WEEK,
    }
}

fn cluster() -> ClusterId {
    "0190b8a0-0000-7000-8000-000000000001".parse().unwrap()
}

fn edge() -> Subject {
    let role = Role::Node {
        name: "edge-1".parse().unwrap(),
        admission: "0190b8a0-0000-7000-8000-000000000002"
            .parse::<AdmissionId>()
            .unwrap(),
    };
    Subject {
        cluster: cluster(),
        role,
    }
}

fn authority() -> Authority {
    Authority::create(now()).unwrap()
}

/// The key and certificate of a node.
fn node(authority: &Authority, validity: Validity) -> Arc<CertifiedKey> {
    let key = PrivateKey::generate().unwrap();
    let certificate = authority.agent(&key.request().unwrap(), &edge(), validity);
    key.certified(vec![certificate.unwrap()]).unwrap()
}

fn server_of(authority: &Authority, trusted: &Authority) -> Arc<ServerConfig> {
    let key = authority.server(cluster(), &[], for_a_week()).unwrap();
    server(key, &[trusted.certificate().clone()]).unwrap()
}

fn client_of(key: Option<Arc<CertifiedKey>>, trusted: &Authority) -> Arc<ClientConfig> {
    client(key, &[trusted.certificate().clone()]).unwrap()
}

#[derive(Debug)]
struct At(Timestamp);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        let second = self.0.as_second().try_into().unwrap();
        Some(UnixTime::since_unix_epoch(Duration::from_secs(second)))
    }
}

/// Shakes hands at a moment, and tells whom the server then speaks with.
fn shake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    at: Timestamp,
) -> Result<Option<Certificate>, rustls::Error> {
    let mut client = ClientConfig::clone(client);
    client.time_provider = Arc::new(At(at));
    let mut server = ServerConfig::clone(server);
    server.time_provider = Arc::new(At(at));
    let mut client = ClientConnection::new(Arc::new(client), server_name()).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    // What each has to say is bounded: a few flights.
    for _ in 0..10 {
        pass(&mut client, &mut server)?;
        pass(&mut server, &mut client)?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    let shown = server.peer_certificates();
    Ok(shown.map(|chain| Certificate::read(&chain[0]).unwrap()))
}

fn pass<A, B, C, D>(from: &mut A, to: &mut B) -> Result<(), rustls::Error>
where
    A: std::ops::DerefMut<Target = rustls::ConnectionCommon<C>>,
    B: std::ops::DerefMut<Target = rustls::ConnectionCommon<D>>,
{
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut bytes = io::Cursor::new(bytes);
    while bytes.position() < bytes.get_ref().len() as u64 {
        to.read_tls(&mut bytes).unwrap();
        to.process_new_packets()?;
    }
    Ok(())
}

#[test]
fn a_node_is_recognised_by_its_certificate() {
    let authority = authority();
    let client = client_of(Some(node(&authority, for_a_week())), &authority);
    let seen = shake(&client, &server_of(&authority, &authority), now() + DAY);
    let seen = seen.unwrap().unwrap();
    assert_eq!(seen.subject, edge());
    assert_eq!(seen.not_after, now() + WEEK);
    assert_eq!(seen.expired_for(now() + DAY), Duration::ZERO);
    // An hour before it was made, and half of the week and that hour later.
    assert_eq!(seen.not_before, now() - DAY / 24);
    assert_eq!((seen.lifetime(), seen.renew_at()), (WEEK, now() + WEEK / 2));
}

#[test]
fn a_person_shows_no_certificate() {
    let authority = authority();
    let server = server_of(&authority, &authority);
    assert_eq!(
        shake(&client_of(None, &authority), &server, now()),
        Ok(None)
    );
}

#[test]
fn another_authority_is_believed_on_neither_side() {
    let (ours, theirs) = (authority(), authority());
    let server = server_of(&ours, &ours);
    let intruder = client_of(Some(node(&theirs, for_a_week())), &ours);
    shake(&intruder, &server, now()).unwrap_err();
    let impostor = server_of(&theirs, &ours);
    let client = client_of(Some(node(&ours, for_a_week())), &ours);
    shake(&client, &impostor, now()).unwrap_err();
}

#[test]
fn a_node_cannot_pass_for_a_server_nor_a_server_for_a_node() {
    let authority = authority();
    let trusted = [authority.certificate().clone()];
    let as_server = server(node(&authority, for_a_week()), &trusted).unwrap();
    shake(&client_of(None, &authority), &as_server, now()).unwrap_err();
    let key = authority.server(cluster(), &[], for_a_week()).unwrap();
    let as_node = client_of(Some(key), &authority);
    shake(&as_node, &server_of(&authority, &authority), now()).unwrap_err();
}

#[test]
fn a_node_cannot_make_certificates() {
    let authority = authority();
    // With the key of its own certificate it signs another node's, and shows both.
    let key = PrivateKey::generate().unwrap();
    let own = authority.agent(&key.request().unwrap(), &edge(), for_a_week());
    let own = own.unwrap();
    let pem = to_pem(&own);
    let forger = Authority::from_pem(&pem, &key.to_pem()).unwrap();
    let victim = PrivateKey::generate().unwrap();
    let forged = forger.agent(&victim.request().unwrap(), &edge(), for_a_week());
    let forged = victim.certified(vec![forged.unwrap(), own]).unwrap();
    let server = server_of(&authority, &authority);
    shake(&client_of(Some(forged), &authority), &server, now()).unwrap_err();
}

#[test]
fn of_a_request_only_the_key_counts() {
    let authority = authority();
    let key = PrivateKey::generate().unwrap();
    for broken in [
        "",
        "not PEM",
        &key.to_pem(),
        &to_pem(authority.certificate()),
    ] {
        authority.agent(broken, &edge(), for_a_week()).unwrap_err();
    }
    let request = key.request().unwrap();
    // Signed with another key than the one that is in it.
    let mut lines: Vec<_> = request.lines().map(str::to_owned).collect();
    let last = lines.len() - 2;
    lines[last] = lines[last].chars().rev().collect();
    let changed = lines.join("\n");
    authority
        .agent(&changed, &edge(), for_a_week())
        .unwrap_err();
}

#[test]
fn an_expired_certificate_comes_through_for_a_year() {
    let authority = authority();
    let client = client_of(Some(node(&authority, for_a_week())), &authority);
    let server = server(
        authority
            .server(
                cluster(),
                &[],
                Validity {
                    from: now(),
                    lifetime: RENEWABLE_FOR * 3,
                },
            )
            .unwrap(),
        &[authority.certificate().clone()],
    )
    .unwrap();
    let end = now() + WEEK;
    let second = Duration::from_secs(1);
    let expired = shake(&client, &server, end + RENEWABLE_FOR)
        .unwrap()
        .unwrap();
    assert_eq!(expired.expired_for(end + RENEWABLE_FOR), RENEWABLE_FOR);
    shake(&client, &server, end + RENEWABLE_FOR + second).unwrap_err();
    // Also an expired one must be one of ours.
    let theirs = self::authority();
    let intruder = client_of(Some(node(&theirs, for_a_week())), &authority);
    shake(&intruder, &server, end + DAY).unwrap_err();
}

#[test]
fn a_certificate_from_the_future_is_refused_but_for_an_hour() {
    let authority = authority();
    let client = client_of(Some(node(&authority, for_a_week())), &authority);
    let server = server_of(&authority, &authority);
    let hour = Duration::from_hours(1);
    shake(&client, &server, now() - hour).unwrap();
    shake(&client, &server, now() - hour - Duration::from_secs(1)).unwrap_err();
}

#[test]
fn an_expired_server_is_refused() {
    let authority = authority();
    let server = server_of(&authority, &authority);
    shake(&client_of(None, &authority), &server, now() + WEEK + DAY).unwrap_err();
}

#[test]
fn the_first_contact_believes_only_the_authority_of_the_token() {
    let (ours, theirs) = (authority(), authority());
    let client = first_contact(ours.fingerprint()).unwrap();
    shake(&client, &server_of(&ours, &ours), now()).unwrap();
    shake(&client, &server_of(&theirs, &theirs), now()).unwrap_err();
    // One who shows our authority, but has its certificate from another.
    let other = theirs.server(cluster(), &[], for_a_week()).unwrap();
    let chain = vec![other.cert[0].clone(), ours.certificate().clone()];
    let impostor = Arc::new(CertifiedKey::new(chain, Arc::clone(&other.key)));
    let impostor = server(impostor, &[ours.certificate().clone()]).unwrap();
    shake(&client, &impostor, now()).unwrap_err();
    // A node that shows our authority.
    let node = node(&ours, for_a_week());
    let chain = vec![node.cert[0].clone(), ours.certificate().clone()];
    let node = Arc::new(CertifiedKey::new(chain, Arc::clone(&node.key)));
    let node = server(node, &[ours.certificate().clone()]).unwrap();
    shake(&client, &node, now()).unwrap_err();
}

#[test]
fn an_authority_survives_being_kept() {
    let made = authority();
    let pem = to_pem(made.certificate());
    let kept = Authority::from_pem(&pem, &made.key_pem()).unwrap();
    assert_eq!(kept.fingerprint(), made.fingerprint());
    let client = client_of(Some(node(&kept, for_a_week())), &made);
    shake(&client, &server_of(&kept, &made), now()).unwrap();
    let other = authority();
    let mixed = Authority::from_pem(&pem, &other.key_pem());
    assert!(
        matches!(mixed, Err(crate::authority::Error::Mismatch)),
        "{mixed:?}"
    );
    assert!(!format!("{made:?}").contains("PRIVATE"));
}

#[test]
fn a_server_is_found_by_its_hosts_too() {
    let authority = authority();
    let hosts = [
        Host::Name("site.example".to_owned()),
        Host::Address([10, 0, 0, 1].into()),
    ];
    let key = authority.server(cluster(), &hosts, for_a_week()).unwrap();
    let store = store(&[authority.certificate().clone()]).unwrap();
    let verifier = WebPkiServerVerifier::builder_with_provider(store, provider());
    let verifier = verifier.build().unwrap();
    let verify = |name: &'static str| {
        let name = ServerName::try_from(name).unwrap();
        let at = At(now()).current_time().unwrap();
        verifier.verify_server_cert(&key.cert[0], &[], &name, &[], at)
    };
    for name in ["site.example", "10.0.0.1", SERVER_NAME] {
        verify(name).unwrap();
    }
    for name in ["other.example", "10.0.0.2"] {
        verify(name).unwrap_err();
    }
}
