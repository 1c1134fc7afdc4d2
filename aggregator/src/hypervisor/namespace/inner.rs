//! What this program is when it is called as one of its own inner parts. These run with one
//! thread until they have set themselves up: only such a process may change its namespaces.

mod keeper;
mod view;
mod machine;
mod visitor;
mod probe;
mod load;
mod stand_in;

pub(super) use self::{
    machine::Order as MachineOrder, probe::Order as ProbeOrder, visitor::Order as VisitorOrder,
};

use std::{
    env,
    fs::File,
    io::{self, BufRead, Write},
    path::PathBuf,
    process::{Command, ExitCode},
};

use common::task::Chain;
use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::prctl,
    unistd::{dup2_stdin, dup2_stdout, setsid},
};
use serde::de::DeserializeOwned;

use super::{Attempt, NamespaceError, launch::INNER, process};

/// Longest order; far above what a probe of many targets takes.
const MAX_ORDER: u64 = 4 << 20;

/// The inner part that was called, if one was.
pub(super) fn main() -> Option<ExitCode> {
    let mut arguments = env::args_os().skip(1);
    if arguments.next()? != INNER {
        return None;
    }
    let arguments: Vec<String> =
        arguments.map(|argument| argument.to_string_lossy().into_owned()).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["keep", folder] => keeper::start(folder),
        ["keeper", folder] => keeper::run(&PathBuf::from(folder)),
        ["enter", keeper, part] => enter(keeper, part),
        ["alone", part] => alone(part),
        ["unshare", part] => apart(part),
        ["machine"] => machine::run(),
        ["visitor"] => visitor::run(),
        ["probe"] => probe::run(),
        ["exec", delay_ms, program, rest @ ..] => machine::exec(delay_ms, program, rest),
        _ => Err(NamespaceError::refused("no such inner part")),
    };
    Some(match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    })
}

/// Tells whoever started us, and the log, why it came to nothing.
fn complain(error: &NamespaceError) {
    let line = Chain(error).to_string().replace('\n', " ");
    let told = say(&format!("failed: {line}"));
    let logged = writeln!(io::stderr(), "{line}");
    // Nobody is left to tell if both fail; the exit code remains.
    drop((told, logged));
}

/// One line to whoever started us.
fn say(line: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush()
}

fn name(title: &std::ffi::CStr) -> Result<(), NamespaceError> {
    prctl::set_name(title).or_could_not(|| "take a name".to_owned())
}

/// This program again, with our own input and output.
fn again(arguments: &[&str]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg(INNER).args(arguments);
    command
}

/// Steps into the keeper's PID namespace: not this process, but its child is in it.
fn enter(keeper: &str, part: &str) -> Result<(), NamespaceError> {
    // The terminal's Ctrl-C is for the aggregator, which decides what becomes of machines.
    setsid().or_could_not(|| "leave the session".to_owned())?;
    let path = format!("/proc/{keeper}/ns/pid");
    let pidns = File::open(&path).or_could_not(|| format!("open {path}"))?;
    setns(pidns, CloneFlags::CLONE_NEWPID)
        .or_could_not(|| "enter the keeper's PID namespace".to_owned())?;
    let ended = again(&["unshare", part]).status();
    match ended.or_could_not(|| format!("start a {part}"))?.success() {
        true => Ok(()),
        false => Err(NamespaceError::refused(format!("a {part} did not start"))),
    }
}

/// Starts a part below nobody.
fn alone(part: &str) -> Result<(), NamespaceError> {
    setsid().or_could_not(|| "leave the session".to_owned())?;
    apart(part)
}

/// Makes the namespaces of a part and starts it in them.
fn apart(part: &str) -> Result<(), NamespaceError> {
    let network = CloneFlags::CLONE_NEWNET;
    let namespaces = match part {
        "machine" => {
            network
                | CloneFlags::CLONE_NEWPID
                | CloneFlags::CLONE_NEWNS
                | CloneFlags::CLONE_NEWUTS
                | CloneFlags::CLONE_NEWIPC
        }
        _ => network,
    };
    unshare(namespaces).or_could_not(|| format!("make the namespaces of a {part}"))?;
    leave(again(&[part]))
}

/// Starts a process that outlives this one.
fn leave(mut command: Command) -> Result<(), NamespaceError> {
    // Not waited for: its parent will be the keeper, which reaps it.
    let started = command.spawn();
    started.map(drop).or_could_not(|| "start an inner part".to_owned())
}

/// Says our number and waits for the order.
fn order<T: DeserializeOwned>() -> Result<T, NamespaceError> {
    let what = || "take an order".to_owned();
    let own = process::own_pid().or_could_not(what)?;
    say(&format!("pid {own}")).or_could_not(what)?;
    let mut line = String::new();
    let mut input = io::Read::take(io::stdin().lock(), MAX_ORDER);
    input.read_line(&mut line).or_could_not(what)?;
    serde_json::from_str(&line).map_err(io::Error::other).or_could_not(what)
}

/// Says that all is set up, and lets go of whoever started us; output goes to the log from now on.
fn ready() -> Result<(), NamespaceError> {
    let what = || "let go of the starter".to_owned();
    say("ready").or_could_not(what)?;
    dup2_stdout(io::stderr()).or_could_not(what)?;
    let nothing = File::open("/dev/null").or_could_not(what)?;
    dup2_stdin(nothing).or_could_not(what)
}
