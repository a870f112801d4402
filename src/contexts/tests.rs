use std::fs;

use windlass_api::ids::{DIGEST_BYTES, Fingerprint};
use windlass_trust::token::Kind;

use super::*;

fn site(port: u16) -> Site {
    let token = Token::generate(Kind::Access, Fingerprint([7; DIGEST_BYTES]));
    Site {
        server: format!("https://site.example:{port}").parse().unwrap(),
        authorities: "PEM".to_owned(),
        token: Some(token.unwrap()),
        namespace: Some("shop".parse().unwrap()),
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn add(path: &Path, as_name: &str, site: &Site) {
    let added = change_in(path, |contexts| {
        contexts.all.insert(name(as_name), site.clone());
        contexts.current = Some(name(as_name));
        Ok(())
    });
    added.unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_is_kept_is_read_again_and_nobody_elses_to_read() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("windlass").join(FILE);
    assert_eq!(read(&path).unwrap(), Contexts::default());
    let (one, two) = (
        site(1),
        Site {
            token: None,
            namespace: None,
            ..site(2)
        },
    );
    add(&path, "one", &one);
    add(&path, "two", &two);
    let contexts = read(&path).unwrap();
    assert_eq!(contexts.current, Some(name("two")));
    assert_eq!(contexts.get(&name("one")).unwrap(), &one);
    assert_eq!(contexts.get(&name("two")).unwrap(), &two);
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    // Nothing else is left.
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn a_file_that_others_can_read_is_refused_and_not_repaired_in_silence() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(FILE);
    add(&path, "one", &site(1));
    for open in [0o640, 0o604, 0o660] {
        fs::set_permissions(&path, fs::Permissions::from_mode(open)).unwrap();
        let refused = read(&path).unwrap_err().to_string();
        assert!(refused.contains("chmod 600"), "{refused}");
        change_in(&path, |_| Ok(())).unwrap_err();
        assert_eq!(mode(&path), open);
    }
}

#[test]
fn a_change_that_fails_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(FILE);
    add(&path, "one", &site(1));
    let before = fs::read(&path).unwrap();
    let failed = change_in(&path, |contexts| {
        contexts.all.clear();
        Err::<(), _>(Failure::new(Exit::Failed, "no"))
    });
    failed.unwrap_err();
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn changes_at_the_same_time_are_all_kept() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(FILE);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let path = &path;
            scope.spawn(move || add(path, &n.to_string(), &site(n)));
        }
    });
    assert_eq!(read(&path).unwrap().all.len(), 8);
}

#[test]
fn a_broken_file_is_told_without_what_is_in_it() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(FILE);
    add(&path, "one", &site(1));
    let text = fs::read_to_string(&path).unwrap();
    let secret = site_token(&text);
    // Cut, so that it is no token any more.
    fs::write(&path, text.replace(&secret, &secret[..secret.len() - 1])).unwrap();
    let failure = read(&path).unwrap_err();
    let told = format!("{failure} {failure:?}");
    assert!(told.contains("line 7, column"), "{told}");
    assert!(!told.contains(&secret[..20]), "{told}");
}

fn site_token(text: &str) -> String {
    let json: serde_json::Value = serde_json::from_str(text).unwrap();
    json["all"]["one"]["token"].as_str().unwrap().to_owned()
}

#[test]
fn a_server_is_found_in_the_current_context_first() {
    let mut contexts = Contexts::default();
    for (as_name, port) in [("a", 1), ("b", 1), ("c", 2)] {
        contexts.all.insert(name(as_name), site(port));
    }
    let of = |contexts: &Contexts, port: u16| contexts.of(&site(port).server).cloned();
    assert_eq!(of(&contexts, 1), contexts.all.get(&name("a")).cloned());
    contexts.current = Some(name("b"));
    assert_eq!(of(&contexts, 1), contexts.all.get(&name("b")).cloned());
    assert_eq!(of(&contexts, 2), contexts.all.get(&name("c")).cloned());
    assert_eq!(of(&contexts, 3), None);
}

#[test]
fn names_are_plain() {
    for good in ["site", "site.example:7400", "10.0.0.1", "::1", "a_b-c"] {
        assert_eq!(name(good).to_string(), good);
    }
    for bad in ["", "a b", "../x", "a\n", "[::1]"] {
        assert_eq!(bad.parse::<Name>(), Err(NameError), "{bad}");
    }
}
