//! What it costs that the kernel tells who opens a connection: the attempt itself, and the agent.
//!
//! Measured outside namespaces: the kernel tells processes by the numbers they have there.

use std::{
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
};

use agent::{
    config::Scope,
    observe::{Inputs, LinuxObserver, Observe as _, Settings},
};
use common::clock::{Clock as _, SystemClock};

use super::floors::used;
use crate::figure::{Failure, Row};

/// Attempts measured. More than a look takes in are not made between two.
const ATTEMPTS: u32 = 2_000;

/// Attempts that are refused, with openings untold and told, and what the agent spends on each told one; nothing,
/// said loudly, where the kernel does not tell them.
pub(super) fn measure() -> Result<Vec<Row>, Failure> {
    let Some((told, heard)) = with(true)? else { return Ok(Vec::new()) };
    let Some((silent, _)) = with(false)? else { return Ok(Vec::new()) };
    Ok(vec![
        Row::new("CPU of a refused attempt, openings told", told, "us")
            .beside("openings not told", silent),
        Row::new("CPU of the agent for such an attempt", heard, "us"),
    ])
}

/// CPU of an attempt, and of the agent for it, in microseconds.
fn with(openings: bool) -> Result<Option<(f64, f64)>, Failure> {
    // A port that was somebody's a moment ago is nobody's now.
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let scope = Scope { openings, ..Scope::default() };
    let mut observer = LinuxObserver::new(Settings { scope, ..Settings::default() });
    let inputs = Inputs::default();
    let seen = observer.observe(&inputs, SystemClock.now())?;
    let are_told = seen.coverage.is_some_and(|coverage| coverage.opens_are_told);
    if openings && !are_told {
        let why = seen.facts.connections_source;
        writeln!(io::stderr(), "LEFT OUT: openings are not told here: {why}")?;
        return Ok(None);
    }
    attempt(nobody)?;
    observer.tick(&inputs)?;
    let attempts = each(&mut || attempt(nobody))?;
    let heard = each(&mut || Ok(observer.tick(&inputs)?))?;
    Ok(Some((attempts, heard)))
}

fn attempt(nobody: SocketAddr) -> Result<(), Failure> {
    for _ in 0..ATTEMPTS {
        if TcpStream::connect(nobody).is_ok() {
            return Err(format!("somebody listens on {nobody}").into());
        }
    }
    Ok(())
}

fn each(work: &mut dyn FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
    let before = used()?;
    work()?;
    Ok(used()?.saturating_sub(before).as_secs_f64() * 1e6 / f64::from(ATTEMPTS))
}
