//! A workload, as it is told: how far it is, what it is made of, and what was asked for.

use std::io::{self, Write};

use jiff::Timestamp;
use windlass_api::{
    resource::{JobState, JobStatus, RolloutStatus, ScheduleStatus, Workload},
    spec::{ContainerSpec, UpdateOrder, WorkloadSpec},
};

use super::{ago, joined, probe_words, write_fields, write_indented, write_table, write_title};
use crate::output::{
    self,
    age::until,
    state::{self, first_line},
    style::{self, paint},
    table::{Cell, Table},
};

pub(super) fn write(workload: &Workload, now: Timestamp, out: &mut impl Write) -> io::Result<()> {
    let (manifest, status) = (&workload.manifest, &workload.status);
    let heading = format!("{} {}", manifest.kind, manifest.key());
    writeln!(out, "{}", paint(style::TITLE, heading))?;
    let mut state = state::of(workload, now).text;
    let reasons = state::reasons(workload);
    if !reasons.is_empty() {
        state.push_str(&format!(": {}", reasons.join("; ")));
    }
    let ready = manifest.spec.update().map(|_| {
        format!(
            "{} of {}, {} of them of revision {}",
            status.ready, status.wanted, status.updated, status.revision
        )
    });
    let labels = manifest.labels.iter();
    let owner = workload.meta.owner.as_ref();
    let fields = [
        ("Status", Some(state)),
        ("Ready", ready),
        ("Made by", owner.map(ToString::to_string)),
        ("Labels", joined(labels.map(|(k, v)| format!("{k}={v}")))),
        ("Created", Some(ago(now, workload.meta.created_at))),
        ("Changed", Some(ago(now, workload.meta.updated_at))),
    ];
    write_fields(&fields, out)?;
    if let Some(rollout) = &status.rollout {
        write_rollout(rollout, now, out)?;
    }
    if let Some(job) = &status.job {
        write_job(job, now, out)?;
    }
    if let Some(schedule) = &status.schedule {
        write_schedule(schedule, &manifest.spec, now, out)?;
    }
    write_containers(&manifest.spec, out)?;
    write_title("Spec", out)?;
    write_indented(&output::to_yaml(&manifest.spec), out)
}

fn write_rollout(rollout: &RolloutStatus, now: Timestamp, out: &mut impl Write) -> io::Result<()> {
    write_title("Rollout", out)?;
    let state = match rollout.reason() {
        Some(reason) => format!("{}: {}", rollout.state.name(), first_line(reason)),
        None => rollout.state.name().to_owned(),
    };
    let from = rollout.from.map(|from| format!("from revision {from} "));
    let order = match rollout.order {
        UpdateOrder::StartFirst => "startFirst",
        UpdateOrder::StopFirst => "stopFirst",
    };
    let order = match &rollout.order_reason {
        Some(reason) => format!("{order} ({reason})"),
        None => order.to_owned(),
    };
    let fields = [
        ("State", Some(state)),
        (
            "Change",
            Some(format!(
                "{}to revision {}",
                from.unwrap_or_default(),
                rollout.to
            )),
        ),
        ("Order", Some(order)),
        ("Began", Some(ago(now, rollout.started_at))),
        ("Progressed", Some(ago(now, rollout.progressed_at))),
    ];
    write_fields(&fields, out)?;
    write_log(rollout.reason().unwrap_or_default(), out)
}

/// The lines of a log that follow a reason.
fn write_log(reason: &str, out: &mut impl Write) -> io::Result<()> {
    for line in output::quoted_log(reason) {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}

fn write_job(job: &JobStatus, now: Timestamp, out: &mut impl Write) -> io::Result<()> {
    write_title("Job", out)?;
    let (state, reason) = match &job.state {
        JobState::Running => ("Running".to_owned(), ""),
        JobState::Completed { finished_at } => {
            (format!("Completed {}", ago(now, *finished_at)), "")
        }
        JobState::Failed {
            finished_at,
            reason,
        } => (
            format!("Failed {}: {}", ago(now, *finished_at), first_line(reason)),
            reason.as_str(),
        ),
    };
    let fields = [
        ("State", Some(state)),
        (
            "Completed",
            Some(format!("{} of {}", job.succeeded, job.completions)),
        ),
        ("On the way", Some(job.active.to_string())),
        ("Failures", Some(job.failed.to_string())),
        ("Began", Some(ago(now, job.started_at))),
    ];
    write_fields(&fields, out)?;
    write_log(reason, out)?;
    if job.indices.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(vec!["INDEX", "STATE", "EXIT CODE", "FAILURES", "ENDED"]);
    for index in &job.indices {
        let (style, state) = match index.completed {
            true => (style::GOOD, "completed"),
            false => (style::BAD, "failed"),
        };
        table.row(vec![
            Cell::new(index.index),
            Cell::styled(style, state),
            Cell::new(index.code),
            Cell::new(index.failures),
            Cell::new(ago(now, index.finished_at)),
        ]);
    }
    write_table("Indices", table, out)
}

fn write_schedule(
    schedule: &ScheduleStatus,
    spec: &WorkloadSpec,
    now: Timestamp,
    out: &mut impl Write,
) -> io::Result<()> {
    write_title("Schedule", out)?;
    let when = match spec {
        WorkloadSpec::CronJob(spec) => Some(format!("{} ({})", spec.schedule, spec.time_zone)),
        WorkloadSpec::Service(_) | WorkloadSpec::Daemon(_) | WorkloadSpec::Job(_) => None,
    };
    let next = match schedule.next {
        Some(next) => format!("{next}, in {}", until(now, next)),
        None => "not due".to_owned(),
    };
    let fields = [
        ("When", when),
        (
            "Last",
            schedule
                .last
                .map(|last| format!("{last}, {}", ago(now, last))),
        ),
        ("Next", Some(next)),
        (
            "Running",
            joined(schedule.active.iter().map(ToString::to_string)),
        ),
    ];
    write_fields(&fields, out)
}

fn write_containers(spec: &WorkloadSpec, out: &mut impl Write) -> io::Result<()> {
    let instance = spec.instance();
    let mut table = Table::new(vec!["NAME", "ROLE", "IMAGE", "PROBES"]);
    for container in instance.init_containers {
        table.row(container_cells(container, "init"));
    }
    for container in &instance.all_containers() {
        let role = if container.sidecar { "sidecar" } else { "main" };
        table.row(container_cells(container, role));
    }
    write_table("Containers", table, out)
}

fn container_cells(container: &ContainerSpec, role: &str) -> Vec<Cell> {
    let probes = container.probes.each();
    let probes = probes.map(|(name, probe)| format!("{name} {}", probe_words(probe)));
    vec![
        Cell::new(&container.name),
        Cell::new(role),
        Cell::new(&container.image),
        Cell::or_dash(joined(probes)),
    ]
}
