//! The operators' services: a thin layer that reads what is remembered, steers the cycle, and
//! turns both into the words of `sinter.admin.v1`.
//!
//! ```text
//!  sinterctl ──> listener ──> access ──> admin ──┬─> repository   what was found and done
//!                (mTLS)       (roles)            ├─> steering     approve, policy, scope
//!                                                └─> hub          agents, refusals
//! ```
//!
//! Who may call is decided before a request comes here. Nothing is decided here but whether a
//! request makes sense; what is wrong with it is named with its field and a remedy. Whatever
//! changes something is written to the audit log under the caller's name, and is done once however
//! often it is sent under one request id.

use std::sync::Arc;

use common::{clock::Clock, wire::DESCRIPTORS, wire::admin::v1};
use thiserror::Error;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::{
    cycle::Steering, guest::AgentHub, repository::Repository, storage::pushed::PushedArrays,
};

mod change;
mod export;
mod finding;
mod fleet;
mod groups;
mod history;
mod intake;
mod page;
mod plans;
mod pushes;
mod refusal;
mod settings;
mod show;
mod software;
mod supposing;
mod tokens;
mod toml_text;

pub(crate) use show::{measurements as shown_measurements, opportunity, whole_plan as shown_plan};

/// Largest request that is taken: a catalogue of thousands of applications.
const LARGEST_REQUEST: usize = 4 << 20;
/// Largest push of a collector: some thousands of devices with their holders. An empty device takes two bytes
/// here and some hundreds once it is read.
const LARGEST_PUSH: usize = 1 << 20;

/// What the services stand on.
pub struct AdminSetup {
    /// What was found and done.
    pub repository: Repository,
    /// How the cycle is steered.
    pub steering: Steering,
    /// The agents.
    pub hub: AgentHub,
    /// The arrays that collectors of others tell of.
    pub pushed: PushedArrays,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// What the secrets of tokens are made from, so that a request made again gets the same secret
    /// though none is kept.
    pub token_key: [u8; 32],
    /// Ends the streams of those who watch.
    pub stop: CancellationToken,
}

impl std::fmt::Debug for AdminSetup {
    /// Never shows the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminSetup").finish_non_exhaustive()
    }
}

/// Why the services cannot be served.
#[derive(Debug, Error)]
#[error("could not describe the services to those who ask")]
pub struct ReflectionError(#[source] tonic_reflection::server::Error);

/// The operators' services. Cheap to clone.
#[derive(Clone)]
pub struct Admin(Arc<Inner>);

struct Inner {
    setup: AdminSetup,
    /// Changes are made one after the other: whether a request was answered before is read before
    /// it is done.
    turn: Mutex<()>,
    pushes: pushes::Pushes,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

impl std::ops::Deref for Admin {
    type Target = AdminSetup;

    fn deref(&self) -> &AdminSetup {
        &self.0.setup
    }
}

impl Admin {
    /// The services over `setup`.
    #[must_use]
    pub fn new(setup: AdminSetup) -> Self {
        Self(Arc::new(Inner { setup, turn: Mutex::new(()), pushes: pushes::Pushes::default() }))
    }

    /// All services of the operators' port, with health and reflection.
    ///
    /// # Errors
    ///
    /// If the descriptors cannot be read.
    pub fn routes(&self) -> Result<Routes, ReflectionError> {
        use v1::{
            catalogue_service_server::CatalogueServiceServer as Catalogue,
            finding_service_server::FindingServiceServer as Findings,
            fleet_service_server::FleetServiceServer as Fleet,
            history_service_server::HistoryServiceServer as History,
            plan_service_server::PlanServiceServer as Plans,
            policy_service_server::PolicyServiceServer as Policy,
            telemetry_intake_service_server::TelemetryIntakeServiceServer as Intake,
            token_service_server::TokenServiceServer as Tokens,
        };
        let described = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let reflection = described().build_v1().map_err(ReflectionError)?;
        // What clients in Python and older tools ask.
        let older_reflection = described().build_v1alpha().map_err(ReflectionError)?;
        let health = tonic_health::server::HealthService::from_health_reporter(
            tonic_health::server::HealthReporter::new(),
        );
        let largest = LARGEST_REQUEST;
        let routes = Routes::new(Fleet::new(self.clone()).max_decoding_message_size(largest))
            .add_service(Findings::new(self.clone()).max_decoding_message_size(largest))
            .add_service(Catalogue::new(self.clone()).max_decoding_message_size(largest))
            .add_service(Policy::new(self.clone()).max_decoding_message_size(largest))
            .add_service(Plans::new(self.clone()).max_decoding_message_size(largest))
            .add_service(Tokens::new(self.clone()).max_decoding_message_size(largest))
            .add_service(History::new(self.clone()).max_decoding_message_size(largest))
            .add_service(Intake::new(self.clone()).max_decoding_message_size(LARGEST_PUSH))
            .add_service(tonic_health::pb::health_server::HealthServer::new(health))
            .add_service(reflection)
            .add_service(older_reflection);
        Ok(routes)
    }
}
