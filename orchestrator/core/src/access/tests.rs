use super::*;

const ROLES: [Role; 3] = [Role::Viewer, Role::Operator, Role::Admin];

fn name(text: &str) -> Namespace {
    text.parse().unwrap()
}

fn person(role: Role, reach: &[&str]) -> Caller {
    let reach = match reach {
        ["*"] => Reach::Everywhere,
        names => Reach::Namespaces(names.iter().map(|text| name(text)).collect()),
    };
    Caller::Person(Person {
        token: "0123456789".parse().unwrap(),
        role,
        reach,
    })
}

fn agent(certificate: Holds) -> Caller {
    Caller::Agent(AgentCaller {
        node: "edge-1".parse().unwrap(),
        admission: "0190b8a0-0000-7000-8000-000000000002".parse().unwrap(),
        certificate,
    })
}

fn needs() -> Vec<Need> {
    let of_roles = ROLES.into_iter().flat_map(|role| {
        [
            Need::Role(role),
            Need::ClusterRole(role),
            Need::RoleSomewhere(role),
        ]
    });
    of_roles
        .chain([Need::Nothing, Need::Agent, Need::AgentToRenew])
        .collect()
}

#[test]
fn who_shows_nothing_may_do_what_needs_nothing() {
    for need in needs() {
        let expected = match need {
            Need::Nothing => Ok(()),
            _ => Err(Denied::Unknown),
        };
        assert_eq!(authorise(&Caller::Nobody, need, None), expected, "{need:?}");
    }
}

#[test]
fn a_role_may_do_what_those_before_it_may() {
    for has in ROLES {
        for needs in ROLES {
            let allowed = has >= needs;
            let caller = person(has, &["*"]);
            for need in [
                Need::Role(needs),
                Need::ClusterRole(needs),
                Need::RoleSomewhere(needs),
            ] {
                let answer = authorise(&caller, need, Some(&name("shop")));
                let expected = if allowed {
                    Ok(())
                } else {
                    Err(Denied::Role { has, needs })
                };
                assert_eq!(answer, expected, "{has} {need:?}");
            }
        }
    }
}

#[test]
fn a_token_reaches_its_namespaces_by_their_exact_names() {
    let caller = person(Role::Admin, &["shop", "bank"]);
    let need = Need::Role(Role::Viewer);
    for good in ["shop", "bank"] {
        assert_eq!(authorise(&caller, need, Some(&name(good))), Ok(()));
    }
    for bad in ["sho", "shop2", "shop-bank", "default", "x"] {
        let denied = Denied::Namespace(name(bad));
        assert_eq!(authorise(&caller, need, Some(&name(bad))), Err(denied));
    }
    // An operation that forgets to name its namespace is not open to all of them.
    assert_eq!(authorise(&caller, need, None), Err(Denied::Cluster));
    let of_cluster = Need::ClusterRole(Role::Viewer);
    assert_eq!(authorise(&caller, of_cluster, None), Err(Denied::Cluster));
    let reach = caller.reach();
    assert!(reach.includes(&name("shop")) && !reach.includes(&name("default")));
}

#[test]
fn a_token_without_namespaces_reaches_nothing() {
    let caller = person(Role::Admin, &[]);
    let need = Need::Role(Role::Viewer);
    assert!(authorise(&caller, need, Some(&name("default"))).is_err());
    assert!(!caller.reach().includes(&name("default")));
}

#[test]
fn agents_may_do_what_is_for_agents_and_nothing_else() {
    for need in needs() {
        let expected = match need {
            Need::Nothing | Need::Agent | Need::AgentToRenew => Ok(()),
            _ => Err(Denied::IsAnAgent),
        };
        let answer = authorise(&agent(Holds::Yes), need, Some(&name("default")));
        assert_eq!(answer, expected, "{need:?}");
    }
    assert!(!agent(Holds::Yes).reach().includes(&name("default")));
}

#[test]
fn an_agent_whose_certificate_has_expired_may_renew_it_and_nothing_else() {
    for need in needs() {
        let expected = match need {
            Need::Nothing | Need::AgentToRenew => Ok(()),
            _ => Err(Denied::Expired("edge-1".parse().unwrap())),
        };
        let answer = authorise(&agent(Holds::ForRenewal), need, None);
        assert_eq!(answer, expected, "{need:?}");
    }
}

#[test]
fn no_person_is_an_agent() {
    let admin = person(Role::Admin, &["*"]);
    assert_eq!(
        authorise(&admin, Need::Agent, None),
        Err(Denied::NotAnAgent)
    );
}
