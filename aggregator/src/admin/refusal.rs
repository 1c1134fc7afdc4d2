//! Why a request is not done, as the wire has it: a code, a sentence, and the field with what is
//! wrong with it and what may stand there.

use std::fmt::Display;

use common::task::Chain;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use tracing::error;

use crate::{
    cycle::SteeringError,
    policy::BadPolicy,
    repository::{RepositoryError, StoreError},
};

/// A value nobody can work with.
pub(super) fn bad_field(field: &str, description: impl Display) -> Status {
    let description = description.to_string();
    let details = ErrorDetails::with_bad_request_violation(field, &description);
    Status::with_error_details(Code::InvalidArgument, format!("{field}: {description}"), details)
}

/// There is no such thing. `listed_by` is the command that shows which there are.
pub(super) fn missing(what: &str, id: &str, listed_by: &str) -> Status {
    let told = format!("there is no {what} {id:?}; `sinterctl {listed_by}` lists them");
    let details = ErrorDetails::with_resource_info(what, id, "", &told);
    Status::with_error_details(Code::NotFound, told, details)
}

/// It makes sense, but not in the present state.
pub(super) fn not_now(kind: &str, subject: &str, told: impl Display) -> Status {
    let told = told.to_string();
    let details = ErrorDetails::with_precondition_failure_violation(kind, subject, &told);
    Status::with_error_details(Code::FailedPrecondition, told, details)
}

/// Something by that name is there.
pub(super) fn taken(what: &str, name: &str, remedy: &str) -> Status {
    let told = format!("there is a {what} {name:?} already; {remedy}");
    let details = ErrorDetails::with_resource_info(what, name, "", &told);
    Status::with_error_details(Code::AlreadyExists, told, details)
}

/// Something of ours did not work.
pub(super) fn internal(cause: &(dyn std::error::Error + 'static)) -> Status {
    error!(cause = %Chain(cause), "request not answered");
    Status::internal(Chain(cause).to_string())
}

/// What is remembered could not be read or written.
pub(super) fn repository(cause: RepositoryError) -> Status {
    match &cause {
        RepositoryError::Store(StoreError::Full { .. }) => {
            Status::resource_exhausted(Chain(&cause).to_string())
        }
        RepositoryError::Store(StoreError::Closed { .. }) => {
            Status::unavailable(Chain(&cause).to_string())
        }
        _ => internal(&cause),
    }
}

fn policy(bad: &BadPolicy) -> Status {
    bad_field(bad.field, format_args!("is {}; {}", bad.value, bad.remedy))
}

/// The cycle did not do it.
pub(super) fn steering(cause: SteeringError) -> Status {
    let told = cause.to_string();
    match cause {
        SteeringError::NoPlan(plan) => missing("plan", plan.as_str(), "plans"),
        SteeringError::Stage { plan, .. } => not_now("STAGE", plan.as_str(), told),
        SteeringError::Basis { plan, .. } => not_now("BASIS", plan.as_str(), told),
        SteeringError::Policy(bad) => policy(&bad),
        SteeringError::Groups(bad) => {
            bad_field(&bad.field, format_args!("is {}; {}", bad.value, bad.remedy))
        }
        SteeringError::Supposition(bad) => bad_field("add", bad),
        SteeringError::NoWindow { .. } | SteeringError::NotJoined(_) => bad_field("window", told),
        SteeringError::GroupsVersion { .. } => not_now("VERSION", "group rules", told),
        SteeringError::Repository(cause) => repository(cause),
        SteeringError::Ended => Status::unavailable(told),
    }
}

impl super::Admin {
    /// [`policy`] for one that was not handed to the cycle yet.
    pub(super) fn check(offered: &crate::policy::Policy) -> Result<(), Status> {
        offered.check().map_err(|bad| policy(&bad))
    }
}
