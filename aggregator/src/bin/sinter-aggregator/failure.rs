//! Why a command failed, for people, and the exit code for scripts.

use std::io;

use aggregator::{
    config::ConfigError,
    dev::DevError,
    hypervisor::namespace::NamespaceError,
    repository::StoreError,
    service::{ExportError, HomeError, ServiceError},
    vendor::AddressError,
};
use thiserror::Error;

/// Why a command failed.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error(transparent)]
    Host(#[from] NamespaceError),
    #[error(transparent)]
    Dev(#[from] DevError),
    #[error(
        "hypervisor NAME is {name:?}, which the configuration does not have; write one of {known}"
    )]
    Unknown { name: String, known: String },
    #[error("a hypervisor's address cannot be worked with")]
    Address(#[source] AddressError),
    #[error("could not start")]
    Runtime(#[source] io::Error),
    #[error("SINTER_LOG is no filter; write a level such as info")]
    Log(#[source] tracing_subscriber::filter::ParseError),
    #[error("could not write to standard output")]
    Print(#[source] io::Error),
}

impl Failure {
    /// As `--help` tells them.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Log(_) | Self::Unknown { .. } | Self::Address(_) => 2,
            Self::Export(ExportError::Running(_)) => 3,
            Self::Store(cause) | Self::Home(HomeError::Store(cause)) => of_store(cause),
            Self::Service(cause) | Self::Dev(DevError::Service(cause)) => of_service(cause),
            Self::Host(_) | Self::Dev(DevError::Machines(_)) => 5,
            Self::Dev(DevError::NotAsAsked(_)) => 6,
            _ => 1,
        }
    }
}

fn of_service(cause: &ServiceError) -> u8 {
    match cause {
        ServiceError::Home(HomeError::Store(cause)) => of_store(cause),
        ServiceError::Hypervisor(_) | ServiceError::Program(_) => 5,
        _ => 1,
    }
}

const fn of_store(cause: &StoreError) -> u8 {
    match cause {
        StoreError::Held { .. } => 3,
        StoreError::Damaged { .. } => 4,
        _ => 1,
    }
}
