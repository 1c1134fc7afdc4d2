//! What is done with the aggregator's folder from outside.

use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use aggregator::{
    config::{Config, HypervisorConfig},
    repository::{SalvagedTable, Table, salvage},
    service::{self, Operator},
};
use clap::CommandFactory as _;
use common::clock::{Clock as _, SystemClock};

use crate::{
    arguments::{Arguments, Authority, ConfigFile, Records, Store, User},
    failure::Failure,
};

fn line(text: &str) -> Result<(), Failure> {
    writeln!(io::stdout(), "{text}").map_err(Failure::Print)
}

/// Says that a configuration can be worked with.
pub(crate) fn check(file: &ConfigFile) -> Result<ExitCode, Failure> {
    let config = Config::read(&file.path)?;
    line(&format!("{} is right", file.path.display()))?;
    line(&format!("  folder      {}", config.folder.display()))?;
    line(&format!("  agents      {}", config.agents))?;
    line(&format!("  operators   {}", config.admin))?;
    match &config.hypervisor {
        HypervisorConfig::Namespace { folder: machines } => {
            line(&format!("  hypervisor  namespace, machines in {}", machines.display()))?;
        }
        HypervisorConfig::Libvirt { hosts } => {
            for host in hosts {
                line(&format!("  hypervisor  {}: {}", host.name, host.address))?;
            }
        }
        HypervisorConfig::Vsphere { centres } => {
            for centre in centres {
                line(&format!("  hypervisor  {}: {}", centre.name, centre.address.url))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn store(command: &Store) -> Result<ExitCode, Failure> {
    let Store::Salvage { damaged, out } = command;
    salvaged(damaged, out)
}

fn salvaged(damaged: &Path, out: &Path) -> Result<ExitCode, Failure> {
    let salvaged = salvage(damaged, out)?;
    line(&format!(
        "{:16}{:>8}  {:>10}  {}",
        "TABLE", "COPIED", "UNREADABLE", "OF WHAT WAS WRITTEN"
    ))?;
    for (table, told) in &salvaged.tables {
        line(&row(*table, told))?;
    }
    if salvaged.is_whole() {
        line(&format!("{} holds all that was written", out.display()))?;
    } else {
        line(&format!(
            "{} holds what was readable; a table that is not whole may lack values or hold older \
             ones. Put it in the place of {} and start the aggregator",
            out.display(),
            damaged.display()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(table: Table, told: &SalvagedTable) -> String {
    let written = match (told.is_whole, told.written) {
        (true, _) => "all".to_owned(),
        (false, Some(written)) => format!("not all: {written} were written"),
        (false, None) => "not known".to_owned(),
    };
    format!("{:16}{:>8}  {:>10}  {written}", table.to_string(), told.copied, told.unreadable)
}

/// Writes the records of the store to tables.
pub(crate) fn records(command: &Records) -> Result<ExitCode, Failure> {
    let Records::Export { out, format, last, config } = command;
    let config = Config::read(&config.path)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Failure::Runtime)?;
    let counts = runtime.block_on(service::export(&config.folder, out, (*format).into(), *last))?;
    let told: Vec<String> =
        counts.iter().map(|(table, count)| format!("{count} {table}")).collect();
    line(&format!("{} written to {}", told.join(", "), out.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Issues an operator's certificate.
pub(crate) fn user(command: &User) -> Result<ExitCode, Failure> {
    let User::Create { name, role, out, address, config } = command;
    let config = Config::read(&config.path)?;
    let authority = service::authority_of(&config.folder)?;
    let address = address.clone().unwrap_or_else(|| service::reachable(config.admin));
    let operator = Operator { name: name.clone(), role: (*role).into(), address };
    let context = service::write_operator(out, &authority, &operator, SystemClock.now())?;
    line(&format!("sinterctl --context-file {} vms", context.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Tells what agents shall trust.
pub(crate) fn authority(command: &Authority) -> Result<ExitCode, Failure> {
    let Authority::Fingerprint { config } = command;
    let config = Config::read(&config.path)?;
    let authority = service::authority_of(&config.folder)?;
    line(&service::fingerprint(&config.folder, &authority)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a completion script.
pub(crate) fn completion(shell: clap_complete::Shell) -> ExitCode {
    let mut out = io::stdout().lock();
    clap_complete::generate(shell, &mut Arguments::command(), "sinter-aggregator", &mut out);
    ExitCode::SUCCESS
}
