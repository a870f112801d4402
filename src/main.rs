//! `windlass`: server, agent, development cluster and command line in one binary.

use std::process::ExitCode;

mod chore;
mod cli;
mod commands;
mod connection;
mod contexts;
mod demo;
mod error;
#[cfg(test)]
mod fixtures;
mod logging;
mod manifests;
mod output;
mod pieces;
mod progress;
mod terminal;
mod trouble;
mod xdg;

fn main() -> ExitCode {
    let cli = cli::read();
    cli.global.color.apply();
    commands::run(cli)
}
