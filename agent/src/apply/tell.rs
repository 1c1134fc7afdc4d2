//! What the applier tells: each step as it is made, the last end whenever it is asked for.

use common::mix::EffectiveMix;
use tracing::warn;

use super::{Applier, Report, Standing, standing};
use crate::ledger::{Account, Stage};

impl Applier {
    /// What became of the last list, once more.
    pub(super) fn say_last(&self) {
        let account = self.ledger.account();
        if let Some(change) = &account.change {
            if change.stage == Stage::Stranded {
                let (generation, reason) = (change.list.generation, change.reason.clone());
                self.say(self.at_now(generation, Standing::Stranded, reason));
            }
        } else if let Some(outcome) = &account.outcome {
            let standing = standing(outcome.ending);
            self.say(self.at_now(outcome.list.generation, standing, outcome.reason.clone()));
        }
    }

    fn say(&self, report: Report) {
        self.last.send_replace(Some(report.clone()));
        self.send(report);
    }

    pub(super) fn report(&self, generation: u64, standing: Standing, reason: String) {
        self.send(self.at_now(generation, standing, reason));
    }

    fn send(&self, report: Report) {
        if self.reports.try_send(report).is_err() {
            warn!("step of a list not told: nobody listens");
        }
    }

    fn at_now(&self, generation: u64, standing: Standing, reason: String) -> Report {
        Report { generation, standing, reason, mix: self.effective(), at: self.clock.now() }
    }

    fn effective(&self) -> EffectiveMix {
        let account: &Account = self.ledger.account();
        let own = account.own_generations();
        EffectiveMix {
            generation: own.effective,
            attempted_generation: own.attempted,
            applications: account.mix.clone(),
            healthy: self.healthy.clone(),
        }
    }

    pub(super) fn show(&self) {
        let effective = self.effective();
        self.view.send_if_modified(|shown| {
            let is_new = *shown != effective;
            *shown = effective;
            is_new
        });
    }
}
