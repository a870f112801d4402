//! One connection after the greeting.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, watch},
    task::spawn_blocking,
    time::{Instant, Interval, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use windlass_api::{
    ids::{ClusterId, Generation},
    wire::{AgentFrame, AssignmentFrame, IMAGES_MAX, ServerFrame, Welcome},
};

use super::{
    Error,
    dialogue::{Dialogue, Heard},
    link::Link,
};
use crate::{
    board::{Board, Machine, Snapshot, publish},
    fence::Beats,
    ledger::{self, Ledger, Verdict},
    slot::{Slot, at},
    stream::{Failure, Request},
};

/// How many heartbeats the server may stay silent: it answers each with a pong.
pub(crate) const SILENT_BEATS_MAX: u32 = 3;

/// The bounds of the interval between heartbeats, whatever the server asks for.
const HEARTBEAT_MS_MIN: u64 = 100;
const HEARTBEAT_MS_MAX: u64 = 60_000;

/// One connection after the greeting.
pub(super) struct Conversation<'a, S> {
    link: Link<S>,
    cluster: ClusterId,
    heartbeat: Duration,
    ledger: &'a Arc<Ledger>,
    board: &'a Board,
    requests: &'a mpsc::Sender<Request>,
    /// An assignment that is being judged and written down. Nothing is read meanwhile.
    accepting: Slot<Judged>,
    dialogue: Dialogue,
    beats: Beats,
    /// How often to send a heartbeat from now on, when that changes.
    pace: Option<Duration>,
}

/// The heartbeats of a connection, the first one at once.
fn heartbeats(every: Duration) -> Interval {
    let mut heartbeats = interval(every);
    heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeats
}

/// The interval that the server asks for, within bounds.
pub(crate) fn bounded(millis: u64) -> Duration {
    Duration::from_millis(millis.clamp(HEARTBEAT_MS_MIN, HEARTBEAT_MS_MAX))
}

/// An assignment, and what became of it.
struct Judged {
    generation: Generation,
    result: Result<Verdict, ledger::Error>,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Conversation<'a, S> {
    /// Begins to talk to the server that let us in with `welcome`.
    pub(super) fn new(
        mut link: Link<S>,
        welcome: &Welcome,
        ledger: &'a Arc<Ledger>,
        board: &'a Board,
        requests: &'a mpsc::Sender<Request>,
    ) -> Self {
        let heartbeat = bounded(welcome.heartbeat_ms);
        link.set_send_limit(heartbeat * SILENT_BEATS_MAX);
        Self {
            link,
            cluster: welcome.cluster,
            heartbeat,
            ledger,
            board,
            requests,
            accepting: Slot::empty(),
            dialogue: Dialogue::default(),
            beats: Beats::default(),
            pace: None,
        }
    }

    /// Says farewell.
    pub(super) async fn close(self) {
        self.link.close().await;
    }

    /// Talks until `shutdown`, or until the connection is of no more use: also when `machine`
    /// changes, which the server is told of in a greeting.
    pub(super) async fn run(
        &mut self,
        failures: &mut mpsc::Receiver<Failure>,
        mut machine: watch::Receiver<Option<Machine>>,
        shutdown: &CancellationToken,
    ) -> Result<(), Error> {
        let mut heartbeat = heartbeats(self.heartbeat);
        let mut health = self.board.health.subscribe();
        let mut snapshot = self.board.snapshot.subscribe();
        let mut images = self.board.images.subscribe();
        snapshot.mark_changed();
        images.mark_changed();
        // Every branch can be cancelled: frames, outcomes and changes stay where they are.
        loop {
            if let Some(pace) = self.pace.take().filter(|pace| *pace != self.heartbeat) {
                self.heartbeat = pace;
                self.link.set_send_limit(pace * SILENT_BEATS_MAX);
                heartbeat = heartbeats(pace);
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                frame = self.link.next(), if self.accepting.is_empty() => self.hear(frame?).await?,
                judged = self.accepting.next() => self.judged(judged).await?,
                _ = heartbeat.tick() => self.beat().await?,
                Ok(()) = machine.changed() => return Err(Error::Outdated),
                Ok(()) = health.changed() => self.send_health().await?,
                Ok(()) = snapshot.changed() => self.dialogue.report_soon(Instant::now()),
                () = at(self.dialogue.report_at()) => self.report(&mut snapshot).await?,
                Ok(()) = images.changed() => self.send_images(&mut images).await?,
                Some(failure) = failures.recv() => self.send_failure(failure).await?,
            }
        }
    }

    async fn hear(&mut self, frame: ServerFrame) -> Result<(), Error> {
        match self.dialogue.hear(frame, Instant::now())? {
            Heard::Nothing => {}
            Heard::Lease(lease) => {
                let before = *self.board.contact.borrow();
                publish(&self.board.contact, self.beats.renewed(&lease, before));
                self.pace = Some(bounded(lease.heartbeat_ms));
            }
            Heard::Assignment(frame) => self.begin_accepting(frame),
            Heard::Stream(request) => {
                let stream = request.stream;
                if self.requests.try_send(request).is_err() {
                    let reason = "the node is asked for too many streams at once".to_owned();
                    self.send_failure(Failure { stream, reason }).await?;
                }
            }
        }
        Ok(())
    }

    fn begin_accepting(&mut self, frame: AssignmentFrame) {
        let (ledger, cluster) = (Arc::clone(self.ledger), self.cluster);
        let generation = frame.generation;
        let task = spawn_blocking(move || ledger.accept(cluster, frame));
        self.accepting.put(async move {
            Judged {
                generation,
                result: task.await.expect("judging an assignment does not panic"),
            }
        });
    }

    async fn judged(&mut self, judged: Judged) -> Result<(), Error> {
        self.link.listen_again();
        let Judged { generation, result } = judged;
        if result.is_ok() {
            self.beats.assigned((self.board.boot_clock)());
        }
        let (frame, end) = self.dialogue.judged(generation, result, self.ledger);
        if let Some(frame) = frame {
            self.link.send(&frame).await?;
        }
        end
    }

    async fn beat(&mut self) -> Result<(), Error> {
        let silent = self.link.silent_for();
        if self.accepting.is_empty() && silent > self.heartbeat * SILENT_BEATS_MAX {
            return Err(Error::Silent(silent));
        }
        self.send_health().await?;
        Ok(self.link.ping().await?)
    }

    async fn send_health(&mut self) -> Result<(), Error> {
        let runtime = self.board.health.borrow().clone();
        let beat = self.beats.send((self.board.boot_clock)());
        let frame = AgentFrame::Heartbeat { beat, runtime };
        Ok(self.link.send(&frame).await?)
    }

    async fn report(
        &mut self,
        snapshot: &mut watch::Receiver<Option<Arc<Snapshot>>>,
    ) -> Result<(), Error> {
        let now = snapshot.borrow_and_update().clone();
        for frame in self.dialogue.report(now.as_ref(), Instant::now()) {
            self.link.send(&AgentFrame::Observed(frame)).await?;
        }
        Ok(())
    }

    async fn send_images(
        &mut self,
        images: &mut watch::Receiver<Arc<BTreeSet<String>>>,
    ) -> Result<(), Error> {
        let images = images.borrow_and_update().clone();
        let images = images.iter().take(IMAGES_MAX).cloned().collect();
        Ok(self.link.send(&AgentFrame::Images { images }).await?)
    }

    async fn send_failure(&mut self, failure: Failure) -> Result<(), Error> {
        let Failure { stream, reason } = failure;
        let frame = AgentFrame::StreamFailed { stream, reason };
        Ok(self.link.send(&frame).await?)
    }
}
