//! What the agent may cost: the `[budget]` of agent.toml.

use std::time::Duration;

use common::units::{Bytes, Millicores};
use serde::Deserialize;

use super::{ConfigError, bad};

/// What the agent may use. Nothing stops it there: it leaves out, measure by measure, until it fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// CPU, as a mean over [`Budget::over`].
    pub cpu: Millicores,
    /// Resident memory.
    pub memory: Bytes,
    /// The span that CPU is counted over.
    pub over: Duration,
}

/// The table as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Written {
    cpu_percent: f64,
    memory_mib: u64,
    over_seconds: u64,
}

impl Default for Written {
    fn default() -> Self {
        Self { cpu_percent: 1.0, memory_mib: 32, over_seconds: 60 }
    }
}

impl Written {
    pub(super) fn check(&self) -> Result<Budget, ConfigError> {
        let percent = self.cpu_percent;
        if !(0.1..=100.0).contains(&percent) {
            let remedy = "give per cent of one core, 0.1 to 100";
            return Err(bad("budget.cpu_percent", percent.to_string(), remedy));
        }
        if !(8..=1024).contains(&self.memory_mib) {
            return Err(bad("budget.memory_mib", self.memory_mib.to_string(), "give 8 to 1024"));
        }
        if !(5..=600).contains(&self.over_seconds) {
            return Err(bad("budget.over_seconds", self.over_seconds.to_string(), "give 5 to 600"));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is between 1 and 1000"
        )]
        let cpu = Millicores((percent * 10.0).round() as u64);
        let over = Duration::from_secs(self.over_seconds);
        Ok(Budget { cpu, memory: Bytes::mebi(self.memory_mib), over })
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self { cpu: Millicores(10), memory: Bytes::mebi(32), over: Duration::from_mins(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Budget, ConfigError> {
        toml::from_str::<Written>(text).unwrap().check()
    }

    #[test]
    fn what_is_not_said_is_one_per_cent_and_32_mebibytes_over_a_minute() {
        assert_eq!(read("").unwrap(), Budget::default());
        assert_eq!(read("cpu_percent = 0.5").unwrap().cpu, Millicores(5));
    }

    #[test]
    fn what_nobody_could_keep_to_is_refused_by_name() {
        for line in ["cpu_percent = 0", "cpu_percent = nan", "memory_mib = 4", "over_seconds = 1"] {
            let error = read(line).unwrap_err().to_string();
            let field = line.split(' ').next().unwrap();
            assert!(error.starts_with(&format!("budget.{field}")), "{error}");
        }
    }
}
