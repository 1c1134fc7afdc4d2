//! What a hypervisor lets us do, found out before anything depends on it.
//!
//! Nothing is changed for it: rights to act are asked for where the vendor tells them, and else
//! shown by acts that leave all as it is. What could not be found out is unknown, which is not
//! granted.

use async_trait::async_trait;
use serde::Serialize;

/// What a right is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Need {
    /// To speak with it at all.
    Reach,
    /// To see what is there and what it does.
    Observe,
    /// To clone, try, promote and take back.
    Act,
}

/// Whether we have a right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "standing", content = "why", rename_all = "lowercase")]
pub enum Standing {
    /// We have it.
    Granted,
    /// We have not; in the vendor's words.
    Missing(String),
    /// Nobody told; why not.
    Unknown(String),
}

/// One right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is needed for.
    pub need: Need,
    /// Which, as the vendor calls it.
    pub what: String,
    /// Whether we have it.
    #[serde(flatten)]
    pub standing: Standing,
    /// What does not work without it.
    pub cost: String,
}

impl Finding {
    /// Of a right that costs something where it lacks.
    pub(crate) fn new(
        need: Need,
        what: impl Into<String>,
        standing: Standing,
        cost: impl Into<String>,
    ) -> Self {
        Self { need, what: what.into(), standing, cost: cost.into() }
    }

    /// Whether we have it, which nobody may assume.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        self.standing == Standing::Granted
    }
}

/// Whoever can say what we may do at one hypervisor.
#[async_trait]
pub trait Check: Send + Sync {
    /// Every right that is documented, each with whether we have it. Ends early where nothing
    /// further can be asked.
    async fn check(&self) -> Vec<Finding>;
}
