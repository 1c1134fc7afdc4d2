//! `sinter-agent`: the program inside each virtual machine.

use std::{
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use agent::{
    config::{Config, ConfigError},
    driver,
    run::{self, RunError, become_humble},
};
use clap::{Parser, Subcommand};
use common::task::Chain;
use tracing_subscriber::EnvFilter;

/// Exit code for a configuration that cannot be used.
const BAD_CONFIG: u8 = 2;
/// Exit code of a launcher that did not become an application, as a shell has it.
const NOT_LAUNCHED: u8 = 126;

/// Looks into the guest it runs in, tells the aggregator, and applies its configuration lists.
///
/// It listens on no port and runs only what applications.toml says. Its log goes to standard
/// error; SINTER_LOG says how much (such as `debug`).
#[derive(Debug, Parser)]
#[command(name = "sinter-agent", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs until it is told to end (SIGTERM). The applications it started go on.
    Run {
        /// The agent's configuration.
        #[arg(long, default_value = "/etc/sinter/agent.toml")]
        config: PathBuf,
    },
    /// Checks agent.toml and the applications.toml it names. Exit code 2 if they cannot be used.
    CheckConfig {
        /// The agent's configuration.
        #[arg(long, default_value = "/etc/sinter/agent.toml")]
        config: PathBuf,
    },
    /// Becomes an application; the agent calls itself so.
    #[command(hide = true)]
    Launch {
        /// The application's folder.
        folder: PathBuf,
        /// Which start of it.
        instance: u64,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Launch { folder, instance } => match driver::launch(&folder, instance) {
            Ok(never) => match never {},
            Err(cause) => failed(NOT_LAUNCHED, &cause),
        },
        Command::CheckConfig { config } => match check(&config) {
            Ok(checked) => say(&checked),
            Err(cause) => failed(BAD_CONFIG, &cause),
        },
        Command::Run { config } => match run(&config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(RunError::Config(cause)) => failed(BAD_CONFIG, &cause),
            Err(cause) => failed(1, &cause),
        },
    }
}

fn check(path: &Path) -> Result<String, ConfigError> {
    let config = Config::read(path)?;
    let count = config.allow_list()?.names().count();
    let applies = if config.apply { "lists are applied" } else { "it only observes" };
    Ok(format!("{} can be used: {count} applications, {applies}", path.display()))
}

fn run(path: &Path) -> Result<(), RunError> {
    // While there is one thread: the others are as humble as the first.
    let former = become_humble();
    let filter = EnvFilter::try_from_env("SINTER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let config = Config::read(path)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    runtime.block_on(run::run(config, former))
}

fn say(line: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{line}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn failed(code: u8, cause: &dyn std::error::Error) -> ExitCode {
    // Nobody is left to tell when standard error is closed too.
    drop(writeln!(std::io::stderr(), "sinter-agent: {}", Chain(cause)));
    ExitCode::from(code)
}
