//! `sinterctl`: the command line of the operators.

use std::{io::Write as _, process::ExitCode, time::Duration};

use clap::{CommandFactory as _, Parser as _};
use common::task::Chain;

mod analyse;
mod arguments;
mod call;
mod context;
mod failure;
mod import;
mod print;
mod records;
mod show;

use arguments::{Arguments, Command, Output, RecordsCommand};
use failure::Failure;
use print::Printer;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Command::Completion { shell } = arguments.command {
        let mut out = std::io::stdout().lock();
        clap_complete::generate(shell, &mut Arguments::command(), "sinterctl", &mut out);
        return ExitCode::SUCCESS;
    }
    let done = match &arguments.command {
        Command::Import(import) => import::import(&arguments.global, import),
        Command::Records(RecordsCommand::Import(import)) => {
            records::import(&arguments.global, import)
        }
        Command::Records(RecordsCommand::Schema) => records::schema(&arguments.global),
        Command::Analyse(wanted) => analyse::analyse(&arguments.global, wanted),
        _ => call(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that closes the pipe early, such as `head`, has all it wants.
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody is left to tell when standard error is closed too.
            drop(writeln!(std::io::stderr(), "sinterctl: {}", Chain(&failure)));
            ExitCode::from(failure.exit_code())
        }
    }
}

fn call(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.global.output == Output::Csv {
        return Err(Failure::Words("-o csv goes with import; use -o json".into()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Failure::Runtime)?.block_on(run(arguments))
}

async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let printer = Printer::new(&arguments.global);
    let Some(seconds) = arguments.global.watch else {
        let channel = context::connect(&arguments.global).await?;
        return interruptible(call::once(channel, &printer, &arguments.command)).await;
    };
    if !arguments.command.may_be_repeated() {
        return Err(Failure::Words("--watch goes with commands that only show something".into()));
    }
    let channel = context::connect(&arguments.global).await?;
    let rounds = async {
        let mut pause = tokio::time::interval(Duration::from_secs(seconds.max(1)));
        loop {
            pause.tick().await;
            printer.clear()?;
            call::once(channel.clone(), &printer, &arguments.command).await?;
        }
    };
    interruptible(rounds).await
}

/// Ctrl-C ends a command that shows something as well as its natural end does.
async fn interruptible(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::select! {
        done = work => done,
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Failure::Runtime),
    }
}
