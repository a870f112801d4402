//! Makes the checks that are due, each in a task of its own.

use std::{collections::BTreeMap, future, net::IpAddr, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use tokio::{
    sync::Semaphore,
    task::{AbortHandle, JoinError, JoinSet},
    time::{Instant, timeout},
};
use windlass_api::duration::Span;

use super::{
    Healths,
    check::{Check, Command, Dial},
    life::Outcome,
    rota::{Change, Order, Rota, Subject, Ticket},
};
use crate::{
    runtime::{self, ContainerId, ExecOutcome, Runtime},
    slot::at,
};

/// How many checks are made at a time. A node is built for 200 containers with two probes that
/// are due at a time; if all of those hang, each holds its place until its own time limit, and
/// still none keeps another one waiting. A place costs a descriptor, of which a process has 1,024
/// unless told otherwise, and some 20 kB.
const CHECKS_AT_ONCE: usize = 512;

/// How many commands are begun at a time. Each is a process that the engine starts, for which it
/// takes a tenth of a second of the machine's time; more only wait for each other in there.
const EXECS_AT_ONCE: usize = 16;

/// How long an overdue command is watched for its end. The engine cannot end a command, only the
/// whole container; while one runs, no other is started for the same probe.
const OVERDUE_MAX: Duration = Duration::from_secs(600);

/// How long the engine's call may take: more than an hour, the longest time limit of a probe, and
/// [`OVERDUE_MAX`], so that the limits in here are the ones that hold.
const EXEC_WITHIN: Duration = Duration::from_secs(2 * 3600);

/// How many overdue commands of one probe may go on running in a container. A process that hangs
/// for ever takes one of the container's 512 ids, and what it has opened; so many do no harm.
const LEFTOVERS_MAX: u32 = 3;

/// Makes the checks that are due, and knows how containers are.
pub(crate) struct Prober<R> {
    runtime: Arc<R>,
    rota: Rota,
    activity: Activity,
    execs: Arc<Semaphore>,
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
}

/// A check that came to its end.
struct Finished {
    ticket: Ticket,
    outcome: Outcome,
    /// The command, if it goes on in the container.
    overdue: Option<Ending>,
}

/// A command on its way to its end.
type Ending = BoxFuture<'static, runtime::Result<ExecOutcome>>;

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
    pub(crate) fn new(runtime: Arc<R>) -> Self {
        Self {
            runtime,
            rota: Rota::default(),
            activity: Activity::Paused,
            execs: Arc::new(Semaphore::new(EXECS_AT_ONCE)),
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
            Check::Exec(command) => match self.refusal(ticket, &command) {
                Some(why) => self
                    .checks
                    .spawn(future::ready(Finished::failed(ticket, why))),
                None => {
                    let running = run(Arc::clone(&self.runtime), order.container, &command);
                    let execs = Arc::clone(&self.execs);
                    let check = by_command(ticket, execs, command, running, order.timeout);
                    self.checks.spawn(check)
                }
            },
            Check::Impossible(why) => {
                let failed = Finished::failed(ticket, why.to_string());
                self.checks.spawn(future::ready(failed))
            }
        };
        self.running.entry(ticket).or_insert(Running::Check(handle));
    }

    /// Why no command is begun now, if none is.
    fn refusal(&self, ticket: Ticket, command: &Command) -> Option<String> {
        let left = self.leftovers.get(&ticket).copied().unwrap_or(0);
        if self.running.contains_key(&ticket) {
            Some(format!(
                "{command} of an earlier check has not ended, and no other is started beside it"
            ))
        } else if left >= LEFTOVERS_MAX {
            Some(format!(
                "{command} did not end {left} times, and docker cannot end it; it is run again \
                 when the container has been restarted"
            ))
        } else {
            None
        }
    }

    fn finish(&mut self, finished: Finished) -> Change {
        let Finished {
            ticket,
            outcome,
            overdue,
        } = finished;
        if !self.rota.attends(ticket.life) {
            return Change::None;
        }
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
                self.running.insert(ticket, Running::Overdue(handle));
            }
            (None, Some(Running::Check(_))) => {
                self.running.remove(&ticket);
            }
            (None, Some(Running::Overdue(_)) | None) => {}
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
            Self::Check(handle) | Self::Overdue(handle) => handle.abort(),
        }
    }
}

impl Finished {
    fn new(ticket: Ticket, outcome: Outcome) -> Self {
        Self {
            ticket,
            outcome,
            overdue: None,
        }
    }

    fn failed(ticket: Ticket, saw: String) -> Self {
        Self::new(ticket, Outcome::Failed(saw))
    }
}

async fn over_network(
    ticket: Ticket,
    dial: Arc<Dial>,
    address: Option<IpAddr>,
    limit: Duration,
) -> Finished {
    let outcome = timeout(limit, dial.make(address)).await;
    Finished::new(
        ticket,
        outcome.unwrap_or_else(|_| {
            let limit = in_words(limit);
            Outcome::Failed(format!("{dial}: no answer within {limit}"))
        }),
    )
}

async fn by_command(
    ticket: Ticket,
    execs: Arc<Semaphore>,
    command: Arc<Command>,
    mut running: Ending,
    limit: Duration,
) -> Finished {
    let _turn = execs
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    match timeout(limit, &mut running).await {
        Ok(ended) => Finished::new(ticket, command.outcome(ended)),
        Err(_) => Finished {
            overdue: Some(running),
            ..Finished::failed(
                ticket,
                format!("{command} did not end within {}", in_words(limit)),
            )
        },
    }
}

/// Runs a command in a container, once it is polled.
fn run<R: Runtime>(runtime: Arc<R>, container: ContainerId, command: &Command) -> Ending {
    let argv = command.0.clone();
    async move { runtime.exec(&container, &argv, EXEC_WITHIN).await }.boxed()
}

/// A time limit as it stands in a manifest.
fn in_words(limit: Duration) -> Span {
    Span::from_millis(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
