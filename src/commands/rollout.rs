//! `windlass rollout`.

use std::{io::Write, process::ExitCode};

use clap::{Args, Subcommand};
use windlass_api::{
    client::Precondition,
    ids::{RevisionNumber, WorkloadName},
    resource::{RolloutAction, RolloutState, RolloutStatus, Workload},
};

use super::{Context, wait::Waiting};
use crate::{
    cli::{Named, whole_number},
    error::{Exit, Failure},
    output::{self, Format, TextFormat, state},
    progress::{Target, Until},
};

mod history;

/// Look at the update of a workload, and decide how it goes on
#[derive(Debug, Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Each of them that changes something waits until it is done, unless told otherwise. The exit code
is 1 if an update was rolled back or is paused."
)]
pub(crate) struct Rollout {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show how far the update is, until it is over
    Status(One),
    /// List the revisions, the newest first, with what changed from each to the next
    History(Shown),
    /// Go back to the last good revision before the one that is wanted now, or to any other
    Undo(Undo),
    /// Replace no more instances until `resume`
    Pause(Shown),
    /// Go on with an update that is paused
    Resume(One),
    /// Replace all instances by new ones; after a failed update, try it once more
    Restart(One),
    /// The canaries are good: go on with the others
    Promote(One),
    /// Go back to what ran before the update
    Abort(One),
}

/// A workload, and how to write the result.
#[derive(Debug, Args)]
struct Shown {
    /// The workload
    name: Named<WorkloadName>,
    #[command(flatten)]
    format: Format,
}

/// A workload that is waited for.
#[derive(Debug, Args)]
struct One {
    #[command(flatten)]
    shown: Shown,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Debug, Args)]
struct Undo {
    #[command(flatten)]
    one: One,
    /// The revision to go back to, as `history` numbers them
    #[arg(long, value_name = "REVISION", value_parser = whole_number::<RevisionNumber>)]
    to: Option<RevisionNumber>,
}

impl Rollout {
    /// How the result is written.
    pub(crate) fn output(&self) -> TextFormat {
        match &self.action {
            Action::History(shown) | Action::Pause(shown) => shown.format.output,
            Action::Undo(undo) => undo.one.shown.format.output,
            Action::Status(one)
            | Action::Resume(one)
            | Action::Restart(one)
            | Action::Promote(one)
            | Action::Abort(one) => one.shown.format.output,
        }
    }

    pub(crate) async fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let done = match self.action {
            Action::Status(one) => return one.status(context).await,
            Action::History(shown) => history::show(context, &shown).await,
            Action::Undo(Undo { one, to }) => one.act(context, RolloutAction::Undo { to }).await,
            Action::Pause(shown) => shown.act(context, RolloutAction::Pause).await.map(drop),
            Action::Resume(one) => one.act(context, RolloutAction::Resume).await,
            Action::Restart(one) => restart(context, &one.shown, &one.waiting).await,
            Action::Promote(one) => one.act(context, RolloutAction::Promote).await,
            Action::Abort(one) => one.act(context, RolloutAction::Abort).await,
        };
        done.map(|()| ExitCode::SUCCESS)
    }
}

impl Shown {
    /// Asks for the action, and says so.
    async fn act(&self, context: &Context, action: RolloutAction) -> Result<Workload, Failure> {
        let key = context.workload_key(&self.name);
        let workload = context
            .client
            .rollout(&key, &action, Precondition::None)
            .await?;
        match (self.format.output, action) {
            (TextFormat::Text, _) => {
                let mut out = output::stdout();
                writeln!(out, "{key} {}", said(action, &workload))?;
                out.flush()?;
            }
            // Nothing is waited for that would write it.
            (TextFormat::Json, RolloutAction::Pause) => output::json(&workload)?,
            (TextFormat::Json, _) => {}
        }
        Ok(workload)
    }
}

impl One {
    async fn act(&self, context: &Context, action: RolloutAction) -> Result<(), Failure> {
        let workload = self.shown.act(context, action).await?;
        let until = match action {
            RolloutAction::Abort => Until::RolledBack,
            RolloutAction::Promote
            | RolloutAction::Pause
            | RolloutAction::Resume
            | RolloutAction::Undo { .. } => Until::Done,
        };
        self.waiting
            .settle_as(context, workload, until, self.shown.format.output)
            .await
    }

    async fn status(&self, context: &Context) -> Result<ExitCode, Failure> {
        let key = context.workload_key(&self.shown.name);
        let mut workload = context.client.workload(&key).await?;
        if workload.manifest.spec.update().is_none() {
            let kind = workload.manifest.kind;
            let detail = format!("{key} is a {kind}, which is not updated bit by bit");
            let hint = format!("see `windlass describe workload {key}`");
            return Err(Failure::new(Exit::Failed, detail).hint(hint));
        }
        if !self.waiting.no_wait {
            let target = [Target::of(&workload)];
            let format = self.shown.format.output;
            let reached = self.waiting.wait(context, &target, Until::Done, format);
            workload = reached.await?.into_iter().next().unwrap_or(workload);
        }
        match self.shown.format.output {
            TextFormat::Json => output::json(&workload)?,
            TextFormat::Text => {
                let mut out = output::stdout();
                writeln!(out, "{key} {}", standing(&workload))?;
                for line in last_lines(&workload) {
                    writeln!(out, "{line}")?;
                }
                out.flush()?;
            }
        }
        Ok(match workload.status.rollout.as_ref().map(|r| &r.state) {
            Some(RolloutState::RolledBack { .. } | RolloutState::Paused { .. }) => {
                ExitCode::FAILURE
            }
            _ => ExitCode::SUCCESS,
        })
    }
}

/// Replaces all instances of a workload; also `windlass restart`.
pub(super) async fn restart_named(
    context: &Context,
    name: &Named<WorkloadName>,
    output: TextFormat,
    waiting: &Waiting,
) -> Result<(), Failure> {
    let key = context.workload_key(name);
    let workload = context.client.restart(&key).await?;
    if output == TextFormat::Text {
        let mut out = output::stdout();
        writeln!(
            out,
            "{key} restarts as revision {}",
            workload.status.revision
        )?;
        out.flush()?;
    }
    waiting.settle(context, workload, output).await
}

async fn restart(context: &Context, shown: &Shown, waiting: &Waiting) -> Result<(), Failure> {
    restart_named(context, &shown.name, shown.format.output, waiting).await
}

/// What follows from an action, in words.
fn said(action: RolloutAction, workload: &Workload) -> String {
    let revision = workload.status.revision;
    match action {
        RolloutAction::Promote => format!("goes on to revision {revision}"),
        RolloutAction::Abort => format!("goes back to revision {revision}"),
        RolloutAction::Pause => "is paused".to_owned(),
        RolloutAction::Resume if is_over(workload) => "is not paused".to_owned(),
        RolloutAction::Resume => "goes on".to_owned(),
        RolloutAction::Undo { .. } => format!("goes back to revision {revision}"),
    }
}

fn is_over(workload: &Workload) -> bool {
    let rollout = workload.status.rollout.as_ref();
    rollout.is_none_or(|rollout| rollout.state.is_over())
}

/// Where a rollout is, in words.
fn standing(workload: &Workload) -> String {
    let status = &workload.status;
    let (ready, wanted, revision) = (status.ready, status.wanted, status.revision);
    let counts = format!(
        "{ready}/{wanted} ready, {} of revision {revision}",
        status.updated
    );
    let rollout = status.rollout.as_ref();
    let reason = rollout.and_then(RolloutStatus::reason);
    let reason = reason.map(state::first_line);
    let words = match rollout.map(|r| &r.state) {
        None | Some(RolloutState::Progressing) => "is in progress",
        Some(RolloutState::Canary) => "has canaries",
        Some(RolloutState::Paused { .. }) => "is paused",
        Some(RolloutState::RollingBack { .. }) => "is rolling back",
        Some(RolloutState::RolledBack { .. }) => "was rolled back",
        Some(RolloutState::Completed) => "is complete",
    };
    match reason {
        Some(reason) => format!("{words} ({counts}): {reason}"),
        None => format!("{words} ({counts})"),
    }
}

/// The last lines of the log of what failed.
fn last_lines(workload: &Workload) -> Vec<String> {
    let rollout = workload.status.rollout.as_ref();
    let reason = rollout.and_then(RolloutStatus::reason).unwrap_or_default();
    output::quoted_log(reason)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixtures;

    #[test]
    fn what_was_not_paused_is_not_said_to_go_on() {
        let mut workload = fixtures::workload("web", 3, 3);
        for (state, words) in [("Progressing", "goes on"), ("Completed", "is not paused")] {
            workload.status.rollout = Some(fixtures::rollout(json!({ "state": state })));
            assert_eq!(said(RolloutAction::Resume, &workload), words);
        }
    }

    #[test]
    fn the_state_of_a_rollout_is_one_line() {
        let mut workload = fixtures::workload("web", 3, 3);
        workload.status.updated = 1;
        let told = |workload: &mut Workload, state| {
            workload.status.rollout = Some(fixtures::rollout(state));
            standing(workload)
        };
        assert_eq!(
            told(&mut workload, json!({ "state": "Progressing" })),
            "is in progress (3/3 ready, 1 of revision 1)"
        );
        assert_eq!(
            told(
                &mut workload,
                json!({ "state": "RolledBack", "reason": "exit code 1\nlog" })
            ),
            "was rolled back (3/3 ready, 1 of revision 1): exit code 1"
        );
        assert_eq!(last_lines(&workload), ["  | log"]);
        let rollout = workload.status.rollout.as_mut().unwrap();
        *rollout = fixtures::rollout(json!({ "state": "Progressing", "failure": "exit code 2" }));
        assert_eq!(
            standing(&workload),
            "is in progress (3/3 ready, 1 of revision 1): exit code 2",
            "it is tried on"
        );
    }
}
