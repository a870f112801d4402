use windlass_api::ids::DIGEST_BYTES;

use super::*;

fn token(kind: Kind, cluster: u8) -> Token {
    Token::generate(kind, Fingerprint([cluster; DIGEST_BYTES])).unwrap()
}

fn authority(host: &str) -> Authority {
    format!("{host}:7400").parse().unwrap()
}

fn https(host: &str) -> Option<Address> {
    Some(Address::Https(authority(host)))
}

fn site(host: &str) -> Site {
    Site {
        server: Address::Https(authority(host)),
        authorities: format!("those of {host}"),
        token: Some(token(Kind::Access, 1)),
        namespace: Some("shop".parse().unwrap()),
    }
}

/// Two contexts, of which `home` is the current one.
fn contexts() -> Contexts {
    let name = |text: &str| text.parse::<Name>().unwrap();
    Contexts {
        current: Some(name("home")),
        all: ["home", "work"].map(|host| (name(host), site(host))).into(),
    }
}

fn in_site(site: &Site, host: &str) -> How {
    How::Https {
        authority: authority(host),
        believe: Believe::Authorities(site.authorities.clone()),
        token: site.token.clone(),
    }
}

fn by_token(token: &Token, host: &str) -> How {
    How::Https {
        authority: authority(host),
        believe: Believe::Fingerprint(token.authority()),
        token: Some(token.clone()),
    }
}

fn chosen(wish: Wish, contexts: &Contexts) -> (How, Option<Namespace>) {
    let contexts = contexts.clone();
    choose(wish, || Ok(contexts), || panic!("it is not asked for")).unwrap()
}

fn refusal(wish: Wish) -> String {
    let refused = choose(wish, || Ok(contexts()), || None);
    format!("{:?}", refused.unwrap_err())
}

#[test]
fn a_server_that_is_named_counts_and_nothing_else_is_looked_at() {
    for (text, how) in [
        ("http://a:7400", How::Http(authority("a"))),
        ("unix:/run/w.sock", How::Unix("/run/w.sock".into())),
    ] {
        let wish = Wish {
            server: Some(text.parse().unwrap()),
            ..Wish::default()
        };
        let unread = || panic!("it is not asked for");
        let chosen = choose(wish, unread, || panic!("it is not asked for"));
        assert_eq!(chosen.unwrap(), (how, None));
    }
}

#[test]
fn a_server_that_encrypts_is_known_from_its_context_or_not_at_all() {
    let contexts = contexts();
    let work = contexts.all[&"work".parse().unwrap()].clone();
    let wish = Wish {
        server: https("work"),
        ..Wish::default()
    };
    let expected = (in_site(&work, "work"), work.namespace.clone());
    assert_eq!(chosen(wish, &contexts), expected);
    let stranger = Wish {
        server: https("stranger"),
        ..Wish::default()
    };
    let refused = refusal(stranger);
    assert!(
        refused.contains("windlass login https://stranger:7400"),
        "{refused}"
    );
}

#[test]
fn a_context_that_is_named_beats_the_current_one_and_is_believed_at_another_address() {
    let contexts = contexts();
    let (home, work) = ("home".parse().unwrap(), "work".parse().unwrap());
    let current = chosen(Wish::default(), &contexts);
    let site = &contexts.all[&home];
    assert_eq!(current, (in_site(site, "home"), site.namespace.clone()));
    let site = &contexts.all[&work];
    for (server, host) in [(None, "work"), (https("tunnel"), "tunnel")] {
        let wish = Wish {
            server,
            context: Some(work.clone()),
            token: None,
        };
        assert_eq!(chosen(wish, &contexts).0, in_site(site, host));
    }
    let missing = Wish {
        context: Some("nowhere".parse().unwrap()),
        ..Wish::default()
    };
    assert!(refusal(missing).contains("there is no context nowhere"));
}

#[test]
fn a_context_and_a_server_that_does_not_encrypt_are_not_both_meant() {
    let wish = Wish {
        server: Some("http://a".parse().unwrap()),
        context: Some("work".parse().unwrap()),
        token: None,
    };
    assert!(refusal(wish).contains("both the server"));
}

#[test]
fn a_token_of_the_environment_brings_along_whom_to_believe() {
    let token = token(Kind::Access, 2);
    let wish = |server, context| Wish {
        server,
        context,
        token: Some(token.clone()),
    };
    let none = Contexts::default();
    let there = chosen(wish(https("new"), None), &none).0;
    assert_eq!(there, by_token(&token, "new"));
    let current = chosen(wish(None, None), &contexts()).0;
    assert_eq!(current, by_token(&token, "home"));
    let named = wish(None, Some("work".parse().unwrap()));
    assert_eq!(chosen(named, &contexts()).0, by_token(&token, "work"));
}

#[test]
fn a_token_is_not_shown_to_what_does_not_encrypt() {
    for server in ["http://a", "unix:/run/w.sock"] {
        let wish = Wish {
            server: Some(server.parse().unwrap()),
            context: None,
            token: Some(token(Kind::Access, 2)),
        };
        assert!(refusal(wish).contains("https:// servers only"), "{server}");
    }
    let wish = Wish {
        token: Some(token(Kind::Access, 2)),
        ..Wish::default()
    };
    let refused = choose(wish, || Ok(Contexts::default()), || Some("/s".into()));
    assert!(format!("{:?}", refused.unwrap_err()).contains("https:// servers only"));
}

#[test]
fn without_a_word_it_is_the_server_of_this_machine() {
    for (socket, how) in [
        (Some("/s".into()), How::Unix("/s".into())),
        (None, How::Http("127.0.0.1:7400".parse().unwrap())),
    ] {
        let chosen = choose(Wish::default(), || Ok(Contexts::default()), || socket);
        assert_eq!(chosen.unwrap(), (how, None));
    }
}

#[test]
fn a_token_to_join_with_is_none_for_the_api_and_no_token_is_quoted() {
    access_token(&token(Kind::Access, 1).reveal()).unwrap();
    let join = token(Kind::Join, 1).reveal();
    let refused = format!("{:?}", access_token(&join).unwrap_err());
    assert!(refused.contains("a node can join"), "{refused}");
    assert!(!refused.contains(&join[..12]), "{refused}");
    let cut = &token(Kind::Access, 1).reveal()[..60].to_owned();
    let refused = format!("{:?}", access_token(cut).unwrap_err());
    assert!(refused.contains("not complete"), "{refused}");
    assert!(!refused.contains(&cut[..12]), "{refused}");
}
