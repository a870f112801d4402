//! What the agent says to its server, and hears from it.

use std::time::Duration;

use tokio::time::Instant;
use windlass_api::{
    ids::ClusterId,
    wire::{AgentFrame, IMAGES_MAX, Lease, ServerFrame, Welcome},
};

use super::{Agent, Effect, Now};
use crate::{
    backoff::{RECONNECT_MAX, reconnect_delay},
    board::publish,
    fence::Beats,
    session::{self, Dialogue, GREETING_LIMIT, Heard, SILENT_BEATS_MAX},
};

/// Where the connection to the server is.
#[derive(Debug)]
pub(super) enum Session {
    /// There is none until then.
    Away { dial_at: Duration },
    /// It is being made, or the server has not answered the greeting.
    Greeting { until: Duration },
    /// It stands.
    Talking(Box<Talk>),
}

#[derive(Debug)]
pub(super) struct Talk {
    cluster: ClusterId,
    heartbeat: Duration,
    pub(super) dialogue: Dialogue,
    beats: Beats,
    began: Duration,
    pub(super) beat_at: Duration,
    heard_at: Duration,
}

impl Agent {
    /// The connection stands: the agent introduces itself.
    pub fn opened(&mut self, now: Now) {
        let hello = session::hello(&self.introduction, &self.ledger, &self.board);
        self.send(AgentFrame::Hello(Box::new(hello)));
        self.session = Session::Greeting {
            until: now.moment + GREETING_LIMIT,
        };
    }

    /// The connection broke, or could not be made.
    pub fn broken(&mut self, now: Now) {
        self.hang_up(now, None);
        self.follow(now);
    }

    /// The other end of the connection answered a ping.
    pub fn ponged(&mut self, now: Now) {
        if let Session::Talking(talk) = &mut self.session {
            talk.heard_at = now.moment;
        }
    }

    /// The server said this.
    pub fn received(&mut self, frame: ServerFrame, now: Now) {
        match &self.session {
            Session::Away { .. } => return,
            Session::Greeting { .. } => self.greeted(frame, now),
            Session::Talking(_) => self.heard(frame, now),
        }
        self.follow(now);
    }

    fn send(&mut self, frame: AgentFrame) {
        self.effects.push(Effect::Send(Box::new(frame)));
    }

    pub(super) fn attend_session(&mut self, now: Now) {
        let at = self.instant(now);
        match &mut self.session {
            Session::Away { dial_at } => {
                if *dial_at <= now.moment && self.board.machine.borrow().is_some() {
                    self.effects.push(Effect::Dial);
                    self.session = Session::Greeting {
                        until: now.moment + GREETING_LIMIT,
                    };
                }
            }
            Session::Greeting { until } => {
                if *until <= now.moment {
                    self.hang_up(now, None);
                }
            }
            Session::Talking(talk) => {
                if talk.beat_at <= now.moment {
                    if now.moment.saturating_sub(talk.heard_at) > talk.heartbeat * SILENT_BEATS_MAX
                    {
                        self.hang_up(now, None);
                        return;
                    }
                    talk.beat_at = now.moment + talk.heartbeat;
                    self.beat(now);
                    self.effects.push(Effect::Ping);
                }
                self.report(at);
            }
        }
    }

    /// Says that the agent lives.
    pub(super) fn beat(&mut self, now: Now) {
        let Session::Talking(talk) = &mut self.session else {
            return;
        };
        let beat = talk.beats.send(now.moment);
        let runtime = self.board.health.borrow().clone();
        self.send(AgentFrame::Heartbeat { beat, runtime });
    }

    fn report(&mut self, at: Instant) {
        let Session::Talking(talk) = &mut self.session else {
            return;
        };
        if talk.dialogue.report_at().is_none_or(|due| due > at) {
            return;
        }
        let snapshot = self.board.snapshot.borrow().clone();
        for observed in talk.dialogue.report(snapshot.as_ref(), at) {
            self.send(AgentFrame::Observed(observed));
        }
    }

    fn greeted(&mut self, frame: ServerFrame, now: Now) {
        let welcome = match frame {
            ServerFrame::Welcome(welcome) => welcome,
            ServerFrame::Refused { .. } => return self.hang_up(now, Some(RECONNECT_MAX)),
            _ => return self.hang_up(now, None),
        };
        match session::join(&self.board, &welcome) {
            Ok(cluster) => self.begin_talk(cluster, &welcome, now),
            Err(_) => self.hang_up(now, Some(RECONNECT_MAX)),
        }
    }

    fn begin_talk(&mut self, cluster: ClusterId, welcome: &Welcome, now: Now) {
        let mut dialogue = Dialogue::default();
        dialogue.report_soon(self.instant(now));
        self.session = Session::Talking(Box::new(Talk {
            cluster,
            heartbeat: session::bounded(welcome.heartbeat_ms),
            dialogue,
            beats: Beats::default(),
            began: now.moment,
            beat_at: now.moment,
            heard_at: now.moment,
        }));
        self.send_images();
        self.tick(now);
    }

    fn heard(&mut self, frame: ServerFrame, now: Now) {
        let at = self.instant(now);
        let Session::Talking(talk) = &mut self.session else {
            return;
        };
        talk.heard_at = now.moment;
        let frame = match talk.dialogue.hear(frame, at) {
            Ok(Heard::Assignment(frame)) => frame,
            Ok(Heard::Lease(lease)) => return self.leased(&lease, now),
            // Streams are none of the simulation's business.
            Ok(Heard::Nothing | Heard::Stream(_)) => return,
            Err(_) => return self.hang_up(now, None),
        };
        let generation = frame.generation;
        let result = self.ledger.accept(talk.cluster, frame);
        if result.is_ok() {
            talk.beats.assigned(now.moment);
        }
        let (said, end) = talk.dialogue.judged(generation, result, &self.ledger);
        if let Some(said) = said {
            self.send(said);
        }
        if end.is_err() {
            self.hang_up(now, None);
        }
    }

    fn leased(&mut self, lease: &Lease, now: Now) {
        let Session::Talking(talk) = &mut self.session else {
            return;
        };
        let before = *self.board.contact.borrow();
        publish(&self.board.contact, talk.beats.renewed(lease, before));
        let heartbeat = session::bounded(lease.heartbeat_ms);
        if heartbeat != talk.heartbeat {
            talk.heartbeat = heartbeat;
            talk.beat_at = now.moment;
        }
    }

    pub(super) fn hang_up(&mut self, now: Now, pause: Option<Duration>) {
        match &self.session {
            Session::Away { .. } => return,
            Session::Greeting { .. } => {}
            Session::Talking(talk) => {
                if now.moment.saturating_sub(talk.began) > RECONNECT_MAX {
                    self.in_vain = 0;
                }
            }
        }
        self.effects.push(Effect::HangUp);
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let pause = pause.unwrap_or_else(|| reconnect_delay(self.in_vain, self.random >> 16));
        self.in_vain = self.in_vain.saturating_add(1);
        self.session = Session::Away {
            dial_at: now.moment + pause,
        };
    }

    pub(super) fn send_images(&mut self) {
        let images = self.wakes.images.borrow_and_update().clone();
        let images = images.iter().take(IMAGES_MAX).cloned().collect();
        self.send(AgentFrame::Images { images });
    }
}
