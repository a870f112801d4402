//! How a command fails: what is said on standard error, and the exit code.

use std::{fmt, io, process::ExitCode};

use serde::Serialize;
use windlass_api::{
    client,
    problem::{Code, Problem},
    validate::FieldError,
};
use windlass_manifest::{Errors, Styles};

use crate::output::{self, style};

/// The exit codes, as they stand at the end of `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed, refused or rolled back
  2  used wrongly
  3  the server cannot be reached
  4  not done in time
  5  not found";

/// What the exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Whoever read the output has enough. That is no failure, and nobody is left to be told.
    ReaderGone = 0,
    Failed = 1,
    Usage = 2,
    Unreachable = 3,
    Timeout = 4,
    NotFound = 5,
    /// Of `exec` only: the command was not run, or nobody knows how it ended.
    NotRun = 125,
}

/// How errors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorFormat {
    Text,
    Json,
}

/// What is to blame.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Blame {
    /// Fields of a request.
    Fields(Vec<FieldError>),
    /// Places in files.
    Manifests(Errors),
}

/// Why a command failed. As JSON it has the members of a [`Problem`], and `hint`.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    /// The kind of failure, for programs.
    code: &'static str,
    /// What happened.
    detail: String,
    /// More about it, apart to keep results small.
    #[serde(flatten)]
    more: Box<More>,
    #[serde(skip)]
    exit: Exit,
}

/// What only some failures have.
#[derive(Debug, Default, Serialize)]
struct More {
    /// What is to blame.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<Blame>,
    /// Lines that explain it: the log of what does not run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// The id of the request, to be found in the server's log.
    #[serde(rename = "request_id", skip_serializing_if = "String::is_empty")]
    request_id: String,
}

impl Failure {
    /// A failure of this kind.
    pub(crate) fn new(exit: Exit, detail: impl Into<String>) -> Self {
        let code = match exit {
            Exit::ReaderGone => "reader-gone",
            Exit::Failed => "failed",
            Exit::Usage => "usage",
            Exit::Unreachable => "unreachable",
            Exit::Timeout => "timeout",
            Exit::NotFound => Code::NotFound.as_str(),
            Exit::NotRun => "not-run",
        };
        Self {
            code,
            detail: detail.into(),
            more: Box::default(),
            exit,
        }
    }

    /// The same, with what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.more.hint = Some(hint.into());
        self
    }

    /// The same failure, with another exit code.
    pub(crate) fn exiting(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// The same, with lines that explain it.
    pub(crate) fn notes(mut self, notes: Vec<String>) -> Self {
        self.more.notes = notes;
        self
    }

    /// What happened.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// Whether nobody reads the output any more.
    pub(crate) fn is_of_reader(&self) -> bool {
        self.exit == Exit::ReaderGone
    }

    /// Writes the failure to standard error, once.
    pub(crate) fn report(&self, format: ErrorFormat) -> ExitCode {
        if self.exit != Exit::ReaderGone {
            output::say(&match format {
                ErrorFormat::Text => self.to_string(),
                ErrorFormat::Json => serde_json::to_string(self).expect("a failure is valid JSON"),
            });
        }
        ExitCode::from(self.exit as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It can have words of containers and of whatever answers.
        let detail = output::printable(&self.detail);
        write!(f, "{} {detail}", style::paint(style::BAD, "error:"))?;
        match &self.more.errors {
            Some(Blame::Fields(errors)) => {
                errors
                    .iter()
                    .try_for_each(|error| write!(f, "\n  {error}"))?;
            }
            Some(Blame::Manifests(errors)) => write!(f, "\n{}", errors.styled(Styles::coloured()))?,
            None => {}
        }
        for note in &self.more.notes {
            write!(f, "\n  {}", output::printable(note))?;
        }
        if let Some(hint) = &self.more.hint {
            write!(f, "\n  {} {hint}", style::paint(style::NAME, "hint:"))?;
        }
        Ok(())
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        let (exit, code) = match &error {
            client::Error::Problem(problem) => return Self::from(Problem::clone(problem)),
            client::Error::Address { .. } => (Exit::Usage, "usage"),
            client::Error::Protocol { .. }
            | client::Error::NotEncrypted { .. }
            | client::Error::NotHttp { .. } => (Exit::Failed, "protocol"),
            client::Error::Untrusted { .. } => (Exit::Failed, "untrusted"),
            client::Error::BrokeOff { .. } => (Exit::Failed, "broke-off"),
            client::Error::Unreachable { .. }
            | client::Error::Broken { .. }
            | client::Error::TimedOut { .. } => (Exit::Unreachable, "unreachable"),
        };
        let failure = Self {
            code,
            ..Self::new(exit, error.to_string())
        };
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let exit = match problem.code {
            Code::NotFound => Exit::NotFound,
            _ => Exit::Failed,
        };
        let more = More {
            errors: (!problem.errors.is_empty()).then_some(Blame::Fields(problem.errors)),
            notes: Vec::new(),
            hint: hint(problem.code).map(str::to_owned),
            request_id: problem.request_id,
        };
        Self {
            code: problem.code.as_str(),
            more: Box::new(more),
            ..Self::new(exit, problem.detail)
        }
    }
}

/// What to do about a refusal, where its own words do not say.
fn hint(code: Code) -> Option<&'static str> {
    match code {
        Code::NotFound => {
            Some("see what there is with `windlass get workloads -A` or `windlass get nodes`")
        }
        Code::NoRoute => Some("the server may be older than this program: see `windlass version`"),
        Code::VersionConflict => Some("somebody else changed it: look at it again, then try again"),
        Code::Overloaded | Code::Timeout => Some("try again in a moment"),
        Code::NoSpace => Some("make room on the server's disk; it notices by itself"),
        Code::NodeUnreachable => Some("see `windlass get nodes`, and the agent's log on that node"),
        Code::Internal => Some("the server's log says more under the request's id"),
        Code::Unauthenticated => Some("log in with a token that is good: `windlass login`"),
        Code::Forbidden => Some("see what you may do with `windlass whoami`"),
        Code::Malformed
        | Code::Invalid
        | Code::IdempotencyConflict
        | Code::Conflict
        | Code::Gone
        | Code::TooLarge => None,
    }
}

impl From<Errors> for Failure {
    fn from(errors: Errors) -> Self {
        let detail = match errors.0.len() {
            1 => "the manifest is wrong".to_owned(),
            n => format!("there are {n} mistakes in the manifests"),
        };
        let mut failure = Self::new(Exit::Failed, detail);
        failure.code = Code::Invalid.as_str();
        failure.more.errors = Some(Blame::Manifests(errors));
        failure
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Exit::ReaderGone, "the reader is gone"),
            _ => Self::new(Exit::Failed, format!("cannot write the output: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use windlass_api::ids::Namespace;

    use super::*;

    fn plain(failure: &Failure) -> String {
        anstream::adapter::strip_str(&failure.to_string()).to_string()
    }

    #[test]
    fn a_server_that_is_not_there_is_told_with_what_to_do() {
        let error = client::Error::Unreachable {
            server: "http://127.0.0.1:7400".to_owned(),
            why: "connection refused".to_owned(),
        };
        let failure = Failure::from(error);
        assert_eq!(failure.exit, Exit::Unreachable);
        assert_eq!(
            plain(&failure),
            "error: cannot reach the server at http://127.0.0.1:7400: connection refused\n  \
             hint: is the server running? start one with `windlass server` or `windlass dev`, \
             or name another with --server or WINDLASS_SERVER"
        );
    }

    #[test]
    fn words_from_outside_do_nothing_to_a_terminal() {
        let failure = Failure::new(Exit::Failed, "cannot write a\u{1b}[2J\nerror: b")
            .notes(vec!["left\u{7}out".to_owned()]);
        assert_eq!(
            plain(&failure),
            "error: cannot write a [2J error: b\n  left out"
        );
    }

    #[test]
    fn a_refusal_names_the_fields() {
        let problem = Problem::new(Code::Invalid, "the manifest makes no sense")
            .with_errors(vec![FieldError::new("spec.replicas", "at most 10000")]);
        let failure = Failure::from(problem);
        assert_eq!(failure.exit, Exit::Failed);
        assert_eq!(
            plain(&failure),
            "error: the manifest makes no sense\n  spec.replicas: at most 10000"
        );
    }

    #[test]
    fn mistakes_in_manifests_are_told_with_their_places() {
        let source = windlass_manifest::Source {
            name: "web.yaml".to_owned(),
            text: "kind: Service\nname: web\nspec: { image: nginx, replica: 3 }\n".to_owned(),
        };
        let errors = windlass_manifest::parse(&[source], &Namespace::default()).unwrap_err();
        let failure = Failure::from(errors);
        assert_eq!(failure.exit, Exit::Failed);
        let text = plain(&failure);
        let start = "error: the manifest is wrong\nweb.yaml:3:23: spec.replica: ";
        assert!(text.starts_with(start), "{text}");
        let json = serde_json::to_value(&failure).unwrap();
        assert_eq!(json["errors"][0]["line"], 3);
        assert_eq!(json["errors"][0]["path"], "spec.replica");
    }

    #[test]
    fn exit_codes_are_as_documented() {
        let problem = |code| Failure::from(Problem::new(code, "")).exit as u8;
        assert_eq!(problem(Code::NotFound), 5);
        assert_eq!(problem(Code::Conflict), 1);
        assert_eq!(Failure::new(Exit::Timeout, "").exit as u8, 4);
        assert_eq!(
            Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).exit as u8,
            0
        );
        assert_eq!(Failure::from(io::Error::other("full")).exit as u8, 1);
        for code in 0..=5 {
            assert!(EXIT_CODES.contains(&format!("\n  {code}  ")));
        }
    }

    #[test]
    fn as_json_it_is_like_a_problem() {
        let mut problem = Problem::new(Code::NoSpace, "the disk is full");
        problem.request_id = "r1".to_owned();
        let json = serde_json::to_value(Failure::from(problem)).unwrap();
        assert_eq!(json["code"], "no-space");
        assert_eq!(json["detail"], "the disk is full");
        assert_eq!(json["request_id"], "r1");
        assert!(json["hint"].is_string());
    }
}
