//! `sinter-agent`: the program inside each virtual machine.

use std::{
    io::{IsTerminal as _, Write as _},
    path::Path,
    process::ExitCode,
};

use agent::{
    config::{Config, ConfigError},
    doctor::{self, Verdict},
    driver,
    platform::{become_humble, keep_to_one_heap},
    run::{self, RunError},
    show::{self, Output, ShowError},
};
use clap::{CommandFactory as _, Parser as _};
use common::task::Chain;
use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::EnvFilter;

mod arguments;

use arguments::{Arguments, CONFIG, Command, Observe};

/// Exit code for a configuration that cannot be used.
const BAD_CONFIG: u8 = 2;
/// Exit code of a launcher that did not become an application, as a shell has it.
const NOT_LAUNCHED: u8 = 126;
/// Threads for work that waits on the disk or on /proc. Each has a heap of its own, and no such work waits
/// for other such work.
const WAITING_THREADS: usize = 4;

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
        Command::Observe(asked) => observe(&asked),
        Command::Doctor { config, output } => examine(&config, output),
        Command::Completion { shell } => {
            let mut out = std::io::stdout().lock();
            clap_complete::generate(shell, &mut Arguments::command(), "sinter-agent", &mut out);
            ExitCode::SUCCESS
        }
    }
}

fn check(path: &Path) -> Result<String, ConfigError> {
    let config = Config::read(path)?;
    let count = config.allow_list()?.names().count();
    let applies = if config.apply { "lists are applied" } else { "it only observes" };
    Ok(format!("{} can be used: {count} applications, {applies}", path.display()))
}

fn log(usual: &str) {
    let filter = EnvFilter::try_from_env("SINTER_LOG").unwrap_or_else(|_| EnvFilter::new(usual));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}

fn runtime() -> Result<Runtime, std::io::Error> {
    Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(WAITING_THREADS)
        .enable_all()
        .build()
}

fn run(path: &Path) -> Result<(), RunError> {
    keep_to_one_heap();
    // While there is one thread: the others are as humble as the first.
    let former = become_humble();
    log("info");
    let config = Config::read(path)?;
    runtime().map_err(RunError::Runtime)?.block_on(run::run(config, former))
}

fn observe(asked: &Observe) -> ExitCode {
    log("off");
    let path = asked.config.as_deref().unwrap_or(Path::new(CONFIG));
    let (config, note) = match Config::read(path) {
        Ok(config) => (Some(config), None),
        Err(cause) if asked.config.is_some() => return failed(BAD_CONFIG, &cause),
        Err(cause) if cause.is_missing() => (None, None),
        Err(cause) => (None, Some(format!("everything is as usual: {}", Chain(&cause)))),
    };
    let wishes = asked.wishes();
    let shown = show::observe(config.as_ref(), note, &wishes);
    match runtime() {
        Ok(runtime) => ended(runtime.block_on(shown), ExitCode::SUCCESS),
        Err(cause) => failed(1, &cause),
    }
}

fn examine(path: &Path, output: Output) -> ExitCode {
    log("off");
    let report = match runtime() {
        Ok(runtime) => runtime.block_on(doctor::examine(path)),
        Err(cause) => return failed(1, &cause),
    };
    let code = match report.worst() {
        _ if report.bad_configuration => ExitCode::from(BAD_CONFIG),
        Verdict::Fail => ExitCode::FAILURE,
        Verdict::Pass | Verdict::Warn => ExitCode::SUCCESS,
    };
    ended(show::report(&report, output), code)
}

fn ended(shown: Result<(), ShowError>, code: ExitCode) -> ExitCode {
    match shown {
        Ok(()) => code,
        Err(cause) if cause.is_broken_pipe() => code,
        Err(cause) => failed(1, &cause),
    }
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
