use windlass_api::{duration::Span, template::InstanceTemplate, wire::AssignedInstance};

use super::*;
use crate::testing::{held, instance, template};

const SECOND: Duration = Duration::from_secs(1);

fn made(id: &str, change: impl FnOnce(&mut InstanceTemplate)) -> AssignedInstance {
    let mut template = template();
    change(&mut template);
    AssignedInstance {
        template: Arc::new(template),
        ..instance(id)
    }
}

/// A plain instance, an exclusive one, and one that stops after a minute without the server.
fn three() -> Arc<Held> {
    let exclusive = made("db-0-2", |template| template.exclusive = true);
    let stops = made("job-0-3", |template| {
        template.stop_after = Some(Span::from_secs(60))
    });
    Arc::new(held(4, vec![instance("web-0-1"), exclusive, stops]))
}

fn running(contact: Contact, now: Duration) -> (Vec<String>, Option<Duration>) {
    let fenced = fence(Some(&three()), &contact, now);
    let held = fenced.held.unwrap();
    assert_eq!(held.assignment.generation, three().assignment.generation);
    let ids = held.assignment.instances.keys();
    (ids.map(ToString::to_string).collect(), fenced.until)
}

#[test]
fn what_is_exclusive_runs_until_its_lease_is_over_and_not_longer() {
    let contact = Contact {
        heard: 100 * SECOND,
        lease_ends: 110 * SECOND,
    };
    let all = vec!["db-0-2", "job-0-3", "web-0-1"];
    assert_eq!(
        running(contact, 109 * SECOND),
        (
            all.into_iter().map(str::to_owned).collect(),
            Some(110 * SECOND)
        )
    );
    let without = vec!["job-0-3".to_owned(), "web-0-1".to_owned()];
    assert_eq!(
        running(contact, 110 * SECOND),
        (without, Some(160 * SECOND))
    );
    assert_eq!(
        running(contact, 160 * SECOND),
        (vec!["web-0-1".to_owned()], None)
    );
}

#[test]
fn an_agent_without_a_lease_starts_nothing_exclusive() {
    let contact = KeptContact::read(None, "boot", 500 * SECOND);
    let (ids, _) = running(contact, 500 * SECOND);
    assert_eq!(ids, ["job-0-3", "web-0-1"]);
}

#[test]
fn a_lease_is_remembered_over_a_restart_of_the_agent_and_not_of_the_machine() {
    let contact = Contact {
        heard: 100 * SECOND,
        lease_ends: 110 * SECOND,
    };
    let kept = || Some(KeptContact::new("one".to_owned(), contact));
    assert_eq!(KeptContact::read(kept(), "one", 105 * SECOND), contact);
    let fresh = KeptContact::read(kept(), "two", 5 * SECOND);
    assert_eq!(
        (fresh.heard, fresh.lease_ends),
        (5 * SECOND, Duration::ZERO)
    );
}

fn answer(beat: u64) -> Lease {
    Lease {
        beat,
        lease_ms: 10_000,
        heartbeat_ms: 2_000,
    }
}

#[test]
fn a_lease_counts_from_when_its_heartbeat_was_sent() {
    let mut beats = Beats::default();
    beats.assigned(SECOND);
    let first = beats.send(2 * SECOND);
    let second = beats.send(4 * SECOND);
    let contact = beats.renewed(&answer(first), Contact::default());
    assert_eq!(contact.lease_ends, 12 * SECOND);
    // The answer to the second comes late, and the first one comes again.
    let contact = beats.renewed(&answer(second), contact);
    assert_eq!(
        (contact.heard, contact.lease_ends),
        (4 * SECOND, 14 * SECOND)
    );
    assert_eq!(beats.renewed(&answer(first), contact), contact);
    assert_eq!(beats.renewed(&answer(99), contact), contact);
}

#[test]
fn there_is_no_lease_before_the_assignment_of_this_connection_is_worked_on() {
    let mut beats = Beats::default();
    let early = beats.send(2 * SECOND);
    beats.assigned(3 * SECOND);
    let contact = beats.renewed(&answer(early), Contact::default());
    assert_eq!(
        (contact.heard, contact.lease_ends),
        (2 * SECOND, Duration::ZERO)
    );
    let late = beats.send(4 * SECOND);
    assert_eq!(
        beats.renewed(&answer(late), contact).lease_ends,
        14 * SECOND
    );
}

#[test]
fn heartbeats_without_an_answer_do_not_pile_up() {
    let mut beats = Beats::default();
    for n in 0..1_000 {
        beats.send(n * SECOND);
    }
    assert_eq!(beats.sent.len(), BEATS_MAX);
}
