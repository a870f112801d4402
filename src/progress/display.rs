//! Shows progress on standard error: an area that is rewritten on a terminal, a line for each
//! transition elsewhere.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
};

use anstyle::Style;
use windlass_api::resource::Instance;

use super::{
    Scene, Target, Until,
    standing::{self, Standing},
};
use crate::output::{
    columns::phase_style,
    live, printable,
    style::{self, paint},
};

const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// What a terminal is taken to be if it does not say: columns and rows.
const TERMINAL: (usize, usize) = (80, 24);

/// Shows the progress of workloads.
#[derive(Debug)]
pub(crate) struct Display {
    mode: Mode,
    targets: Vec<Target>,
    until: Until,
}

#[derive(Debug)]
enum Mode {
    /// Nothing is shown.
    Silent,
    /// A line for each transition; what was said last of each instance.
    Lines(BTreeMap<String, String>),
    /// An area that is rewritten, and how often it was drawn.
    Live { drawn: usize },
}

/// A line of the live area.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    style: Style,
    marker: &'static str,
    pub(super) text: String,
}

impl Display {
    /// Shows progress as standard error allows.
    pub(crate) fn new() -> Self {
        let can_move = std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        let mode = if io::stderr().is_terminal() && can_move {
            live::keep();
            Mode::Live { drawn: 0 }
        } else {
            Mode::Lines(BTreeMap::new())
        };
        Self::with(mode)
    }

    /// Shows nothing.
    pub(crate) fn silent() -> Self {
        Self::with(Mode::Silent)
    }

    fn with(mode: Mode) -> Self {
        Self {
            mode,
            targets: Vec::new(),
            until: Until::Settled,
        }
    }

    /// Whether it is to be drawn again and again.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.mode, Mode::Live { .. })
    }

    /// Shows a heading and, below it, what there is to say of each of several things by name: for
    /// what is no workload. Elsewhere than on a terminal only what is new is said.
    pub(crate) fn show(
        &mut self,
        heading: &str,
        below: &BTreeMap<String, (Style, String)>,
    ) -> io::Result<()> {
        match &mut self.mode {
            Mode::Silent => Ok(()),
            Mode::Lines(said) => {
                let gone = said.keys().filter(|n| !below.contains_key(*n)).cloned();
                for name in gone.collect::<Vec<_>>() {
                    said.remove(&name);
                    print_line(&format!("{} gone", short(&name)))?;
                }
                let mut below = below.iter();
                below.try_for_each(|(name, (_, text))| say_if_new(name, text.clone(), said))
            }
            Mode::Live { drawn } => {
                let (columns, rows) = terminal_size();
                let mut lines = vec![Line {
                    style: style::NAME,
                    marker: SPINNER[*drawn % SPINNER.len()],
                    text: printable(heading),
                }];
                lines.extend(below.iter().map(|(name, (style, text))| Line {
                    style: *style,
                    marker: "·",
                    text: printable(&format!("  {} {text}", short(name))),
                }));
                *drawn += 1;
                redraw(&clipped(lines, rows.saturating_sub(2)), columns)
            }
        }
    }

    pub(super) fn begin(
        &mut self,
        targets: &[Target],
        until: Until,
        scene: &Scene<'_>,
    ) -> io::Result<()> {
        self.targets = targets.to_vec();
        self.until = until;
        self.relisted(scene)
    }

    /// An instance changed.
    pub(super) fn instance_changed(&mut self, name: &str, scene: &Scene<'_>) -> io::Result<()> {
        let Mode::Lines(said) = &mut self.mode else {
            return Ok(());
        };
        match scene.instances.get(name) {
            Some(instance) if is_of(instance, &self.targets) => {
                say_if_new(name, standing::describe_instance(instance), said)
            }
            Some(_) => Ok(()),
            None if said.remove(name).is_some() => print_line(&format!("{} gone", short(name))),
            None => Ok(()),
        }
    }

    /// Any of the instances may have changed.
    pub(super) fn relisted(&mut self, scene: &Scene<'_>) -> io::Result<()> {
        let Mode::Lines(said) = &mut self.mode else {
            return Ok(());
        };
        let gone: Vec<String> = said
            .keys()
            .filter(|name| !scene.instances.contains_key(*name))
            .cloned()
            .collect();
        for (name, instance) in scene.instances {
            // What is as it should be already is no transition.
            let workload = scene
                .workloads
                .get(&format!("{}/{}", instance.namespace, instance.workload));
            let is_news = said.contains_key(name) || !standing::is_done(instance, workload);
            if is_of(instance, &self.targets) && is_news {
                say_if_new(name, standing::describe_instance(instance), said)?;
            }
        }
        for name in gone {
            said.remove(&name);
            print_line(&format!("{} gone", short(&name)))?;
        }
        Ok(())
    }

    /// Time to draw.
    pub(super) fn draw(&mut self, scene: &Scene<'_>) -> io::Result<()> {
        let Mode::Live { drawn } = &mut self.mode else {
            return Ok(());
        };
        let (columns, rows) = terminal_size();
        let spinner = SPINNER[*drawn % SPINNER.len()];
        // A line is left for the cursor, and one so that what was before stays in sight.
        let lines = area(
            &self.targets,
            self.until,
            scene,
            spinner,
            rows.saturating_sub(2),
        );
        *drawn += 1;
        redraw(&lines, columns)
    }

    /// The wait has failed, which is told elsewhere with its reasons.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        match &mut self.mode {
            Mode::Live { .. } => redraw(&[], TERMINAL.0),
            Mode::Silent | Mode::Lines(_) => Ok(()),
        }
    }

    /// The wait is over.
    pub(super) fn end(&mut self, scene: &Scene<'_>) -> io::Result<()> {
        self.draw(scene)?;
        match &mut self.mode {
            Mode::Silent => {}
            // What stands there now stays there.
            Mode::Live { .. } => live::keep(),
            Mode::Lines(_) => {
                for target in &self.targets {
                    let text = standing::describe(target, self.until, scene);
                    let workload = scene.workload(target);
                    let settled = standing::of(target, self.until, scene) == Standing::Reached
                        && self.until != Until::Deleted
                        && !workload.is_some_and(standing::are_canaries_waiting);
                    // That it was rolled back is told already.
                    let end = if settled && self.until != Until::RolledBack {
                        format!(", {}", self.until.name())
                    } else {
                        String::new()
                    };
                    print_line(&format!("{text}{end}"))?;
                }
            }
        }
        Ok(())
    }
}

fn is_of(instance: &Instance, targets: &[Target]) -> bool {
    targets
        .iter()
        .any(|t| t.key.namespace == instance.namespace && t.key.name == instance.workload)
}

/// The name without its namespace.
fn short(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, short)| short)
}

fn say_if_new(name: &str, text: String, said: &mut BTreeMap<String, String>) -> io::Result<()> {
    if said.get(name) == Some(&text) {
        return Ok(());
    }
    print_line(&format!("{} {text}", short(name)))?;
    said.insert(name.to_owned(), text);
    Ok(())
}

fn print_line(line: &str) -> io::Result<()> {
    writeln!(io::stderr(), "{}", printable(line))
}

/// The lines of the live area: each workload, and below it what is not as it should be.
pub(super) fn area(
    targets: &[Target],
    until: Until,
    scene: &Scene<'_>,
    spinner: &'static str,
    rows: usize,
) -> Vec<Line> {
    let mut lines = Vec::new();
    for target in targets {
        let (style, marker) = match standing::of(target, until, scene) {
            Standing::Reached => (style::GOOD, "✓"),
            Standing::Underway => (style::NAME, spinner),
            Standing::Stopped => (style::BAD, "✗"),
            Standing::Gone => (style::BAD, "✗"),
        };
        lines.push(Line {
            style,
            marker,
            text: printable(&standing::describe(target, until, scene)),
        });
        let workload = scene.workload(target);
        for instance in scene.instances_of(&target.key) {
            if until == Until::Deleted || !standing::is_done(instance, workload) {
                let text = format!(
                    "  {} {}",
                    instance.name,
                    standing::describe_instance(instance)
                );
                let text = printable(&text);
                lines.push(Line {
                    style: phase_style(instance),
                    marker: "·",
                    text,
                });
            }
        }
    }
    clipped(lines, rows)
}

/// As many of the lines as there is room for.
fn clipped(mut lines: Vec<Line>, rows: usize) -> Vec<Line> {
    if lines.len() > rows && rows > 0 {
        let left_out = lines.len() - (rows - 1);
        lines.truncate(rows - 1);
        lines.push(Line {
            style: style::DIM,
            marker: "·",
            text: format!("and {left_out} more"),
        });
    }
    lines
}

/// Writes `lines` over those that were written last.
fn redraw(lines: &[Line], columns: usize) -> io::Result<()> {
    // The cursor moves even where colours are off, so this does not go through `anstream`, which
    // would take out both.
    let colours = anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never;
    let lines = lines.iter().map(|line| {
        let text: String = line.text.chars().take(columns.saturating_sub(3)).collect();
        let style = if colours { line.style } else { style::PLAIN };
        format!("{} {text}", paint(style, line.marker))
    });
    live::redraw(&lines.collect::<Vec<_>>())
}

fn terminal_size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            (usize::from(size.ws_col), usize::from(size.ws_row))
        }
        _ => TERMINAL,
    }
}
