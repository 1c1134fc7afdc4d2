//! The agent's own words to the wire's and back, where `common` has none.

use std::time::Duration;

use common::{
    clock::Timestamp,
    sample::SampleId,
    wire::{
        agent::v1::{self, attach_request::Message as Up},
        types,
    },
};
use tracing::warn;

use crate::{
    apply::{Report, Standing},
    observe::{Rule, Rules},
};

/// Shortest and longest time between two samples that is listened to.
const PERIODS: (u32, u32) = (100, 3_600_000);
/// Most rules that are listened to: a catalogue has some hundreds.
const MOST_RULES: usize = 10_000;

/// How to sample and how applications are known, as the aggregator says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampling {
    /// Time between two samples.
    pub period: Duration,
    /// Every so many samples one is full.
    pub full_every: u64,
    /// How applications are known.
    pub rules: Rules,
}

impl Default for Sampling {
    /// As long as the aggregator has said nothing.
    fn default() -> Self {
        Self { period: Duration::from_secs(10), full_every: 60, rules: Rules::default() }
    }
}

impl From<v1::SamplingPolicy> for Sampling {
    /// A rule that cannot be read names nothing here; the others count.
    fn from(wire: v1::SamplingPolicy) -> Self {
        let asked = if wire.period_ms == 0 { 10_000 } else { wire.period_ms };
        let period_ms = asked.clamp(PERIODS.0, PERIODS.1);
        let full_every = if wire.full_every == 0 { 60 } else { wire.full_every };
        let rules = wire.rules.into_iter().take(MOST_RULES).filter_map(rule).collect();
        Self {
            period: Duration::from_millis(u64::from(period_ms)),
            full_every: u64::from(full_every),
            rules: Rules(rules),
        }
    }
}

fn rule(wire: v1::ApplicationRule) -> Option<Rule> {
    let given = |text: String| (!text.is_empty()).then_some(text);
    let application = match wire.application.parse() {
        Ok(application) => application,
        Err(cause) => {
            warn!(%cause, "rule of an application left out");
            return None;
        }
    };
    let port = match u16::try_from(wire.port) {
        Ok(0) => None,
        Ok(port) => Some(port),
        Err(_) => {
            warn!(%application, port = wire.port, "rule of an application left out: no such port");
            return None;
        }
    };
    Some(Rule { application, executable: given(wire.executable), unit: given(wire.unit), port })
}

/// A message up.
pub(super) const fn up(message: Up) -> v1::AttachRequest {
    v1::AttachRequest { message: Some(message) }
}

/// A report as it goes up.
pub(super) fn report(report: &Report) -> v1::ApplyReport {
    let stage = match report.standing {
        Standing::Verified => v1::ApplyStage::Verified,
        Standing::Applying => v1::ApplyStage::Applying,
        Standing::Applied => v1::ApplyStage::Applied,
        Standing::Refused => v1::ApplyStage::Refused,
        Standing::Undone => v1::ApplyStage::Undone,
        Standing::Stranded => v1::ApplyStage::Stranded,
    };
    v1::ApplyReport {
        generation: report.generation,
        stage: stage.into(),
        reason: cut(&report.reason),
        mix: Some(types::v1::EffectiveMix::from(&report.mix)),
        at_unix_ms: i64::try_from(report.at.as_millis()).unwrap_or(i64::MAX),
    }
}

/// Longest reason that is sent: the aggregator takes no longer one.
const LONGEST_REASON: usize = 2048;

fn cut(text: &str) -> String {
    text.chars().take(LONGEST_REASON / 4).collect()
}

/// The sample an acknowledgement names.
pub(super) fn sample_id(wire: Option<v1::SampleId>) -> Option<SampleId> {
    wire.map(|wire| SampleId { epoch: wire.epoch, sequence: wire.sequence })
}

/// A moment on the aggregator's clock.
pub(super) fn moment(unix_ms: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(unix_ms).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_aggregator_does_not_say_is_as_usual() {
        let sampling = Sampling::from(v1::SamplingPolicy::default());
        assert_eq!(sampling, Sampling::default());
    }

    #[test]
    fn a_rule_that_cannot_be_read_costs_only_itself() {
        let rule = |application: &str, port| v1::ApplicationRule {
            application: application.into(),
            port,
            ..v1::ApplicationRule::default()
        };
        let rules = vec![rule("a b", 80), rule("web", 80), rule("api", 70_000)];
        let policy = v1::SamplingPolicy { period_ms: 1, full_every: 5, rules };
        let sampling = Sampling::from(policy);
        assert_eq!(sampling.rules.0.len(), 1);
        assert_eq!(sampling.period, Duration::from_millis(100));
    }
}
