//! `sinterctl`: the command line of the operators.

use std::{io::Write as _, process::ExitCode, time::Duration};

use clap::{CommandFactory as _, Parser as _};
use common::task::Chain;

mod arguments;
mod call;
mod context;
mod failure;
mod print;
mod show;

use arguments::{Arguments, Command};
use failure::Failure;
use print::Printer;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Command::Completion { shell } = arguments.command {
        let mut out = std::io::stdout().lock();
        clap_complete::generate(shell, &mut Arguments::command(), "sinterctl", &mut out);
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(run(&arguments)),
        Err(cause) => Err(Failure::Runtime(cause)),
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
