//! Why a command failed, for people, and the exit code for scripts.

use std::{io, path::PathBuf};

use aggregator::analyse::AnalyseError;
use thiserror::Error;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{context::ContextError, print::PrintError};

/// Why a command failed.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Context(#[from] ContextError),
    #[error(transparent)]
    Print(#[from] PrintError),
    #[error("{}", told(.0))]
    Call(Status),
    #[error("could not read {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("could not write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error(transparent)]
    Tables(#[from] aggregator::tables::TableError),
    #[error("{0}")]
    Words(String),
    #[error("plan {plan} ended {stage}; `sinterctl plan show {plan}` says why")]
    Ended { plan: String, stage: String },
    #[error("the audit log is broken at row {0}; somebody changed what is written")]
    BrokenLog(u64),
    #[error("{bad} lines are no rows of {program} and are named above; {good} rows were good")]
    BadLines { program: &'static str, bad: usize, good: usize },
    #[error(transparent)]
    Analyse(#[from] AnalyseError),
    #[error("{bad} lines could not be read and are named above; the others were analysed")]
    BadRecording { bad: u64 },
    #[error("could not understand the policy of {}", path.display())]
    Policy {
        path: PathBuf,
        #[source]
        cause: Box<toml::de::Error>,
    },
    #[error("could not start")]
    Runtime(#[source] io::Error),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Call(status)
    }
}

/// The message, and each field with what is wrong with it, if the aggregator named any.
fn told(status: &Status) -> String {
    let message = crate::print::safe(status.message());
    let fields: Vec<_> = status
        .get_details_bad_request()
        .map(|bad| bad.field_violations)
        .unwrap_or_default()
        .into_iter()
        .map(|bad| crate::print::safe(&format!("{}: {}", bad.field, bad.description)))
        .collect();
    match (message.as_str(), fields.as_slice()) {
        ("", []) => format!("the aggregator answered {:?}", status.code()),
        (_, []) => message,
        (_, [one]) if *one == message => message,
        _ => format!("{message} ({})", fields.join("; ")),
    }
}

impl Failure {
    /// As `--help` tells them.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Words(_) => 2,
            Self::BadLines { good: 0, .. } | Self::Analyse(AnalyseError::Empty { .. }) => 8,
            Self::BadLines { .. } | Self::BadRecording { .. } => 7,
            Self::Context(ContextError::Connect { .. }) => 5,
            Self::Call(status) => match status.code() {
                Code::NotFound => 3,
                Code::PermissionDenied | Code::Unauthenticated => 4,
                Code::Unavailable | Code::DeadlineExceeded => 5,
                Code::InvalidArgument | Code::FailedPrecondition | Code::AlreadyExists => 6,
                _ => 1,
            },
            _ => 1,
        }
    }

    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Print(PrintError::Write(cause)) if cause.kind() == io::ErrorKind::BrokenPipe)
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_refused_value_is_named_with_its_field() {
        let details = ErrorDetails::with_bad_request_violation("headroom", "is 1.5; write a share");
        let status =
            Status::with_error_details(Code::InvalidArgument, "the policy is refused", details);
        let failure = Failure::Call(status);
        assert_eq!(
            (failure.to_string().as_str(), failure.exit_code()),
            ("the policy is refused (headroom: is 1.5; write a share)", 6)
        );
    }
}
