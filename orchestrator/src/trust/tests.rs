use windlass_trust::authority::PrivateKey;

use super::*;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn open(directory: &Path) -> Result<Option<Trust>, Error> {
    let config = Config::new(directory.to_owned());
    Trust::open(&config, ClusterId(uuid::Uuid::nil()))
}

#[test]
fn an_authority_is_made_once_and_is_its_owners_alone() {
    let directory = directory();
    assert!(open(directory.path()).unwrap().is_none());
    let fingerprint = init(directory.path()).unwrap();
    let trust = open(directory.path()).unwrap().unwrap();
    assert_eq!(trust.fingerprint(), fingerprint);
    let kept = directory.path().join(DIRECTORY);
    assert_eq!(mode(&kept), 0o700);
    assert_eq!(mode(&kept.join(KEY)), 0o600);
    assert!(matches!(init(directory.path()), Err(Error::Exists(_))));
    assert_eq!(
        open(directory.path()).unwrap().unwrap().fingerprint(),
        fingerprint
    );
}

#[test]
fn an_authority_that_was_half_made_is_made_again() {
    let directory = directory();
    init(directory.path()).unwrap();
    fs::remove_file(directory.path().join(DIRECTORY).join(CERTIFICATE)).unwrap();
    assert!(open(directory.path()).unwrap().is_none());
    let fingerprint = init(directory.path()).unwrap();
    assert_eq!(
        open(directory.path()).unwrap().unwrap().fingerprint(),
        fingerprint
    );
}

#[test]
fn a_key_that_others_can_read_is_not_used() {
    let directory = directory();
    init(directory.path()).unwrap();
    let key = directory.path().join(DIRECTORY).join(KEY);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let error = open(directory.path()).unwrap_err();
    assert!(error.to_string().contains("mode 640"), "{error}");
}

#[test]
fn a_key_of_another_authority_is_not_used() {
    let (ours, theirs) = (directory(), directory());
    init(ours.path()).unwrap();
    init(theirs.path()).unwrap();
    let key = |directory: &Path| directory.join(DIRECTORY).join(KEY);
    fs::copy(key(theirs.path()), key(ours.path())).unwrap();
    assert!(matches!(open(ours.path()), Err(Error::Broken { .. })));
    fs::remove_file(key(ours.path())).unwrap();
    assert!(matches!(open(ours.path()), Err(Error::Io { .. })));
}

#[test]
fn a_node_gets_a_certificate_for_a_week() {
    let directory = directory();
    init(directory.path()).unwrap();
    let trust = open(directory.path()).unwrap().unwrap();
    let request = PrivateKey::generate().unwrap().request().unwrap();
    let admission = AdmissionId(uuid::Uuid::from_u128(7));
    let name: NodeName = "edge-1".parse().unwrap();
    let now = clock::now();
    let issued = trust.issue(&request, name.clone(), admission, now).unwrap();
    let chain = certificate::from_pem(&issued.certificate).unwrap();
    let certificate = windlass_trust::Certificate::read(&chain[0]).unwrap();
    let role = subject::Role::Node { name, admission };
    assert_eq!(certificate.subject.role, role);
    let left = certificate.not_after.duration_since(now).unsigned_abs();
    assert!(left <= NODE_LIFETIME && left > NODE_LIFETIME - Duration::from_secs(2));
    let authorities = certificate::from_pem(&issued.authorities).unwrap();
    assert_eq!(
        certificate::fingerprint(&authorities[0]),
        trust.fingerprint()
    );
}
