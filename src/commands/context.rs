//! `windlass context`.

use std::io::Write;

use clap::{Args, Subcommand};
use serde::Serialize;
use windlass_api::ids::Namespace;

use crate::{
    cli::Global,
    contexts::{Contexts, Name, Site},
    error::{ErrorFormat, Failure},
    output::{
        self, Format, TextFormat, style,
        table::{Cell, Table},
    },
};

/// Choose among the clusters that you are logged in to
#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// List them; `*` is before the current one
    Ls(Ls),
    /// Make one of them the current one; with -n, commands work in that namespace from then on
    Use(One),
    /// Forget one of them, and its token
    Rm(One),
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// The context
    #[arg(value_name = "NAME")]
    name: Name,
    #[command(flatten)]
    format: Format,
}

/// A context as it is shown: without its token.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    name: &'a Name,
    current: bool,
    server: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a Namespace>,
    logged_in: bool,
}

impl<'a> Shown<'a> {
    fn of(contexts: &Contexts, name: &'a Name, site: &'a Site) -> Self {
        Self {
            name,
            current: contexts.current.as_ref() == Some(name),
            server: site.server.to_string(),
            namespace: site.namespace.as_ref(),
            logged_in: site.token.is_some(),
        }
    }
}

impl ContextCommand {
    /// How errors are written.
    pub(crate) fn errors(&self) -> ErrorFormat {
        match self {
            Self::Ls(ls) => ls.format.output.into(),
            Self::Use(one) | Self::Rm(one) => one.format.output.into(),
        }
    }

    pub(crate) fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::Ls(ls) => list(&Contexts::read()?, ls.format.output),
            Self::Use(one) => {
                let site = Contexts::change(|contexts| {
                    let site = contexts.get_mut(&one.name)?;
                    if let Some(namespace) = &global.namespace {
                        site.namespace = Some(namespace.clone());
                    }
                    let site = site.clone();
                    contexts.current = Some(one.name.clone());
                    Ok(site)
                })?;
                let server = &site.server;
                one.tell(&format!(
                    "{} is now the current context: {server}",
                    one.name
                ))
            }
            Self::Rm(one) => {
                Contexts::change(|contexts| {
                    contexts.get(&one.name)?;
                    contexts.all.remove(&one.name);
                    contexts.current.take_if(|name| *name == one.name);
                    Ok(())
                })?;
                one.tell(&format!("context {} removed", one.name))
            }
        }
    }
}

impl One {
    fn tell(&self, text: &str) -> Result<(), Failure> {
        match self.format.output {
            TextFormat::Json => output::json(&serde_json::json!({ "context": self.name })),
            TextFormat::Text => Ok(writeln!(output::stdout(), "{text}")?),
        }
    }
}

fn list(contexts: &Contexts, format: TextFormat) -> Result<(), Failure> {
    let shown = contexts.all.iter();
    let shown: Vec<_> = shown
        .map(|(name, site)| Shown::of(contexts, name, site))
        .collect();
    match format {
        TextFormat::Json => output::json(&shown),
        TextFormat::Text if shown.is_empty() => {
            output::say("no contexts; `windlass login` makes one");
            Ok(())
        }
        TextFormat::Text => {
            let mut table = Table::new(vec!["", "NAME", "SERVER", "NAMESPACE", "LOGGED IN"]);
            for context in &shown {
                table.row(vec![
                    Cell::styled(style::GOOD, if context.current { "*" } else { "" }),
                    Cell::new(context.name),
                    Cell::new(&context.server),
                    Cell::or_dash(context.namespace),
                    Cell::new(if context.logged_in { "yes" } else { "no" }),
                ]);
            }
            Ok(table.write(&mut output::stdout())?)
        }
    }
}
