//! Holds the agent to what it may cost. Pure: what it used and when go in, what to leave out comes out.
//!
//! ```text
//!  used more than the whole span's allowance, or too much memory ─> one measure more
//!  used less than half of it over a whole span                   ─> one measure less, once patience is over
//! ```
//!
//! Every step is judged by what was used since it was taken, so that no step is taken on what its forerunner
//! cost. A step back that had to be taken again doubles the patience: a load that lies between two steps
//! must not swing between them for ever.

use std::{collections::VecDeque, time::Duration};

use common::units::Bytes;

use crate::{config::Budget, observe::Thrift, platform::OwnUse};

/// Memory is known to give way slowly; so long it is looked on before the next step.
const MEMORY_SETTLES: Duration = Duration::from_secs(10);
/// Memory below this many parts of a hundred of the limit is low enough to take a step back.
const LOW_MEMORY_PERCENT: u64 = 90;
/// Most spans that a step back waits for.
const MOST_PATIENCE: u32 = 16;

/// A step that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The agent was over its CPU, memory or both.
    Tighter {
        /// More CPU than its limit.
        cpu: bool,
        /// More memory than its limit.
        memory: bool,
    },
    /// It was well below.
    Looser,
}

/// The controller.
#[derive(Debug)]
pub(super) struct Restraint {
    budget: Budget,
    thrift: Thrift,
    /// When the present step was taken.
    since: Option<Duration>,
    /// What was used when, since the present step and no longer ago than a span.
    readings: VecDeque<(Duration, Duration)>,
    /// Spans that must be low before a step back.
    patience: u32,
    /// The last step was one back, at that time.
    stepped_back: Option<Duration>,
}

impl Restraint {
    pub(super) fn new(budget: Budget) -> Self {
        Self {
            budget,
            thrift: Thrift::default(),
            since: None,
            readings: VecDeque::new(),
            patience: 1,
            stepped_back: None,
        }
    }

    /// What to leave out now.
    pub(super) const fn thrift(&self) -> Thrift {
        self.thrift
    }

    /// Takes a reading at `at`, any time that only grows; gives the step that was taken for it.
    pub(super) fn look(&mut self, at: Duration, used: OwnUse) -> Option<Step> {
        let since = *self.since.get_or_insert(at);
        self.readings.push_back((at, used.cpu));
        // One reading from before the span is kept, so that all of the span is measured.
        while self.readings.get(1).is_some_and(|(then, _)| *then + self.budget.over <= at) {
            self.readings.pop_front();
        }
        let (first_at, first) = *self.readings.front()?;
        let spent = used.cpu.saturating_sub(first);
        let allowance = self.allowance();
        let cpu = spent > allowance;
        let memory = used.resident > self.budget.memory
            && at - since >= MEMORY_SETTLES.min(self.budget.over);
        if cpu || memory {
            return self.tighten(at, cpu, memory);
        }
        let was_low = at - first_at >= self.budget.over && spent < allowance / 2;
        let has_room = used.resident.0 < low_memory(self.budget.memory);
        let is_patient = at - since >= self.budget.over * self.patience;
        (was_low && has_room && is_patient).then(|| self.loosen(at)).flatten()
    }

    /// CPU that may be used over the whole span.
    fn allowance(&self) -> Duration {
        let thousandths = u32::try_from(self.budget.cpu.0).unwrap_or(u32::MAX);
        self.budget.over.saturating_mul(thousandths) / 1000
    }

    fn tighten(&mut self, at: Duration, cpu: bool, memory: bool) -> Option<Step> {
        if self.thrift.is_tightest() {
            return None;
        }
        let relapse_within = self.budget.over * self.patience * 2;
        match self.stepped_back.take() {
            Some(back) if at - back <= relapse_within => {
                self.patience = (self.patience * 2).min(MOST_PATIENCE);
            }
            Some(_) => self.patience = 1,
            None => {}
        }
        self.thrift = self.thrift.tighter();
        self.begin(at);
        Some(Step::Tighter { cpu, memory })
    }

    fn loosen(&mut self, at: Duration) -> Option<Step> {
        if self.thrift == Thrift::default() {
            return None;
        }
        self.thrift = self.thrift.looser();
        self.stepped_back = Some(at);
        self.begin(at);
        Some(Step::Looser)
    }

    /// The next step is judged from here.
    fn begin(&mut self, at: Duration) {
        self.since = Some(at);
        let last = self.readings.pop_back();
        self.readings.clear();
        self.readings.extend(last);
    }
}

const fn low_memory(limit: Bytes) -> u64 {
    limit.0 / 100 * LOW_MEMORY_PERCENT
}

#[cfg(test)]
mod tests {
    use common::units::Millicores;

    use super::*;

    const BUDGET: Budget =
        Budget { cpu: Millicores(10), memory: Bytes::mebi(32), over: Duration::from_secs(60) };

    /// An agent that is looked at every second.
    struct Agent {
        restraint: Restraint,
        at: Duration,
        used: OwnUse,
    }

    impl Agent {
        fn new() -> Self {
            let used = OwnUse { cpu: Duration::ZERO, resident: Bytes::mebi(12) };
            Self { restraint: Restraint::new(BUDGET), at: Duration::ZERO, used }
        }

        /// Lets it use `cost` of a step's thousandths of a core for so many seconds; gives the steps.
        fn run(&mut self, seconds: u32, cost: impl Fn(usize) -> u64) -> Vec<Step> {
            let mut steps = Vec::new();
            for _ in 0..seconds {
                let level = self.restraint.thrift().measures().len();
                self.at += Duration::from_secs(1);
                self.used.cpu += Duration::from_millis(cost(level));
                steps.extend(self.restraint.look(self.at, self.used));
            }
            steps
        }

        fn level(&self) -> usize {
            self.restraint.thrift().measures().len()
        }
    }

    const OVER: Step = Step::Tighter { cpu: true, memory: false };

    #[test]
    fn an_agent_within_its_budget_leaves_nothing_out() {
        let mut agent = Agent::new();
        assert_eq!(agent.run(600, |_| 9), []);
    }

    #[test]
    fn a_costly_start_is_no_reason() {
        let mut agent = Agent::new();
        agent.run(1, |_| 0);
        agent.run(1, |_| 400);
        assert_eq!(agent.run(300, |_| 2), []);
    }

    #[test]
    fn steps_are_taken_until_it_fits_and_given_back_when_the_load_goes() {
        let mut agent = Agent::new();
        let steps = agent.run(600, |level| if level < 3 { 40 } else { 8 });
        assert_eq!(steps, [OVER; 3]);

        let steps = agent.run(600, |_| 2);
        assert_eq!((steps, agent.level()), (vec![Step::Looser; 3], 0));
    }

    #[test]
    fn a_step_is_judged_by_what_was_used_since_it_was_taken() {
        let mut agent = Agent::new();
        agent.run(2, |_| 0);
        assert_eq!(agent.run(1, |_| 601), [OVER]);
        assert_eq!(agent.run(59, |_| 9), []);
    }

    #[test]
    fn a_load_between_two_steps_does_not_swing_for_ever() {
        let mut agent = Agent::new();
        let between = |level: usize| if level == 0 { 11 } else { 2 };
        let of_an_hour = |agent: &mut Agent| agent.run(3600, between).len();
        let (first, second) = (of_an_hour(&mut agent), of_an_hour(&mut agent));
        assert!(first > second && second <= 8, "{first} {second}");
        assert!(first < 30, "{first}");
    }

    #[test]
    fn memory_takes_the_same_steps_and_its_own_time() {
        let mut agent = Agent::new();
        agent.used.resident = Bytes::mebi(40);
        let memory = Step::Tighter { cpu: false, memory: true };
        assert_eq!(agent.run(25, |_| 1), [memory, memory]);

        agent.used.resident = Bytes::mebi(31);
        assert_eq!(agent.run(300, |_| 1), [], "it is below, and not well below");
        agent.used.resident = Bytes::mebi(20);
        assert_eq!(agent.run(300, |_| 1), [Step::Looser; 2]);
    }

    #[test]
    fn at_the_last_step_there_is_nothing_more_to_take() {
        let mut agent = Agent::new();
        agent.run(1000, |_| 900);
        assert!(agent.restraint.thrift().is_tightest());
        assert_eq!(agent.run(100, |_| 900), []);
    }
}
