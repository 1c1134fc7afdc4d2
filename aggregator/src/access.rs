//! Who may call what: one table for every rpc of every service.
//!
//! What is not in the table is refused to everybody. Who calls is what the certificate of the
//! connection says, put beside the request by the listener; nothing in a message or its metadata
//! counts. `tests/authorization.rs` holds the table against the descriptors of all services.

mod gate;

use std::net::SocketAddr;

use common::pki::{Principal, Role};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

pub use self::gate::Gate;

/// Who may call an rpc.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Requirement {
    /// Anybody who reaches the port: enrolment and health.
    Anyone,
    /// An enrolled agent.
    Agent,
    /// A collector, or the administrator who tries out what one would say: what is handed in
    /// becomes evidence, so that who decides on plans does not write it.
    Collector,
    /// A user with this role or one above it.
    User(Role),
}

/// Who a connection's certificate speaks for; in the extensions of every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(pub Option<Principal>);

/// Where a connection comes from; in the extensions of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source(pub SocketAddr);

/// The domain of the reasons in error details.
const DOMAIN: &str = "sinter";

const ANY_USER: Requirement = Requirement::User(Role::Collector);
const VIEWER: Requirement = Requirement::User(Role::Viewer);
const OPERATOR: Requirement = Requirement::User(Role::Operator);
const ADMIN: Requirement = Requirement::User(Role::Admin);

/// Every rpc there is. Whoever may look may see all of it; who decides on plans also says which
/// machines are left alone; what changes the rules for everybody, or who is let in, is the
/// administrator's.
pub const TABLE: &[(&str, Requirement)] = &[
    ("/sinter.agent.v1.EnrollmentService/Enroll", Requirement::Anyone),
    ("/sinter.agent.v1.EnrollmentService/Renew", Requirement::Agent),
    ("/sinter.agent.v1.AgentLinkService/Attach", Requirement::Agent),
    ("/sinter.admin.v1.FleetService/ListMachines", VIEWER),
    ("/sinter.admin.v1.FleetService/GetMachine", VIEWER),
    ("/sinter.admin.v1.FleetService/GetSoftware", VIEWER),
    // Stores nothing, but makes a guest work: more than a look.
    ("/sinter.admin.v1.FleetService/RequestSample", OPERATOR),
    ("/sinter.admin.v1.FleetService/ListHosts", VIEWER),
    ("/sinter.admin.v1.FleetService/ListStorageDevices", VIEWER),
    ("/sinter.admin.v1.FleetService/ListAgents", VIEWER),
    ("/sinter.admin.v1.FleetService/RevokeAgent", ADMIN),
    ("/sinter.admin.v1.FindingService/ListWindows", VIEWER),
    ("/sinter.admin.v1.FindingService/GetWindow", VIEWER),
    ("/sinter.admin.v1.FindingService/ExportWindows", VIEWER),
    ("/sinter.admin.v1.FindingService/GetGraph", VIEWER),
    ("/sinter.admin.v1.FindingService/GetFindings", VIEWER),
    ("/sinter.admin.v1.FindingService/ListGroups", VIEWER),
    ("/sinter.admin.v1.CatalogueService/GetCatalogue", VIEWER),
    ("/sinter.admin.v1.CatalogueService/SetCatalogue", ADMIN),
    ("/sinter.admin.v1.PolicyService/GetPolicy", VIEWER),
    ("/sinter.admin.v1.PolicyService/SetPolicy", ADMIN),
    ("/sinter.admin.v1.PolicyService/GetScope", VIEWER),
    ("/sinter.admin.v1.PolicyService/SetScope", OPERATOR),
    ("/sinter.admin.v1.PolicyService/GetGroupRules", VIEWER),
    ("/sinter.admin.v1.PolicyService/SetGroupRules", OPERATOR),
    // Stores nothing, but plans anew at every call: more than a look.
    ("/sinter.admin.v1.PlanService/CreatePlan", OPERATOR),
    ("/sinter.admin.v1.PlanService/WatchPlanning", OPERATOR),
    ("/sinter.admin.v1.PlanService/ListPlans", VIEWER),
    ("/sinter.admin.v1.PlanService/GetPlan", VIEWER),
    ("/sinter.admin.v1.PlanService/ApprovePlan", OPERATOR),
    ("/sinter.admin.v1.PlanService/RejectPlan", OPERATOR),
    ("/sinter.admin.v1.PlanService/CancelPlan", OPERATOR),
    ("/sinter.admin.v1.PlanService/RollBackPlan", OPERATOR),
    ("/sinter.admin.v1.PlanService/ListConfigurationLists", VIEWER),
    ("/sinter.admin.v1.TokenService/CreateToken", ADMIN),
    ("/sinter.admin.v1.TokenService/ListTokens", VIEWER),
    ("/sinter.admin.v1.TokenService/RevokeToken", ADMIN),
    ("/sinter.admin.v1.HistoryService/ListAuditEntries", VIEWER),
    ("/sinter.admin.v1.HistoryService/VerifyAuditLog", VIEWER),
    ("/sinter.admin.v1.HistoryService/ListRefusals", VIEWER),
    ("/sinter.admin.v1.HistoryService/Watch", VIEWER),
    ("/sinter.admin.v1.TelemetryIntakeService/PushStorage", Requirement::Collector),
    ("/grpc.health.v1.Health/Check", Requirement::Anyone),
    ("/grpc.health.v1.Health/Watch", Requirement::Anyone),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", ANY_USER),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", ANY_USER),
];

/// What the table says of an rpc, by its path such as `/sinter.admin.v1.FleetService/ListMachines`.
#[must_use]
pub fn requirement(path: &str) -> Option<Requirement> {
    TABLE.iter().find(|(rpc, _)| *rpc == path).map(|(_, requirement)| *requirement)
}

/// Lets a call pass, or says why not.
///
/// # Errors
///
/// `PERMISSION_DENIED` for an rpc that is not in the table or a caller who may not call it,
/// `UNAUTHENTICATED` for one without a certificate where one is needed; each with a reason in
/// `google.rpc.ErrorInfo`.
pub fn admit(path: &str, caller: Option<&Principal>) -> Result<(), Status> {
    let Some(requirement) = requirement(path) else {
        return Err(refused(Code::PermissionDenied, "RPC_NOT_LISTED", "there is no such rpc"));
    };
    match (requirement, caller) {
        (Requirement::Anyone, _) | (Requirement::Agent, Some(Principal::Agent(_))) => Ok(()),
        (_, None) => Err(unauthenticated()),
        (Requirement::Agent, Some(Principal::User { .. })) => {
            let told = "this rpc is for agents; an agent enrols with a join token";
            Err(refused(Code::PermissionDenied, "AGENTS_ONLY", told))
        }
        (Requirement::User(needed), Some(Principal::User { role, .. })) if *role >= needed => {
            Ok(())
        }
        (Requirement::User(needed), Some(Principal::User { role, name })) => {
            let told = format!("{name} is {role}; this rpc is for {needed} and above");
            Err(refused(Code::PermissionDenied, "ROLE_TOO_LOW", told))
        }
        (Requirement::Collector, Some(Principal::User { role, name })) => match role {
            Role::Collector | Role::Admin => Ok(()),
            Role::Viewer | Role::Operator => {
                let told = format!("{name} is {role}; this rpc is for collectors");
                Err(refused(Code::PermissionDenied, "COLLECTORS_ONLY", told))
            }
        },
        (Requirement::User(_) | Requirement::Collector, Some(Principal::Agent(_))) => {
            let told = "this rpc is for users; use a certificate of a user";
            Err(refused(Code::PermissionDenied, "USERS_ONLY", told))
        }
    }
}

/// Who makes this request.
///
/// # Errors
///
/// `UNAUTHENTICATED` if its connection has no certificate.
pub fn caller<T>(request: &tonic::Request<T>) -> Result<&Principal, Status> {
    let caller = request.extensions().get::<Caller>();
    caller.and_then(|caller| caller.0.as_ref()).ok_or_else(unauthenticated)
}

fn unauthenticated() -> Status {
    let told = "this rpc needs a certificate of this installation's authority";
    refused(Code::Unauthenticated, "NO_CERTIFICATE", told)
}

/// A refusal with its reason beside the text, for programs.
pub(crate) fn refused(code: Code, reason: &str, told: impl Into<String>) -> Status {
    let details = ErrorDetails::with_error_info(reason, DOMAIN, []);
    Status::with_error_details(code, told, details)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(role: Role) -> Principal {
        Principal::User { role, name: "ann".into() }
    }

    #[test]
    fn no_rpc_stands_in_the_table_twice() {
        let rpcs: std::collections::BTreeSet<_> = TABLE.iter().map(|(rpc, _)| rpc).collect();
        assert_eq!(rpcs.len(), TABLE.len());
    }

    #[test]
    fn an_rpc_that_is_not_listed_is_refused_to_everybody() {
        for path in ["/sinter.admin.v1.FleetService/DropAll", "/", "", "/sinter.admin.v1"] {
            let status = admit(path, Some(&user(Role::Admin))).unwrap_err();
            assert_eq!(status.code(), Code::PermissionDenied, "{path}");
        }
    }

    #[test]
    fn a_role_may_what_the_ones_below_it_may() {
        let path = "/sinter.admin.v1.PlanService/ApprovePlan";
        assert!(admit(path, Some(&user(Role::Viewer))).is_err());
        assert!(admit(path, Some(&user(Role::Operator))).is_ok());
        assert!(admit(path, Some(&user(Role::Admin))).is_ok());
    }

    #[test]
    fn a_refusal_says_why_to_programs_too() {
        let status = admit("/sinter.admin.v1.PolicyService/SetPolicy", Some(&user(Role::Viewer)));
        let status = status.unwrap_err();
        assert_eq!(status.message(), "ann is viewer; this rpc is for admin and above");
        assert_eq!(status.get_details_error_info().unwrap().reason, "ROLE_TOO_LOW");
    }
}
