//! What trials and audits taught of predictions: by how much an application used more or less than its
//! configuration mix had said, for each resource, wherever it ran.
//!
//! A prediction errs by a factor, so factors are what is remembered: their logarithms, as a normal law
//! with what was to be expected before any trial. With each trial the factor is better known.

use std::collections::BTreeMap;

use common::{
    clock::Timestamp,
    id::{AppName, PlanId},
};
use serde::{Deserialize, Serialize};

use super::History;

/// By how much a prediction is off before anything was tried, as the standard deviation of its logarithm:
/// a fifth, which is what the margin of a mix is there for.
const UNTRIED: f64 = 0.2;
/// By how much single trials differ from each other, before there are enough of them to tell.
const SCATTER: f64 = 0.2;
/// Trials that this is worth.
const SCATTER_TRIALS: f64 = 2.0;
/// As a logarithm, how far one trial may be off: four times as much or as little. Beyond that it was not this
/// application that was measured, or somebody lied.
const FURTHEST: f64 = 2.0 * std::f64::consts::LN_2;

/// A resource that is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// CPU, in thousandths of a core.
    Cpu,
    /// Memory, in bytes.
    Memory,
}

/// A prediction beside what a trial or an audit measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// Of which application.
    pub application: AppName,
    /// Of which resource.
    pub resource: Resource,
    /// What the windows alone had said, without margin and former corrections.
    pub predicted: u64,
    /// What it used.
    pub measured: u64,
}

/// What is known of the factor by which predictions of one application and resource are off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Correction {
    /// Trials and audits it rests on.
    trials: u32,
    /// Sum of the logarithms of measured over predicted.
    sum: f64,
    /// Sum of their squares.
    squares: f64,
}

impl Correction {
    /// Trials and audits it rests on.
    #[must_use]
    pub const fn trials(&self) -> u32 {
        self.trials
    }

    /// The logarithm of the factor, and its standard deviation.
    #[must_use]
    pub fn told(&self) -> (f64, f64) {
        let n = f64::from(self.trials);
        if self.trials == 0 {
            return (0.0, UNTRIED);
        }
        let mean = self.sum / n;
        let around = (self.squares - n * mean * mean).max(0.0);
        let scatter = (SCATTER_TRIALS * SCATTER * SCATTER + around) / (SCATTER_TRIALS + n - 1.0);
        let (before, tried) = ((UNTRIED * UNTRIED).recip(), n / scatter);
        (mean * tried / (before + tried), (before + tried).recip().sqrt())
    }

    #[expect(clippy::cast_precision_loss, reason = "a factor has three digits")]
    fn take(&mut self, compared: &Compared) {
        if compared.predicted == 0 || compared.measured == 0 {
            return;
        }
        let off = (compared.measured as f64 / compared.predicted as f64).ln();
        let off = off.clamp(-FURTHEST, FURTHEST);
        self.trials = self.trials.saturating_add(1);
        self.sum += off;
        self.squares += off * off;
    }
}

/// All corrections.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Corrections {
    /// What was written down until then is in them: from before it was remembered which judgements are.
    until: Timestamp,
    each: BTreeMap<AppName, BTreeMap<Resource, Correction>>,
    /// The last judgement of each plan that is in them, by its place in the plan's journal. Not by its time: two
    /// plans may be judged in the same millisecond, and a clock may be set back.
    #[serde(default)]
    judged: BTreeMap<PlanId, u64>,
}

/// Where a judgement is written down.
#[derive(Debug, Clone, Copy)]
pub struct Written<'a> {
    /// The plan whose journal has it.
    pub plan: &'a PlanId,
    /// Its place in that journal.
    pub entry: u64,
    /// When it was written down.
    pub at: Timestamp,
}

impl Corrections {
    /// Of one application and resource.
    #[must_use]
    pub fn of(&self, application: &AppName, resource: Resource) -> Correction {
        let known = self.each.get(application).and_then(|known| known.get(&resource));
        known.copied().unwrap_or_default()
    }
}

impl History {
    /// Takes in what a judgement compared, once: those of one plan come in the order of its journal, and after
    /// a restart again. What was predicted or measured as nought has no factor and is left out.
    pub fn correct(&mut self, written: Written<'_>, compared: &[Compared]) {
        let Written { plan, entry, at } = written;
        let last = self.corrections.judged.get(plan);
        if at <= self.corrections.until || last.is_some_and(|last| entry <= *last) {
            return;
        }
        self.corrections.judged.insert(plan.clone(), entry);
        for one in compared {
            let known = self.corrections.each.entry(one.application.clone()).or_default();
            known.entry(one.resource).or_default().take(one);
        }
    }

    /// What was learned of predictions.
    #[must_use]
    pub const fn corrections(&self) -> &Corrections {
        &self.corrections
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Limits, Part};
    use crate::policy::Policy;

    fn compared(predicted: u64, measured: u64) -> Compared {
        let application = "web".parse().unwrap();
        Compared { application, resource: Resource::Cpu, predicted, measured }
    }

    fn plan(name: &str) -> PlanId {
        name.parse().unwrap()
    }

    fn correct(history: &mut History, (plan, entry, at): (&PlanId, u64, u64), of: &[Compared]) {
        let at = Timestamp::from_millis(at);
        history.correct(Written { plan, entry, at }, of);
    }

    fn after(measured: &[u64]) -> History {
        let mut history = History::new(Limits::of(&Policy::default()));
        for (entry, measured) in (0..).zip(measured) {
            correct(&mut history, (&plan("p-1"), entry, 1 + entry), &[compared(100, *measured)]);
        }
        history
    }

    fn told(history: &History) -> (f64, f64) {
        history.corrections().of(&"web".parse().unwrap(), Resource::Cpu).told()
    }

    #[test]
    fn each_trial_brings_the_factor_nearer_and_makes_it_surer() {
        let mut before = told(&after(&[]));
        assert_eq!(before, (0.0, UNTRIED));
        for trials in 1..12 {
            let now = told(&after(&vec![150; trials]));
            assert!(now.0 > before.0 && now.0 < 1.5_f64.ln(), "{now:?}");
            assert!(now.1 < before.1, "{now:?} after {before:?}");
            before = now;
        }
        assert!(before.0.exp() > 1.45, "{before:?}");
    }

    #[test]
    fn trials_that_disagree_prove_less() {
        let (alike, apart) = (told(&after(&[120; 6])), told(&after(&[60, 240, 60, 240, 60, 240])));
        assert!(apart.1 > alike.1, "{apart:?} {alike:?}");
    }

    #[test]
    fn a_judgement_counts_once_and_nought_is_no_factor() {
        let mut history = after(&[150, 150]);
        let before = history.clone();
        correct(&mut history, (&plan("p-1"), 1, 2), &[compared(100, 500)]);
        assert_eq!(history, before);
        correct(&mut history, (&plan("p-1"), 2, 3), &[compared(0, 500), compared(100, 0)]);
        assert_eq!(told(&history), told(&before));
    }

    #[test]
    fn judgements_of_the_same_millisecond_and_of_a_clock_set_back_all_count() {
        let mut history = History::new(Limits::of(&Policy::default()));
        let judged = [("p-1", 4, 9), ("p-2", 4, 9), ("p-1", 7, 9), ("p-3", 4, 2)];
        for (name, entry, at) in judged {
            correct(&mut history, (&plan(name), entry, at), &[compared(100, 150)]);
        }
        assert_eq!(told(&history), told(&after(&[150; 4])));
        let before = history.clone();
        for (name, entry, at) in judged {
            correct(&mut history, (&plan(name), entry, at), &[compared(100, 150)]);
        }
        assert_eq!(history, before, "a restart reads all of them again");
    }

    #[test]
    fn corrections_kept_before_judgements_were_remembered_have_them_until_then() {
        let kept = r#"{"until":5,"each":{"web":{"cpu":{"trials":1,"sum":0.5,"squares":0.25}}}}"#;
        let corrections: Corrections = serde_json::from_str(kept).unwrap();
        let mut history = History::new(Limits::of(&Policy::default()));
        history.corrections = corrections;
        let of =
            |history: &History| history.corrections().of(&"web".parse().unwrap(), Resource::Cpu);
        correct(&mut history, (&plan("p-1"), 3, 5), &[compared(100, 150)]);
        assert_eq!(of(&history).trials(), 1);
        correct(&mut history, (&plan("p-1"), 6, 6), &[compared(100, 150)]);
        assert_eq!(of(&history).trials(), 2);
    }

    #[test]
    fn corrections_are_kept_and_a_history_kept_before_there_were_any_has_none() {
        let history = after(&[150, 90]);
        let parts: Vec<Part> = history.parts().collect();
        assert_eq!(History::of_parts(parts.clone()).as_ref(), Some(&history));
        let former = parts.into_iter().filter(|part| !matches!(part, Part::Corrections(_)));
        assert_eq!(told(&History::of_parts(former).unwrap()), (0.0, UNTRIED));
    }
}
