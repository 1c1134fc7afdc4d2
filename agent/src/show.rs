//! What a person at the machine asks for: what the agent sees now, and whether it can do its work. Tables
//! for people, JSON for scripts; nothing else of the agent writes to standard output.
//!
//! It needs no configuration, identity or aggregator, and leaves nothing behind.

use std::{
    io::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use clap::ValueEnum;
use common::{
    clock::{Clock as _, SystemClock, Timestamp},
    sample::{Observation, Software},
};
use thiserror::Error;

use crate::{
    config::Config,
    doctor::Report,
    observe::ObserveError,
    platform::{self, Ending},
};

mod checks;
mod json;
mod looking;
mod missing;
mod paper;
mod section;

use looking::Looking;
use paper::Paper;

/// Moves the cursor to the upper left corner.
const HOME: &str = "\x1b[H";
/// Clears the rest of a line, and what is below.
const REST_OF_LINE: &str = "\x1b[K";
const BELOW: &str = "\x1b[J";

/// A part of what the agent sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Section {
    /// The connection table.
    Connections,
    /// What happened on each edge since the first look.
    Flows,
    /// The applications, listed or not, with what they use.
    Applications,
    /// The processes.
    Processes,
    /// The services.
    Services,
    /// The guest's counters.
    Counters,
    /// How much software is installed, and which configuration was changed.
    Software,
    /// What names the guest and what it is made of.
    Facts,
    /// How much of what happened on connections was seen.
    Coverage,
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Tables for people.
    #[default]
    Table,
    /// One JSON document; with --watch one in each line.
    Json,
}

/// What is asked of `observe`.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// Only these parts; all if empty.
    pub only: Vec<Section>,
    /// How to write it.
    pub output: Output,
    /// Look again every so often until told to end.
    pub watch: Option<Duration>,
    /// Look a second time after that long, and show what the second look saw.
    pub after: Option<Duration>,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ShowError {
    /// The machine cannot be seen.
    #[error("could not see the machine")]
    Observe(#[from] ObserveError),
    /// Nobody takes the answer.
    #[error("could not write to standard output")]
    Write(#[from] io::Error),
    /// It is no JSON.
    #[error("could not write the answer as JSON")]
    Json(#[from] serde_json::Error),
    /// The system does not tell signals.
    #[error("could not hear signals")]
    Signals(#[source] io::Error),
}

impl ShowError {
    /// A reader that closes the pipe early, such as `head`, has all it wants.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        let of = |cause: &io::Error| cause.kind() == io::ErrorKind::BrokenPipe;
        match self {
            Self::Write(cause) => of(cause),
            Self::Json(cause) => cause.io_error_kind() == Some(io::ErrorKind::BrokenPipe),
            _ => false,
        }
    }
}

/// One look, with what is to be said beside it.
#[derive(Debug)]
struct Seen {
    taken_at: Timestamp,
    /// Time since the first look; `None` if it is the first one.
    over: Option<Duration>,
    observation: Observation,
    /// `None` if it was not read.
    software: Option<Arc<Software>>,
    /// What could not be seen, for people.
    missing: Vec<String>,
}

/// Looks at the machine and writes what it sees. `config` says where and how to look, and `note` why there
/// is none.
///
/// # Errors
///
/// See [`ShowError`].
pub async fn observe(
    config: Option<&Config>,
    note: Option<String>,
    wishes: &Wishes,
) -> Result<(), ShowError> {
    let reads_software = wishes.only.is_empty() || wishes.only.contains(&Section::Software);
    let mut looking = Looking::new(config, note, reads_software);
    let mut ending = Ending::listen().map_err(ShowError::Signals)?;
    let pause = wishes.watch.or(wishes.after);
    let mut seen = looking.look(SystemClock.now()).await?;
    if wishes.after.is_none() {
        write(&seen, wishes)?;
    }
    let Some(pause) = pause else { return Ok(()) };
    loop {
        tokio::select! {
            () = ending.told() => return leave(wishes),
            rested = looking.rest(pause) => rested?,
        }
        seen = looking.look(SystemClock.now()).await?;
        write(&seen, wishes)?;
        if wishes.watch.is_none() {
            return Ok(());
        }
    }
}

/// Writes what the doctor found.
///
/// # Errors
///
/// See [`ShowError`].
pub fn report(report: &Report, output: Output) -> Result<(), ShowError> {
    match output {
        Output::Json => document(report, false),
        Output::Table => text(&checks::text(&Paper::of_terminal(), report)),
    }
}

fn write(seen: &Seen, wishes: &Wishes) -> Result<(), ShowError> {
    if wishes.output == Output::Json {
        return document(&json::Document::new(seen, &wishes.only), wishes.watch.is_some());
    }
    let paper = Paper::of_terminal();
    let size = platform::terminal().filter(|_| wishes.watch.is_some());
    let most = size.map(|size| usize::from(size.lines).saturating_sub(1));
    let said = section::text(&paper, seen, &wishes.only, most);
    if size.is_none() {
        return text(&said);
    }
    // Written over what was there: a screen that is cleared first flickers.
    let lines = said.replace('\n', &format!("{REST_OF_LINE}\n"));
    text(&format!("{HOME}{lines}{BELOW}"))
}

fn document(value: &impl serde::Serialize, is_one_of_many: bool) -> Result<(), ShowError> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    if is_one_of_many {
        serde_json::to_writer(&mut out, value)?;
    } else {
        serde_json::to_writer_pretty(&mut out, value)?;
    }
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

fn text(text: &str) -> Result<(), ShowError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// The shell's prompt shall not stand behind `^C`.
fn leave(wishes: &Wishes) -> Result<(), ShowError> {
    if wishes.output == Output::Table { text("\n") } else { Ok(()) }
}
