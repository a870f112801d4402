//! What goes wrong, and when.

use super::call::Call;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is not carried out, and refused with this status and message.
    Refuse(u16, &'static str),
    /// It is carried out and answered when the engine is well again, also if nobody waits any more.
    Hang,
    /// It is carried out, and answered when the engine is well again.
    Hold,
    /// It is carried out, and answered with what is no JSON.
    Garbage,
    /// It is carried out, and half of the answer is sent as if it were all.
    Truncate,
    /// It is carried out, and the connection is closed in the middle of the answer.
    BreakOff,
}

/// Which faults are to come.
#[derive(Debug, Default)]
pub(crate) struct Script {
    rules: Vec<(Call, Times, Fault)>,
    /// The calls that came, in their order.
    pub(crate) calls: Vec<Call>,
    /// How many calls are being carried out.
    pub(crate) under_way: usize,
    /// The calls that wait until the engine is well again.
    pub(crate) waiting: Vec<Call>,
}

/// How often a fault happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Times {
    Once,
    UntilHealed,
}

impl Script {
    pub(crate) fn add(&mut self, call: Call, times: Times, fault: Fault) {
        self.rules.push((call, times, fault));
    }

    pub(crate) fn is_well(&self) -> bool {
        self.rules.is_empty()
    }

    pub(crate) fn heal(&mut self) {
        self.rules.clear();
    }

    /// A call came. What happens to it, if it is not simply carried out?
    pub(crate) fn meet(&mut self, call: Call) -> Option<Fault> {
        self.calls.push(call);
        let at = self.rules.iter().position(|(of, ..)| *of == call)?;
        let (_, times, fault) = self.rules[at];
        if times == Times::Once {
            self.rules.remove(at);
        }
        Some(fault)
    }

    /// Somebody waits no longer.
    pub(crate) fn waited(&mut self, call: Call) {
        if let Some(at) = self.waiting.iter().position(|waiting| *waiting == call) {
            self.waiting.remove(at);
        }
    }
}
