//! What a look at use between two samples costs, which is made every second.

use std::{
    thread,
    time::{Duration, Instant},
};

use agent::observe::{Inputs, LinuxObserver, Observe as _, Rule, Rules, Settings};
use common::clock::{Clock as _, SystemClock};
use serde::{Deserialize, Serialize};

use super::floors::used;
use crate::figure::{Failure, Row};

/// Ticks measured.
const TICKS: u32 = 20;

/// A tick right after the one before is left out where it would cost too much; the agent makes one a second.
const BETWEEN: Duration = Duration::from_millis(500);

/// Beside what.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Beside {
    pub(super) processes: usize,
    /// The catalogue lists them all; none if not.
    are_listed: bool,
}

/// What is measured.
pub(super) const ALL: [Beside; 4] = [
    Beside { processes: 200, are_listed: false },
    Beside { processes: 200, are_listed: true },
    Beside { processes: 2_000, are_listed: false },
    Beside { processes: 2_000, are_listed: true },
];

/// What one tick cost.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Ticked {
    beside: Beside,
    cpu_ms: f64,
}

/// Looks at the processes that are there.
pub(super) fn measure(beside: Beside) -> Result<Ticked, Failure> {
    let sleepers = Rule {
        application: "sleepers".parse()?,
        executable: Some("/usr/bin/sleep".to_owned()),
        unit: None,
        port: None,
    };
    let rules = if beside.are_listed { vec![sleepers] } else { Vec::new() };
    let inputs = Inputs { rules: Rules(rules), ..Inputs::default() };
    let mut observer = LinuxObserver::new(Settings::default());
    // At the first look a process may be a copy that is about to become another program.
    for _ in 0..2 {
        observer.observe(&inputs, SystemClock.now())?;
    }
    let mut spent = Duration::ZERO;
    for _ in 0..TICKS {
        let due = Instant::now() + BETWEEN;
        let before = used()?;
        observer.tick(&inputs)?;
        spent += used()?.saturating_sub(before);
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(Ticked { beside, cpu_ms: spent.as_secs_f64() * 1_000.0 / f64::from(TICKS) })
}

impl Ticked {
    pub(super) fn row(&self) -> Row {
        let Beside { processes, are_listed } = self.beside;
        let which = if are_listed { "all listed" } else { "none listed" };
        Row::new(format!("CPU of a tick, {processes} processes, {which}"), self.cpu_ms, "ms")
    }
}
