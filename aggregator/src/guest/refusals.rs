//! Bad input, counted by whose it is and what is wrong with it.

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{Mutex, PoisonError},
};

use common::id::AgentId;
use tracing::warn;

use super::Refusal;

/// Most pairs of agent and name that are kept apart; what goes beyond is counted under no agent.
const MOST_KEYS: usize = 20_000;

/// All counts.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<BTreeMap<(Option<AgentId>, &'static str), u64>>);

impl Refusals {
    /// Counts one, and says so the first time and then ever more rarely: a flood of bad messages
    /// must not become a flood of lines.
    pub(super) fn count(&self, agent: Option<&AgentId>, name: &'static str, told: impl Display) {
        let count = {
            let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let mut key = (agent.cloned(), name);
            if counts.len() >= MOST_KEYS && !counts.contains_key(&key) {
                key.0 = None;
            }
            let count = counts.entry(key).or_default();
            *count += 1;
            *count
        };
        if count.is_power_of_two() {
            let agent = agent.map_or("none", AgentId::as_str);
            warn!(agent, name, count, cause = %told, "bad input refused");
        }
    }

    pub(super) fn all(&self) -> Vec<Refusal> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let refusal = |((agent, name), count): (&(Option<AgentId>, &'static str), &u64)| Refusal {
            agent: agent.clone(),
            name,
            count: *count,
        };
        counts.iter().map(refusal).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_bounded_and_no_count_is_lost() {
        let refusals = Refusals::default();
        let many = MOST_KEYS as u64 + 500;
        for index in 0..many {
            let agent = format!("a-{index}").parse().unwrap();
            refusals.count(Some(&agent), "bad_sample", "");
        }
        let all = refusals.all();
        assert!(all.len() <= MOST_KEYS + 1);
        assert_eq!(all.iter().map(|refusal| refusal.count).sum::<u64>(), many);
    }
}
