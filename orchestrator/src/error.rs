//! Errors as the API answers them: the one place where a refusal becomes a [`Problem`].

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use windlass_api::{
    problem::{Code, Problem},
    validate::FieldError,
};
use windlass_core::{access::Denied, command::Refusal};

use crate::{controller, history::Unknown, sessions::OpenError};

/// A refusal. As a response it has no body yet: [`crate::http`] knows the request's id, writes the
/// problem into the body, and counts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Error(Box<Problem>);

impl Error {
    /// An error of this kind.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem::new(code, detail)))
    }

    /// The request is not well formed.
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(Code::Malformed, detail)
    }

    /// The request is well formed, but these fields make no sense.
    pub(crate) fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = Refusal::Invalid(Vec::new()).to_string();
        Self(Box::new(
            Problem::new(Code::Invalid, detail).with_errors(errors),
        ))
    }

    /// The same error, with another status than its code has.
    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.0.status = status.as_u16();
        self
    }

    /// The error as the API shows it, but for the request's id.
    #[cfg(test)]
    pub(crate) fn problem(&self) -> &Problem {
        &self.0
    }

    /// The error in answer to the request with this id.
    pub(crate) fn answering(self, request_id: &str) -> Problem {
        let mut problem = *self.0;
        problem.detail = printable(problem.detail);
        for error in &mut problem.errors {
            error.path = printable(std::mem::take(&mut error.path));
            error.message = printable(std::mem::take(&mut error.message));
        }
        problem.request_id = request_id.to_owned();
        problem
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status);
        let mut response = status
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            .into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let error = Self::new(code_of_refusal(&refusal), refusal.to_string());
        match refusal {
            Refusal::Invalid(errors) => Self::invalid(errors),
            Refusal::NotFound { .. }
            | Refusal::VersionMismatch { .. }
            | Refusal::Conflict(_)
            | Refusal::Denied(_)
            | Refusal::KeyReused => error,
        }
    }
}

impl From<Denied> for Error {
    fn from(denied: Denied) -> Self {
        Self::new(code_of_denied(&denied), denied.to_string())
    }
}

impl From<controller::Error> for Error {
    fn from(error: controller::Error) -> Self {
        match error {
            controller::Error::Refused(refusal) => refusal.into(),
            other => Self::new(code_of(&other), other.to_string()),
        }
    }
}

impl From<OpenError> for Error {
    fn from(error: OpenError) -> Self {
        let code = match &error {
            OpenError::NotConnected(_) => Code::NodeUnreachable,
            OpenError::TimedOut(_) => Code::Timeout,
            // The agent has no such log (yet): its reason says why.
            OpenError::Failed(_) => Code::Conflict,
            OpenError::TooMany => Code::Overloaded,
        };
        Self::new(code, error.to_string())
    }
}

impl From<Unknown> for Error {
    fn from(unknown: Unknown) -> Self {
        let detail = match unknown {
            Unknown::Past { oldest } => {
                format!("what happened before version {oldest} is forgotten: list again")
            }
            Unknown::Future { newest } => format!(
                "the newest version is {newest}: if the server's state was restored, list again"
            ),
        };
        Self::new(Code::Gone, detail)
    }
}

/// The code of what the controller refuses.
pub(crate) fn code_of(error: &controller::Error) -> Code {
    match error {
        controller::Error::Refused(refusal) => code_of_refusal(refusal),
        controller::Error::NoSpace => Code::NoSpace,
        controller::Error::Unstorable => Code::Internal,
        // A client that tries again finds the next server.
        controller::Error::Overloaded | controller::Error::Stopping => Code::Overloaded,
    }
}

fn code_of_refusal(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::NotFound { .. } => Code::NotFound,
        Refusal::VersionMismatch { .. } => Code::VersionConflict,
        Refusal::Invalid(_) => Code::Invalid,
        Refusal::Conflict(_) => Code::Conflict,
        Refusal::Denied(denied) => code_of_denied(denied),
        Refusal::KeyReused => Code::IdempotencyConflict,
    }
}

fn code_of_denied(denied: &Denied) -> Code {
    match denied {
        Denied::Unknown | Denied::NoSuchToken | Denied::TokenExpired(_) => Code::Unauthenticated,
        Denied::Role { .. }
        | Denied::Namespace(_)
        | Denied::Cluster
        | Denied::JoinToken
        | Denied::NotAJoinToken
        | Denied::OtherNode(_)
        | Denied::NotAdmitted(_)
        | Denied::NotAnAgent
        | Denied::IsAnAgent
        | Denied::Expired(_) => Code::Forbidden,
    }
}

/// Text that quotes a client, made safe for terminals and logs.
fn printable(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    text.chars().fold(String::new(), |mut printable, c| {
        if c.is_control() {
            printable.extend(c.escape_default());
        } else {
            printable.push(c);
        }
        printable
    })
}

#[cfg(test)]
mod tests {
    use windlass_api::ids::Version;

    use super::*;

    #[test]
    fn every_refusal_has_a_status_and_says_what_to_do() {
        let mismatch = Refusal::VersionMismatch {
            what: "workload default/web".to_owned(),
            expected: Version(1),
            actual: Version(2),
        };
        for (error, status, says) in [
            (controller::Error::NoSpace, 507, "free some space"),
            (controller::Error::Overloaded, 503, "try again"),
            (controller::Error::Stopping, 503, "shutting down"),
            (controller::Error::Refused(mismatch), 412, "read it again"),
            (
                controller::Error::Refused(Refusal::KeyReused),
                409,
                "choose a new one",
            ),
            (
                controller::Error::Refused(Refusal::NotFound {
                    what: "x".to_owned(),
                }),
                404,
                "no x",
            ),
            (
                controller::Error::Refused(Refusal::Conflict("busy".to_owned())),
                409,
                "busy",
            ),
        ] {
            let problem = Error::from(error).answering("id");
            assert_eq!(problem.status, status, "{problem:?}");
            assert!(problem.detail.contains(says), "{problem:?}");
            assert_eq!(problem.request_id, "id");
        }
    }

    #[test]
    fn the_fields_to_blame_are_kept() {
        let errors = vec![FieldError::new("spec.replicas", "at most 10000")];
        let error = Error::from(Refusal::Invalid(errors.clone()));
        assert_eq!(error.problem().errors, errors);
        assert_eq!(
            error.into_response().status(),
            StatusCode::UNPROCESSABLE_ENTITY
        );
    }

    #[test]
    fn what_a_client_sent_cannot_paint_a_terminal() {
        let errors = vec![FieldError::new("spec.\x1b[2J", "bad\0")];
        let problem = Error::invalid(errors).answering("");
        let [error] = &problem.errors[..] else {
            panic!("{problem:?}")
        };
        assert_eq!(
            (error.path.as_str(), error.message.as_str()),
            ("spec.\\u{1b}[2J", "bad\\u{0}")
        );
        assert_eq!(Error::malformed("a\nb ü").answering("").detail, "a\\nb ü");
    }

    #[test]
    fn what_cannot_be_watched_is_gone() {
        for unknown in [
            Unknown::Past { oldest: Version(7) },
            Unknown::Future { newest: Version(7) },
        ] {
            let problem = Error::from(unknown).answering("");
            assert_eq!((problem.code, problem.status), (Code::Gone, 410));
            assert!(problem.detail.contains("version") && problem.detail.contains('7'));
        }
    }
}
