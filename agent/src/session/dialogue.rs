//! What is made of what the server says, and what it is told: without waiting, so that the
//! simulation drives the same code as the agent.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use windlass_api::{
    ids::Generation,
    wire::{AgentFrame, AssignmentFrame, Lease, Observed, ServerFrame},
};

use super::{Error, reporter::Reporter};
use crate::{
    board::Snapshot,
    ledger::{self, Assembler, Ledger, Rejection, Verdict},
    stream::Request,
};

/// The shortest time between two reports. The first change is told at once; of a burst, what comes
/// within this time is told together.
const REPORT_INTERVAL: Duration = Duration::from_millis(20);

/// What is to be done about a frame.
#[derive(Debug)]
pub(crate) enum Heard {
    /// Nothing more.
    Nothing,
    /// The ledger is to judge an assignment.
    Assignment(AssignmentFrame),
    /// A heartbeat has renewed the lease.
    Lease(Lease),
    /// A stream is to be opened.
    Stream(Request),
}

/// What was said and heard on one connection.
#[derive(Debug, Default)]
pub(crate) struct Dialogue {
    assembler: Assembler,
    reporter: Reporter,
    /// Whether the server sent an assignment. What comes first has what the server knew when the
    /// connection began, and so when it heard the first report.
    assigned: bool,
    report_at: Option<Instant>,
    reported_at: Option<Instant>,
}

impl Dialogue {
    /// When to report.
    pub(crate) fn report_at(&self) -> Option<Instant> {
        self.report_at
    }

    /// Reports as soon as it is reasonable.
    pub(crate) fn report_soon(&mut self, now: Instant) {
        let earliest = self.reported_at.map_or(now, |at| at + REPORT_INTERVAL);
        self.report_at = Some(earliest.max(now));
    }

    /// The server said this.
    pub(crate) fn hear(&mut self, frame: ServerFrame, now: Instant) -> Result<Heard, Error> {
        match frame {
            ServerFrame::Welcome(_) | ServerFrame::Refused { .. } => Err(Error::OutOfTurn),
            ServerFrame::Assignment(frame) => {
                let Some(whole) = self.assembler.push(frame)? else {
                    return Ok(Heard::Nothing);
                };
                if std::mem::replace(&mut self.assigned, true) {
                    let ids = whole.instances.iter().map(|assigned| assigned.id.clone());
                    self.reporter.again(ids);
                    self.report_soon(now);
                }
                Ok(Heard::Assignment(whole))
            }
            ServerFrame::Lease(lease) => Ok(Heard::Lease(lease)),
            ServerFrame::Resync => {
                self.reporter.start_over();
                self.report_soon(now);
                Ok(Heard::Nothing)
            }
            ServerFrame::OpenStream { stream, request } => Ok(Heard::Stream(Request {
                stream,
                what: request,
            })),
        }
    }

    /// The ledger judged an assignment. Returns what the server is told about it, and what is to
    /// end the connection then.
    pub(crate) fn judged(
        &mut self,
        generation: Generation,
        result: Result<Verdict, ledger::Error>,
        ledger: &Ledger,
    ) -> (Option<AgentFrame>, Result<(), Error>) {
        let error = match result {
            // Of what the server waits to hear on this connection it may have heard nothing on the one
            // before.
            Ok(Verdict::NotNeeded { dropped }) => {
                self.reporter.dropped(generation, dropped);
                return (None, Ok(()));
            }
            Ok(Verdict::Replaced { dropped, .. }) => {
                tracing::debug!(%generation, "an assignment was accepted");
                self.reporter.dropped(generation, dropped);
                return (None, Ok(()));
            }
            Err(error) => error,
        };
        tracing::warn!(%generation, error = &error as &dyn std::error::Error, "an assignment was rejected");
        let reason = match &error {
            ledger::Error::Rejected(rejection) => rejection.to_string(),
            ledger::Error::NotWritten(cause) => format!("{error}: {cause}"),
        };
        let divergence = matches!(&error, ledger::Error::Rejected(r) if r.is_divergence());
        let held = ledger.held().filter(|_| divergence);
        let rejected = AgentFrame::Rejected {
            generation,
            reason,
            seen: held.map(|held| (held.epoch, held.assignment.generation)),
        };
        let end = match error {
            // On a new connection the server sends the whole assignment.
            ledger::Error::Rejected(Rejection::BaseNotHeld { .. })
            | ledger::Error::NotWritten(_) => Err(Error::NotTakenOver(error)),
            ledger::Error::Rejected(_) => Ok(()),
        };
        (Some(rejected), end)
    }

    /// What the server is told of what is seen; nothing if it knows it.
    pub(crate) fn report(
        &mut self,
        snapshot: Option<&Arc<Snapshot>>,
        now: Instant,
    ) -> Vec<Observed> {
        self.report_at = None;
        // Nothing can be said before the engine was seen: "nothing is here" would be a claim.
        let Some(snapshot) = snapshot else {
            return Vec::new();
        };
        self.reported_at = Some(now);
        self.reporter.report(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use windlass_api::status::{InstanceStatus, Phase};

    use super::*;
    use crate::testing::{cluster, delta, id, instance, whole};

    fn named(reports: &[Observed]) -> Vec<&str> {
        let all = reports.iter().flat_map(|r| &r.instances);
        all.map(|seen| seen.id.as_str()).collect()
    }

    #[test]
    fn what_is_assigned_after_it_was_told_of_is_told_of_again() {
        let now = Instant::now();
        let snapshot = Arc::new(Snapshot {
            generation: Generation(7),
            statuses: BTreeMap::from([(id("web-0-1"), InstanceStatus::new(Phase::Starting))]),
        });
        let mut dialogue = Dialogue::default();
        dialogue.report_soon(now);
        assert_eq!(named(&dialogue.report(Some(&snapshot), now)), ["web-0-1"]);
        // What the server sends first, it knew when it heard that.
        let hear = |dialogue: &mut Dialogue, frame| {
            dialogue.hear(ServerFrame::Assignment(frame), now).unwrap();
            dialogue
                .report_at()
                .map(|at| named(&dialogue.report(Some(&snapshot), at)).len())
        };
        assert_eq!(
            hear(&mut dialogue, whole(8, vec![instance("web-0-1")])),
            None
        );
        assert_eq!(
            hear(&mut dialogue, whole(9, vec![instance("web-0-1")])),
            Some(1)
        );
        assert_eq!(
            hear(&mut dialogue, delta(9, 10, vec![instance("web-0-1")], &[])),
            Some(1)
        );
        assert_eq!(
            hear(&mut dialogue, delta(10, 11, vec![], &["web-0-1"])),
            Some(0)
        );
    }

    #[test]
    fn what_the_server_still_waits_for_is_told_to_be_gone_on_the_next_connection() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path().join("ledger.json")).unwrap();
        let now = Instant::now();
        let snapshot = |generation| {
            Arc::new(Snapshot {
                generation: Generation(generation),
                statuses: BTreeMap::new(),
            })
        };
        let frame = AssignmentFrame {
            removed: vec![id("web-0-1")],
            ..whole(5, Vec::new())
        };
        // The engine is away: the containers are not known to be as the assignment wants them.
        for _ in 0..2 {
            let mut dialogue = Dialogue::default();
            dialogue.report_soon(now);
            assert_eq!(dialogue.report(Some(&snapshot(3)), now).len(), 1);
            let judged = ledger.accept(cluster(), frame.clone());
            let (said, end) = dialogue.judged(Generation(5), judged, &ledger);
            assert!(said.is_none() && end.is_ok());
            // It is back.
            let told = dialogue.report(Some(&snapshot(5)), now);
            assert_eq!(told[0].gone, [id("web-0-1")]);
        }
    }
}
