//! The agent's own budget while it runs: asks what it used, and says it when it begins or ends to leave out.

use std::time::Instant;

use common::sample::AgentUse;
use tracing::{info, warn};

use super::budget::{Restraint, Step};
use crate::{
    config::Budget,
    observe::{Measure, Thrift},
    platform,
};

/// The budget, kept.
#[derive(Debug)]
pub(super) struct Restrained {
    budget: Budget,
    restraint: Restraint,
    began: Instant,
}

impl Restrained {
    pub(super) fn new(budget: Budget) -> Self {
        Self { budget, restraint: Restraint::new(budget), began: Instant::now() }
    }

    /// Takes a reading, and gives what to leave out from now on. A system that does not tell what we use
    /// leaves everything as it is.
    pub(super) fn look(&mut self) -> Thrift {
        if let Some(used) = platform::own_use() {
            let before = self.restraint.thrift();
            if let Some(step) = self.restraint.look(self.began.elapsed(), used) {
                self.say(step, before);
            }
        }
        self.restraint.thrift()
    }

    /// As it is told with every sample.
    pub(super) fn told(&self) -> AgentUse {
        let left_out = self.restraint.thrift().measures().iter();
        AgentUse {
            cpu_limit: Some(self.budget.cpu),
            memory_limit: Some(self.budget.memory),
            left_out: left_out.map(|measure| measure.name().to_owned()).collect(),
        }
    }

    fn say(&self, step: Step, before: Thrift) {
        let now = self.restraint.thrift();
        let last = |thrift: Thrift| {
            thrift.measures().last().map_or("", |measure: &Measure| measure.name())
        };
        let Budget { cpu, memory, .. } = self.budget;
        match step {
            Step::Tighter { cpu: over_cpu, memory: over_memory } => warn!(
                left_out = last(now), over_cpu, over_memory, %cpu, %memory,
                "agent was over its budget; it leaves out more"
            ),
            Step::Looser => {
                info!(back = last(before), "agent was well within its budget; it leaves out less");
            }
        }
    }
}
