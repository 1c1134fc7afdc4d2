//! A figure: rows of values with what they are held against.

use std::fmt;

use serde::Serialize;

/// What another program, or the least anybody could spend, took in the same run.
#[derive(Debug, Clone, Serialize)]
pub struct Peer {
    /// Which.
    pub name: String,
    /// Its value, in the row's unit.
    pub value: f64,
}

/// What a value should be.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "value")]
pub enum Target {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
    /// This or less, times the peer.
    AtMostOfPeer(f64),
    /// This or more, times the peer.
    AtLeastOfPeer(f64),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(value) => write!(f, "<= {}", short(*value)),
            Self::AtLeast(value) => write!(f, ">= {}", short(*value)),
            Self::AtMostOfPeer(value) => write!(f, "<= {} x peer", short(*value)),
            Self::AtLeastOfPeer(value) => write!(f, ">= {} x peer", short(*value)),
        }
    }
}

/// One value.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// Beside what.
    pub peer: Option<Peer>,
    /// What it should be; `None` if it is only told.
    pub target: Option<Target>,
}

impl Row {
    /// A value that is only told.
    #[must_use]
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, peer: None, target: None }
    }

    /// Beside a peer's.
    #[must_use]
    pub fn beside(mut self, name: impl Into<String>, value: f64) -> Self {
        self.peer = Some(Peer { name: name.into(), value });
        self
    }

    /// Held against a target.
    #[must_use]
    pub fn held_to(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// This value as a share of the peer's.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        self.peer.as_ref().filter(|peer| peer.value != 0.0).map(|peer| self.value / peer.value)
    }

    /// Whether it is as it should be; `None` without a target, or if the peer it needs is absent.
    #[must_use]
    pub fn met(&self) -> Option<bool> {
        let met = match self.target? {
            Target::AtMost(limit) => self.value <= limit,
            Target::AtLeast(limit) => self.value >= limit,
            Target::AtMostOfPeer(limit) => self.ratio()? <= limit,
            Target::AtLeastOfPeer(limit) => self.ratio()? >= limit,
        };
        Some(met)
    }
}

/// Why a figure could not be taken.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What `sinter-lab NAME` measures.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it says, in a line.
    pub about: &'static str,
    /// Takes it. Blocks; a figure starts whatever runtime it needs.
    pub measure: fn() -> Result<Vec<Row>, Failure>,
}

/// Few digits, however large the value.
#[must_use]
pub fn short(value: f64) -> String {
    let size = value.abs();
    if size >= 1000.0 || (value.fract() == 0.0 && size < 1e9) {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 0.1 || size == 0.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

/// The sizes that `SINTER_LAB_SIZES` names, such as `100,1000`; those usual for the figure if it is not
/// set.
///
/// # Errors
///
/// If one of them is no number.
pub fn sizes(usual: &[usize]) -> Result<Vec<usize>, Failure> {
    let Ok(written) = std::env::var("SINTER_LAB_SIZES") else { return Ok(usual.to_vec()) };
    let sizes = written.split(',').map(|size| {
        let number = size.trim().parse();
        number
            .map_err(|_| format!("SINTER_LAB_SIZES has {size:?}; write numbers with commas").into())
    });
    sizes.collect()
}

/// CPU time this process has used so far, in seconds.
#[must_use]
pub fn own_cpu_seconds() -> f64 {
    use nix::sys::resource::{UsageWho, getrusage};
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return f64::NAN };
    let seconds = |time: nix::sys::time::TimeVal| {
        #[expect(clippy::cast_precision_loss, reason = "seconds of one process")]
        let whole = time.tv_sec() as f64;
        #[expect(clippy::cast_precision_loss, reason = "below a million")]
        let part = time.tv_usec() as f64;
        whole + part / 1e6
    };
    seconds(usage.user_time()) + seconds(usage.system_time())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_of_the_peer_needs_the_peer() {
        let row = Row::new("x", 2.0, "s").held_to(Target::AtMostOfPeer(1.5));
        assert_eq!(row.met(), None);
        assert_eq!(row.clone().beside("floor", 1.0).met(), Some(false));
        assert_eq!(row.beside("floor", 1.5).met(), Some(true));
    }

    #[test]
    fn a_missed_target_is_not_met() {
        assert_eq!(Row::new("x", 5.1, "s").held_to(Target::AtMost(5.0)).met(), Some(false));
    }
}
