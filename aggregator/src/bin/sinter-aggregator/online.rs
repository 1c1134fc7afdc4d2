//! The service and the demonstration: both prepare the process while it has one thread, then start
//! the runtime.

use std::{future::Future, io::IsTerminal as _, process::ExitCode, sync::Arc};

use aggregator::{
    config::{Config, HypervisorConfig},
    dev::{self, Options},
    hypervisor::namespace::NamespaceHypervisor,
    service,
};
use common::clock::SystemClock;

use crate::{
    arguments::{ConfigFile, Dev, LogFormat},
    failure::Failure,
    logging,
};

fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    Ok(runtime.map_err(Failure::Runtime)?.block_on(work))
}

/// Runs the service.
pub(crate) fn run(file: &ConfigFile, format: LogFormat) -> Result<ExitCode, Failure> {
    let config = Config::read(&file.path)?;
    logging::begin(format, "info")?;
    if let HypervisorConfig::Namespace { folder } = &config.hypervisor {
        NamespaceHypervisor::prepare_process(folder)?;
    }
    block_on(service::run(&config, Arc::new(SystemClock)))??;
    Ok(ExitCode::SUCCESS)
}

/// Shows the demonstration.
pub(crate) fn dev(dev: &Dev, format: LogFormat) -> Result<ExitCode, Failure> {
    // The story is told on standard output; of the log only what somebody must act on.
    logging::begin(format, "error")?;
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let options = Options {
        machines: dev.machines,
        approve: dev.approve,
        once: dev.once,
        break_at: dev.break_at.map(Into::into),
        kill_after_event: dev.kill_after_event,
        resume: dev.resume,
        coloured: std::io::stdout().is_terminal() && !plain,
        // Asked before the process gets a user namespace, in which it is somebody else.
        folder: dev::folder(),
    };
    let held = dev::hold(&options)?;
    NamespaceHypervisor::prepare_process(&dev::machines_folder(&options.folder))?;
    block_on(dev::run(&options, held, Arc::new(SystemClock)))??;
    Ok(ExitCode::SUCCESS)
}
