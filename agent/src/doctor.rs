//! Looks whether this guest lets the agent do all it can, and says what to do where it does not.
//!
//! Every check says what was found; one that is not passed says also what that costs and what to do. A check
//! that cannot be made is a warning, never a pass. Nothing is changed, and a running agent is not disturbed:
//! what it holds is said to be in use.

use std::path::Path;

use common::{clock::SystemClock, task::Chain};
use serde::Serialize;

use crate::config::Config;

#[cfg(target_os = "linux")]
mod linux;
mod reach;
mod state;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// The agent works, and less is seen or known.
    Warn,
    /// The agent does not do its work.
    Fail,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What that costs; `None` if nothing.
    pub cost: Option<String>,
    /// What to do; `None` if nothing.
    pub remedy: Option<String>,
}

impl Check {
    fn pass(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Pass, found: found.into(), cost: None, remedy: None }
    }

    fn warn(name: &'static str, found: impl Into<String>, cost: &str, remedy: &str) -> Self {
        let (cost, remedy) = (Some(cost.to_owned()), Some(remedy.to_owned()));
        Self { name, verdict: Verdict::Warn, found: found.into(), cost, remedy }
    }

    fn fail(name: &'static str, found: impl Into<String>, cost: &str, remedy: &str) -> Self {
        Self { verdict: Verdict::Fail, ..Self::warn(name, found, cost, remedy) }
    }
}

/// All checks of one guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The checks, in the order in which they depend on each other.
    pub checks: Vec<Check>,
    /// The configuration cannot be used; what depends on it was not checked.
    pub bad_configuration: bool,
}

impl Report {
    /// The worst verdict of all.
    #[must_use]
    pub fn worst(&self) -> Verdict {
        self.checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Pass)
    }
}

/// Makes every check; `path` is the agent's configuration.
pub async fn examine(path: &Path) -> Report {
    let (configuration, config) = configuration(path);
    let mut checks = configuration;
    #[cfg(target_os = "linux")]
    checks.extend(linux::checks().await);
    if let Some(config) = &config {
        checks.extend(state::checks(config, &SystemClock));
        checks.extend(reach::checks(config, &SystemClock).await);
    }
    Report { checks, bad_configuration: config.is_none() }
}

fn configuration(path: &Path) -> (Vec<Check>, Option<Config>) {
    let name = "configuration";
    let cost = "the agent does not start";
    let config = match Config::read(path) {
        Ok(config) => config,
        Err(cause) => {
            let remedy = "mend the file; packaging/samples/agent.toml has every field";
            return (vec![Check::fail(name, Chain(&cause).to_string(), cost, remedy)], None);
        }
    };
    match config.allow_list() {
        Ok(list) => {
            let count = list.names().count();
            let applies = if config.apply { "lists are applied" } else { "it only observes" };
            let found = format!("{}: {count} applications, {applies}", path.display());
            (vec![Check::pass(name, found)], Some(config))
        }
        Err(cause) => {
            let remedy = "mend the file; packaging/samples/applications.toml has every field";
            (vec![Check::fail(name, Chain(&cause).to_string(), cost, remedy)], None)
        }
    }
}
