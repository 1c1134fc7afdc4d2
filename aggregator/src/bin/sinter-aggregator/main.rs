//! `sinter-aggregator`: the central service, its demonstration, and what is done with its folder
//! while it is not running.

use std::{io::Write as _, process::ExitCode};

use aggregator::hypervisor::namespace::NamespaceHypervisor;
use clap::Parser as _;
use common::task::Chain;

mod arguments;
mod failure;
mod logging;
mod offline;
mod online;
mod rights;

use arguments::{Arguments, Command};
use failure::Failure;

fn main() -> ExitCode {
    // A machine's first process, the network's keeper and a probe are this program too.
    if let Some(code) = NamespaceHypervisor::inner_main() {
        return code;
    }
    let arguments = Arguments::parse();
    match done(&arguments) {
        Ok(code) => code,
        Err(failure) => {
            // Nobody is left to tell when standard error is closed too.
            drop(writeln!(std::io::stderr(), "sinter-aggregator: {}", Chain(&failure)));
            ExitCode::from(failure.exit_code())
        }
    }
}

fn done(arguments: &Arguments) -> Result<ExitCode, Failure> {
    match &arguments.command {
        Command::Run { config } => online::run(config, arguments.log_format),
        Command::Dev(dev) => online::dev(dev, arguments.log_format),
        Command::CheckConfig { config } => offline::check(config),
        Command::Check(asked) => rights::check(asked, arguments.log_format),
        Command::Store(store) => offline::store(store),
        Command::Records(records) => offline::records(records),
        Command::User(user) => offline::user(user),
        Command::Authority(authority) => offline::authority(authority),
        Command::Completion { shell } => Ok(offline::completion(*shell)),
    }
}
