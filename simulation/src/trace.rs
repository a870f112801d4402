//! What happened in a run: the last lines for a failure, and all of them on request.

use std::{collections::VecDeque, fmt, time::Duration};

use windlass_api::wire::{AssignmentFrame, Observed, Removals, Scope};

/// How many lines a failure shows.
const TAIL_MAX: usize = 60;

/// What becomes of what happens in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Only the last lines are kept.
    Quiet,
    /// Every line is printed.
    Printed,
    /// Every line is kept.
    Kept,
}

/// What happened so far.
#[derive(Debug)]
pub(crate) struct Trace {
    output: Output,
    kept: String,
    tail: VecDeque<String>,
}

impl Trace {
    pub(crate) fn new(output: Output) -> Self {
        Self {
            output,
            kept: String::new(),
            tail: VecDeque::with_capacity(TAIL_MAX),
        }
    }

    /// Something happened.
    pub(crate) fn note(&mut self, now: Duration, what: fmt::Arguments<'_>) {
        let line = format!("{:>11.6} {what}", now.as_secs_f64());
        match self.output {
            Output::Quiet => {}
            Output::Printed => println!("{line}"),
            Output::Kept => {
                self.kept.push_str(&line);
                self.kept.push('\n');
            }
        }
        if self.tail.len() == TAIL_MAX {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    /// Every line, if they are kept.
    pub(crate) fn kept(&mut self) -> String {
        std::mem::take(&mut self.kept)
    }

    /// The last lines.
    pub(crate) fn tail(&self) -> String {
        let lines: Vec<&str> = self.tail.iter().map(String::as_str).collect();
        lines.join("\n")
    }
}

/// An assignment, in a line.
pub(crate) struct Told<'a>(pub(crate) &'a AssignmentFrame);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AssignmentFrame {
            epoch,
            removals,
            generation,
            base,
            instances,
            removed,
            ..
        } = self.0;
        write!(f, "assignment {generation} of epoch {epoch}")?;
        if let Some(base) = base {
            write!(f, " after {base}")?;
        }
        if *removals == Removals::Withheld {
            f.write_str(", removals withheld")?;
        }
        f.write_str(":")?;
        instances.iter().try_for_each(|i| write!(f, " {}", i.id))?;
        removed.iter().try_for_each(|id| write!(f, " -{id}"))
    }
}

/// A report, in a line.
pub(crate) struct Seen<'a>(pub(crate) &'a Observed);

impl fmt::Display for Seen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scope = match self.0.scope {
            Scope::Full => "all",
            Scope::Delta => "changes",
        };
        write!(f, "{scope} under {}:", self.0.generation)?;
        let named = self.0.instances.iter();
        named
            .map(|seen| (&seen.id, seen.status.phase.name()))
            .try_for_each(|(id, phase)| write!(f, " {id} {phase}"))?;
        self.0.gone.iter().try_for_each(|id| write!(f, " -{id}"))
    }
}
