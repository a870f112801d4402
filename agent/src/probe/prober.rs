//! Makes the checks that are due, each in a task of its own.

use std::{collections::BTreeMap, future, net::IpAddr, num::NonZero, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    sync::{Semaphore, oneshot},
    task::{AbortHandle, JoinError, JoinSet},
    time::{Instant, timeout},
};

use super::{
    Healths,
    check::{Check, Command, Dial, Ending},
    in_words,
    life::Outcome,
    rota::{Change, Memory, Order, Rota, Subject, Ticket},
};
use crate::{
    runtime::{ContainerId, ExecOutcome, Runtime},
    slot::at,
};

/// How many checks are made at a time. A node is built for 200 containers with two probes that
/// are due at a time; if all of those hang, each holds its place until its own time limit, and
/// still none keeps another one waiting. A place costs a descriptor, of which a process has 1,024
/// unless told otherwise, and some 20 kB.
const CHECKS_AT_ONCE: usize = 512;

/// How many commands are started at a time for each core. Docker takes a tenth of a second of a
/// core for each; with more at a time no more are started (measured: 20 a second on two cores with
/// 8, 16 and 32), only each takes longer, until healthy containers overrun a time limit of a
/// second. Those that run are not counted: they mostly wait, each within its time limit.
const STARTS_PER_CORE: usize = 4;

/// How long an overdue command is watched for its end. The engine cannot end a command, only the
/// whole container; while one runs, no other is started for the same probe.
const OVERDUE_MAX: Duration = Duration::from_secs(600);

/// How many overdue commands of one probe may go on running in a container. A process that hangs
/// for ever takes one of the container's 512 ids, and what it has opened; so many do no harm.
const LEFTOVERS_MAX: u32 = 3;

/// Makes the checks that are due, and knows how containers are.
pub(crate) struct Prober<R> {
    runtime: Arc<R>,
    rota: Rota,
    activity: Activity,
    /// The turns of commands to be started.
    starts: Arc<Semaphore>,
    checks: JoinSet<Finished>,
    overdue: JoinSet<(Ticket, End)>,
    /// What was begun for each probe that is being checked.
    running: BTreeMap<Ticket, Running>,
    /// How many commands were left behind.
    leftovers: BTreeMap<Ticket, u32>,
}

/// Whether anything is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Activity {
    Probing,
    Paused,
}

enum Running {
    /// A check within its time limit.
    Check(AbortHandle),
    /// A command after its time limit.
    Overdue(AbortHandle),
    /// A command of which nobody knows whether the engine began it.
    Unanswered(AbortHandle),
}

/// A check that came to its end.
struct Finished {
    ticket: Ticket,
    began: Instant,
    outcome: Outcome,
    /// The command, if it goes on in the container.
    overdue: Option<Ending>,
}

/// What became of an overdue command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It ended, or its container or the engine did.
    Came,
    /// It still ran after [`OVERDUE_MAX`].
    NotSeen,
}

impl<R: Runtime> Prober<R> {
    /// Probes nothing yet.
    pub(crate) fn new(runtime: Arc<R>, before: Memory) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self::with_cores(runtime, before, cores)
    }

    fn with_cores(runtime: Arc<R>, before: Memory, cores: usize) -> Self {
        Self {
            runtime,
            rota: Rota::new(before),
            activity: Activity::Paused,
            starts: Arc::new(Semaphore::new(STARTS_PER_CORE * cores)),
            checks: JoinSet::new(),
            overdue: JoinSet::new(),
            running: BTreeMap::new(),
            leftovers: BTreeMap::new(),
        }
    }

    /// These containers run, as was just seen, and no others: they are probed from now on.
    pub(crate) fn observe(&mut self, subjects: &[Subject<'_>], now: Timestamp) {
        self.activity = Activity::Probing;
        self.rota.observe(subjects, now, Instant::now());
        let rota = &self.rota;
        self.leftovers.retain(|ticket, _| rota.attends(ticket.life));
        for (_, ended) in self
            .running
            .extract_if(.., |ticket, _| !rota.attends(ticket.life))
        {
            ended.abort();
        }
    }

    /// Nobody knows what runs: nothing is probed until that is seen again.
    pub(crate) fn pause(&mut self) {
        self.activity = Activity::Paused;
    }

    /// How the containers are that were observed last.
    pub(crate) fn healths(&self) -> &Healths {
        self.rota.healths()
    }

    /// What the next agent is to know.
    pub(crate) fn memory(&self) -> Memory {
        self.rota.memory()
    }

    /// Probes until the health of a container changes. Cancel-safe. Fails if a check panicked.
    pub(crate) async fn changed(&mut self) -> Result<(), JoinError> {
        loop {
            let wake_at = self.begin_due();
            // Every branch can be cancelled: what it waits for stays where it is.
            tokio::select! {
                Some(finished) = self.checks.join_next() => match finished {
                    Ok(finished) => if self.finish(finished) == Change::Health {
                        return Ok(());
                    },
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => return Err(error),
                },
                Some(ended) = self.overdue.join_next() => match ended {
                    Ok((ticket, end)) => self.finish_overdue(ticket, end),
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => return Err(error),
                },
                () = at(wake_at) => {}
            }
        }
    }

    /// Begins what is due. Returns when to come again.
    fn begin_due(&mut self) -> Option<Instant> {
        let now = Instant::now();
        while self.activity == Activity::Probing && self.checks.len() < CHECKS_AT_ONCE {
            match self.rota.take_due(now) {
                Some(order) => self.begin(order),
                None => return self.rota.next_at(),
            }
        }
        // When there is a place again, or containers were seen.
        None
    }

    fn begin(&mut self, order: Order) {
        let ticket = order.ticket;
        let handle = match order.check {
            Check::Network(dial) => {
                let check = over_network(ticket, dial, order.address, order.timeout);
                self.checks.spawn(check)
            }
            Check::Exec(command) => match self.foregone(ticket, &command) {
                Some(outcome) => self.foresee(ticket, outcome),
                None => self.checks.spawn(by_command(
                    ticket,
                    Arc::clone(&self.runtime),
                    Arc::clone(&self.starts),
                    order.container,
                    (command, order.timeout),
                )),
            },
            Check::Impossible(why) => self.foresee(ticket, Outcome::Failed(why.to_string())),
        };
        self.running.entry(ticket).or_insert(Running::Check(handle));
    }

    /// A check whose outcome is known beforehand.
    fn foresee(&mut self, ticket: Ticket, outcome: Outcome) -> AbortHandle {
        self.checks.spawn(future::ready(Finished {
            ticket,
            began: Instant::now(),
            outcome,
            overdue: None,
        }))
    }

    /// What comes of a check if no command is begun for it.
    fn foregone(&self, ticket: Ticket, command: &Command) -> Option<Outcome> {
        let left = self.leftovers.get(&ticket).copied().unwrap_or(0);
        match self.running.get(&ticket) {
            Some(Running::Check(_) | Running::Overdue(_)) => Some(Outcome::Failed(format!(
                "{command} of an earlier check has not ended, and no other is started beside it"
            ))),
            Some(Running::Unanswered(_)) => Some(Outcome::Unknown),
            None if left >= LEFTOVERS_MAX => Some(Outcome::Failed(format!(
                "{command} did not end {left} times, and docker cannot end it; it is run again \
                 when the container has been restarted"
            ))),
            None => None,
        }
    }

    fn finish(&mut self, finished: Finished) -> Change {
        let Finished {
            ticket,
            began,
            outcome,
            overdue,
        } = finished;
        if !self.rota.attends(ticket.life) {
            return Change::None;
        }
        // What had to wait for its turn is next due an interval after that: so those that were due
        // at the same time come one after the other from then on.
        self.rota.began(ticket, began);
        match (overdue, self.running.get(&ticket)) {
            (Some(overdue), _) => {
                let watched = async move {
                    let end = match timeout(OVERDUE_MAX, overdue).await {
                        Ok(Ok(ExecOutcome::Exited { .. }) | Err(_)) => End::Came,
                        Ok(Ok(ExecOutcome::TimedOut { .. })) | Err(_) => End::NotSeen,
                    };
                    (ticket, end)
                };
                let handle = self.overdue.spawn(watched);
                let running = match outcome {
                    Outcome::Unknown => Running::Unanswered(handle),
                    Outcome::Passed | Outcome::Failed(_) => Running::Overdue(handle),
                };
                self.running.insert(ticket, running);
            }
            (None, Some(Running::Check(_))) => {
                self.running.remove(&ticket);
            }
            (None, Some(Running::Overdue(_) | Running::Unanswered(_)) | None) => {}
        }
        self.rota.finish(ticket, outcome, Instant::now())
    }

    fn finish_overdue(&mut self, ticket: Ticket, end: End) {
        self.running.remove(&ticket);
        match end {
            End::NotSeen if self.rota.attends(ticket.life) => {
                *self.leftovers.entry(ticket).or_default() += 1;
            }
            End::NotSeen | End::Came => {}
        }
    }
}

impl Running {
    fn abort(&self) {
        match self {
            Self::Check(handle) | Self::Overdue(handle) | Self::Unanswered(handle) => {
                handle.abort();
            }
        }
    }
}

async fn over_network(
    ticket: Ticket,
    dial: Arc<Dial>,
    address: Option<IpAddr>,
    limit: Duration,
) -> Finished {
    let began = Instant::now();
    let outcome = timeout(limit, dial.make(address)).await;
    Finished {
        ticket,
        began,
        outcome: outcome.unwrap_or_else(|_| {
            let limit = in_words(limit);
            Outcome::Failed(format!("{dial}: no answer within {limit}"))
        }),
        overdue: None,
    }
}

async fn by_command<R: Runtime>(
    ticket: Ticket,
    runtime: Arc<R>,
    starts: Arc<Semaphore>,
    container: ContainerId,
    (command, limit): (Arc<Command>, Duration),
) -> Finished {
    let turn = starts.acquire().await;
    let turn = turn.expect("the semaphore is never closed");
    let began = Instant::now();
    let (begun, has_begun) = oneshot::channel();
    let check = command.check(runtime, container, limit, begun);
    tokio::pin!(check);
    let (outcome, overdue) = tokio::select! {
        checked = &mut check => checked,
        // Sent or dropped, it is the next one's turn.
        _ = has_begun => {
            drop(turn);
            check.await
        }
    };
    Finished {
        ticket,
        began,
        outcome,
        overdue,
    }
}

#[cfg(test)]
mod tests;
