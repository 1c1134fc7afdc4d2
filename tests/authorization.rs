//! Who may call what: every rpc of every service has a row in the one table, and the table holds
//! over real connections. Who calls is told by certificates, never by what is sent.

use std::collections::{BTreeMap, BTreeSet};

use aggregator::{
    access::{Requirement, TABLE},
    listener::{Certificates, Deadlines},
};
use common::pki::Role;
use lab::ingress::{Link, PLENTY, Raw, Site, within};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

/// Who calls, in the order of the matrix.
const CALLERS: [&str; 6] = ["nobody", "agent", "collector", "viewer", "operator", "admin"];

/// The golden matrix: every rpc, and a `+` for each of [`CALLERS`] who may call it. It says again
/// what the table says, on purpose: a change of one that is not one of the other is seen here.
const GOLDEN: &str = "
++++++ sinter.agent.v1.EnrollmentService/Enroll
-+---- sinter.agent.v1.EnrollmentService/Renew
-+---- sinter.agent.v1.AgentLinkService/Attach
---+++ sinter.admin.v1.FleetService/ListMachines
---+++ sinter.admin.v1.FleetService/GetMachine
---+++ sinter.admin.v1.FleetService/GetSoftware
----++ sinter.admin.v1.FleetService/RequestSample
---+++ sinter.admin.v1.FleetService/ListHosts
---+++ sinter.admin.v1.FleetService/ListStorageDevices
---+++ sinter.admin.v1.FleetService/ListAgents
-----+ sinter.admin.v1.FleetService/RevokeAgent
---+++ sinter.admin.v1.FindingService/ListWindows
---+++ sinter.admin.v1.FindingService/GetWindow
---+++ sinter.admin.v1.FindingService/ExportWindows
---+++ sinter.admin.v1.FindingService/GetGraph
---+++ sinter.admin.v1.FindingService/GetFindings
---+++ sinter.admin.v1.FindingService/ListGroups
---+++ sinter.admin.v1.CatalogueService/GetCatalogue
-----+ sinter.admin.v1.CatalogueService/SetCatalogue
---+++ sinter.admin.v1.PolicyService/GetPolicy
-----+ sinter.admin.v1.PolicyService/SetPolicy
---+++ sinter.admin.v1.PolicyService/GetScope
----++ sinter.admin.v1.PolicyService/SetScope
---+++ sinter.admin.v1.PolicyService/GetGroupRules
----++ sinter.admin.v1.PolicyService/SetGroupRules
----++ sinter.admin.v1.PlanService/CreatePlan
----++ sinter.admin.v1.PlanService/WatchPlanning
---+++ sinter.admin.v1.PlanService/ListPlans
---+++ sinter.admin.v1.PlanService/GetPlan
----++ sinter.admin.v1.PlanService/ApprovePlan
----++ sinter.admin.v1.PlanService/RejectPlan
----++ sinter.admin.v1.PlanService/CancelPlan
----++ sinter.admin.v1.PlanService/RollBackPlan
---+++ sinter.admin.v1.PlanService/ListConfigurationLists
-----+ sinter.admin.v1.TokenService/CreateToken
---+++ sinter.admin.v1.TokenService/ListTokens
-----+ sinter.admin.v1.TokenService/RevokeToken
---+++ sinter.admin.v1.HistoryService/ListAuditEntries
---+++ sinter.admin.v1.HistoryService/VerifyAuditLog
---+++ sinter.admin.v1.HistoryService/ListRefusals
---+++ sinter.admin.v1.HistoryService/Watch
--+--+ sinter.admin.v1.TelemetryIntakeService/PushStorage
++++++ grpc.health.v1.Health/Check
++++++ grpc.health.v1.Health/Watch
--++++ grpc.reflection.v1.ServerReflection/ServerReflectionInfo
--++++ grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo
";

fn rpcs(descriptors: &[u8]) -> BTreeSet<String> {
    let set = FileDescriptorSet::decode(descriptors).unwrap();
    let mut rpcs = BTreeSet::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                let (package, service) = (file.package(), service.name());
                rpcs.insert(format!("/{package}.{service}/{}", method.name()));
            }
        }
    }
    rpcs
}

fn all_rpcs() -> BTreeSet<String> {
    [
        common::wire::DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ]
    .into_iter()
    .flat_map(rpcs)
    .collect()
}

fn golden() -> BTreeMap<String, String> {
    let row = |line: &str| {
        let (who, rpc) = line.split_once(' ').unwrap();
        (format!("/{rpc}"), who.to_owned())
    };
    GOLDEN.trim().lines().map(row).collect()
}

#[test]
fn every_rpc_has_a_row_and_no_row_is_without_an_rpc() {
    let listed: BTreeSet<String> = TABLE.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(listed, all_rpcs());
    assert_eq!(golden().into_keys().collect::<BTreeSet<_>>(), listed);
}

/// What the gate said to a call: `None` if it let it pass, whatever the service said then.
async fn refusal(
    line: &Channel,
    path: &str,
    metadata: Option<(&'static str, &str)>,
) -> Option<Status> {
    let mut grpc = tonic::client::Grpc::new(line.clone());
    grpc.ready().await.unwrap();
    let mut request = tonic::Request::new(Vec::new());
    if let Some((key, value)) = metadata {
        request.metadata_mut().insert(key, value.parse().unwrap());
    }
    let called = grpc.server_streaming(request, path.parse().unwrap(), Raw);
    let status = within("an answer", called).await.err()?;
    let details = status.get_details_error_info();
    let by_the_gate = [
        "NO_CERTIFICATE",
        "AGENTS_ONLY",
        "USERS_ONLY",
        "COLLECTORS_ONLY",
        "ROLE_TOO_LOW",
        "RPC_NOT_LISTED",
    ];
    let is_by_it = details.is_some_and(|info| by_the_gate.contains(&info.reason.as_str()));
    is_by_it.then_some(status)
}

async fn lines(site: &Site) -> [Channel; 6] {
    [
        site.stranger().await,
        site.agent(1).await.line(site).await,
        site.user(Role::Collector).await,
        site.user(Role::Viewer).await,
        site.user(Role::Operator).await,
        site.user(Role::Admin).await,
    ]
}

#[tokio::test]
async fn the_matrix_holds_over_real_connections() {
    let site = Site::open().await;
    let lines = lines(&site).await;
    let mut wrong = Vec::new();
    for (path, expected) in golden() {
        let mut found = String::new();
        for (caller, line) in CALLERS.iter().zip(&lines) {
            let refused = refusal(line, &path, None).await;
            found.push(if refused.is_none() { '+' } else { '-' });
            let code =
                if *caller == "nobody" { Code::Unauthenticated } else { Code::PermissionDenied };
            if refused.is_some_and(|status| status.code() != code) {
                wrong.push(format!("{path} refused {caller} with another code than {code:?}"));
            }
        }
        if found != expected {
            wrong.push(format!("{path} is {found}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    site.close().await;
}

#[tokio::test]
async fn an_rpc_that_is_not_listed_is_refused_to_an_administrator() {
    let site = Site::open().await;
    let line = site.user(Role::Admin).await;
    for path in
        ["/sinter.admin.v1.PlanService/DropPlans", "/x.Y/Z", "/sinter.admin.v1.PlanService/"]
    {
        let status = refusal(&line, path, None).await.unwrap();
        assert_eq!(status.code(), Code::PermissionDenied);
        assert_eq!(status.get_details_error_info().unwrap().reason, "RPC_NOT_LISTED");
    }
    site.close().await;
}

#[tokio::test]
async fn what_is_sent_beside_a_call_makes_nobody_an_administrator() {
    let site = Site::open().await;
    let line = site.user(Role::Viewer).await;
    let path = "/sinter.admin.v1.PolicyService/SetPolicy";
    for beside in
        [("authorization", "Bearer admin"), ("x-forwarded-user", "admin"), ("caller", "admin")]
    {
        assert!(refusal(&line, path, Some(beside)).await.is_some(), "{beside:?}");
    }
    site.close().await;
}

#[tokio::test]
async fn without_a_certificate_nobody_gets_past_the_handshake_of_the_operators_port() {
    let site = Site::of(Certificates::Required, PLENTY, Deadlines::default()).await;

    // TLS 1.3 tells the client only with the first answer it reads.
    let refused = match site.line(None).await {
        Err(_) => true,
        Ok(line) => Link::open(line, 1, false).await.is_err_and(|status| {
            !matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied)
        }),
    };

    assert!(refused);
    assert_eq!(site.refused("handshake_failed"), 1);
    let admin = site.user(Role::Admin).await;
    assert!(refusal(&admin, "/grpc.health.v1.Health/Check", None).await.is_none());
    site.close().await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_none() {
    let (site, other) = (Site::open().await, Site::open().await);
    let theirs = other.agent(1).await;

    let refused = match site.line(Some((&theirs.response.certificate_pem, &theirs.key))).await {
        Err(_) => true,
        Ok(line) => Link::open(line, 1, false).await.is_err(),
    };

    assert!(refused);
    assert_eq!(site.refused("handshake_failed"), 1);
    site.close().await;
    other.close().await;
}

#[test]
fn the_table_gives_each_kind_of_caller_something() {
    let admin = Requirement::User(Role::Admin);
    for kind in [Requirement::Anyone, Requirement::Agent, Requirement::Collector, admin] {
        assert!(TABLE.iter().any(|(_, requirement)| *requirement == kind));
    }
}
