//! What the operator decided beforehand: windows, thresholds, budgets. Written by `sinterctl
//! policy set`, checked once, then trusted by the reasoning.

mod check;
mod maintenance;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use common::{
    clock::Timestamp,
    id::{AppName, VmId},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::maintenance::{Maintenance, Permit, Weekday};

/// What a trial or an audit said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// At or above every threshold.
    Passed,
    /// Below one.
    Failed,
    /// Too little was seen to say.
    Unproven,
}

/// Who says yes to a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approval {
    /// A person.
    Manual,
    /// The policy itself.
    Automatic,
}

/// How a proven mix goes live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Promotion {
    /// The list goes to the live machine; the clone goes.
    InPlace,
    /// The clone takes the machine's place.
    Swap,
}

/// All that may be set. Shares are of 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Length of a sampling window, in seconds.
    pub window_seconds: u64,
    /// Time between two samples of an agent, in milliseconds.
    pub sample_period_ms: u64,
    /// Days after which what no window showed any more is forgotten.
    pub cycle_days: u64,
    /// Full windows needed before anything is inferred to act on.
    pub windows_needed: usize,
    /// Below this coverage a machine or an edge is shown but not acted on.
    pub coverage_minimum: f64,
    /// CPU share above which a machine is active, by the hypervisor's figures.
    pub active_cpu_share: f64,
    /// Connections and exchanges per second above which two machines communicate.
    pub communicates_per_second: f64,
    /// Rate per second below which an application counts as unused.
    pub unused_per_second: f64,
    /// Share of its CPU that what is not of a machine's mix may use and still be the housekeeping every
    /// guest has; above it, it is work, and the machine is not retired.
    pub housekeeping_cpu_share: f64,
    /// Share of every resource that stays free at peak.
    pub headroom: f64,
    /// Margin over the observed peak when an allocation is lowered.
    pub shrink_margin: f64,
    /// Least share by which an allocation must fall to be worth it.
    pub shrink_minimum: f64,
    /// Least memory a machine keeps, in MiB.
    pub memory_floor_mib: u64,
    /// What a machine costs that is given nothing, in cost units: its share of licences, patches and
    /// attention.
    pub cost_per_machine: f64,
    /// What a core given to a machine costs, in cost units.
    pub cost_per_core: f64,
    /// What a GiB of memory given to a machine costs, in cost units.
    pub cost_per_gib: f64,
    /// Least gain per disruption, in cost units; 0 or less is refused.
    pub gain_per_disruption: f64,
    /// How far guest and hypervisor may differ in CPU and traffic, as a share.
    pub trust_tolerance: f64,
    /// Share of machines above which a peer counts as shared infrastructure.
    pub shared_infrastructure_share: f64,
    /// How long a trial lasts, in seconds.
    pub trial_seconds: u64,
    /// Least share of probes that must succeed.
    pub trial_success_minimum: f64,
    /// Most a 95th percentile of the time to answer may be, in milliseconds.
    pub trial_latency_ms: u64,
    /// Most CPU and memory the clone may use of what it is given.
    pub trial_use_maximum: f64,
    /// How long an agent may take to apply a list, or a clone to come up, in seconds.
    pub patience_seconds: u64,
    /// Windows an audit watches.
    pub audit_windows: usize,
    /// Share by which served rates may fall below the baseline before it is a regression.
    pub audit_tolerance: f64,
    /// Windows a machine is left alone after a plan touched it.
    pub cooldown_windows: u64,
    /// Plans that may run at once.
    pub plans_at_once: usize,
    /// Who says yes.
    pub approval: Approval,
    /// How a mix goes live.
    pub promotion: Promotion,
    /// Plans that may begin on one machine within 24 hours.
    pub changes_per_machine_per_day: u64,
    /// Plans that may begin in the whole fleet within 24 hours.
    pub changes_per_day: u64,
    /// Applications that go together where they share a machine.
    pub keep_together: Vec<BTreeSet<AppName>>,
    /// Applications of which no two come to share a machine.
    pub keep_apart: Vec<BTreeSet<AppName>>,
    /// Applications of which no two come to share a host.
    pub keep_apart_by_host: Vec<BTreeSet<AppName>>,
    /// How labels begin that a machine must bear too, if an application is to come to it from a
    /// machine that bears them: operating system, architecture, licences.
    pub same_labels: BTreeSet<String>,
    /// Labels that a machine must bear for an application to come to it.
    pub needs_labels: BTreeMap<AppName, BTreeSet<String>>,
    /// The only machines an application may come to, by name or uuid.
    pub pins: BTreeMap<AppName, BTreeSet<String>>,
    /// Pools that the host of a machine must reach for an application to come to it.
    pub needs_pools: BTreeMap<AppName, BTreeSet<String>>,
    /// When plans may begin, and when not.
    pub maintenance: Vec<Maintenance>,
}

/// Which machines the operator put in or out, by hand; the default is in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// Machines that are never changed, and why.
    pub opted_out: BTreeMap<VmId, String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            window_seconds: 300,
            sample_period_ms: 10_000,
            cycle_days: 7,
            windows_needed: 3,
            coverage_minimum: 0.95,
            active_cpu_share: 0.001,
            communicates_per_second: 0.01,
            unused_per_second: 0.001,
            housekeeping_cpu_share: 0.01,
            headroom: 0.30,
            shrink_margin: 0.20,
            shrink_minimum: 0.25,
            memory_floor_mib: 32,
            cost_per_machine: 1.0,
            cost_per_core: 0.5,
            cost_per_gib: 0.125,
            gain_per_disruption: 0.05,
            trust_tolerance: 0.25,
            shared_infrastructure_share: 0.5,
            trial_seconds: 60,
            trial_success_minimum: 0.99,
            trial_latency_ms: 500,
            trial_use_maximum: 0.9,
            patience_seconds: 120,
            audit_windows: 3,
            audit_tolerance: 0.2,
            cooldown_windows: 12,
            plans_at_once: 1,
            approval: Approval::Manual,
            promotion: Promotion::InPlace,
            changes_per_machine_per_day: 4,
            changes_per_day: 200,
            keep_together: Vec::new(),
            keep_apart: Vec::new(),
            keep_apart_by_host: Vec::new(),
            same_labels: ["arch=", "licence=", "os="].map(ToOwned::to_owned).into(),
            needs_labels: BTreeMap::new(),
            pins: BTreeMap::new(),
            needs_pools: BTreeMap::new(),
            maintenance: Vec::new(),
        }
    }
}

/// A value nobody can work with.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("{field} is {value}; {remedy}")]
pub struct BadPolicy {
    /// Which field.
    pub field: &'static str,
    /// What was written.
    pub value: String,
    /// What may be written.
    pub remedy: String,
}

impl Policy {
    /// The policy of a demonstration on one machine: windows of 10 s, and short trials.
    #[must_use]
    pub fn demonstration() -> Self {
        Self {
            window_seconds: 10,
            sample_period_ms: 1_000,
            windows_needed: 2,
            coverage_minimum: 0.8,
            trial_seconds: 8,
            // Machines of a quarter of a core on a host that others use too.
            trial_latency_ms: 2_000,
            patience_seconds: 30,
            audit_windows: 2,
            cooldown_windows: 3,
            trust_tolerance: 0.5,
            // It is watched for minutes, and shows as many changes as it can.
            changes_per_machine_per_day: 100,
            changes_per_day: 1_000,
            ..Self::default()
        }
    }

    /// Length of a sampling window.
    #[must_use]
    pub const fn window(&self) -> Duration {
        Duration::from_secs(self.window_seconds)
    }

    /// How long what was seen is remembered.
    #[must_use]
    pub const fn cycle(&self) -> Duration {
        Duration::from_secs(self.cycle_days.saturating_mul(24 * 3_600))
    }

    /// Time between two samples.
    #[must_use]
    pub const fn sample_period(&self) -> Duration {
        Duration::from_millis(self.sample_period_ms)
    }

    /// How long a plan may take from its beginning until its mix is live: a clone that comes up, a
    /// list that it applies, the trial, and two lists on live machines.
    #[must_use]
    pub const fn lead(&self) -> Duration {
        Duration::from_secs(
            self.trial_seconds.saturating_add(self.patience_seconds.saturating_mul(4)),
        )
    }

    /// Whether a plan that touches machines with these labels may begin now, so that it is live
    /// before its time is over.
    ///
    /// # Errors
    ///
    /// The entry of `maintenance` that is against it, for people.
    pub fn may_begin(&self, labels: &[&BTreeSet<String>], now: Timestamp) -> Result<(), String> {
        maintenance::may_begin(&self.maintenance, labels, (now, self.lead()))
    }

    /// The entries of `maintenance` that speak of machines with these labels, for people.
    #[must_use]
    pub fn maintained(&self, labels: &[&BTreeSet<String>]) -> Vec<String> {
        let entries = (1..).zip(&self.maintenance);
        let meant = entries.filter(|(_, entry)| entry.means_any(labels));
        meant.map(|(number, entry)| entry.told(number)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_right() {
        assert_eq!(Policy::default().check(), Ok(()));
        assert_eq!(Policy::demonstration().check(), Ok(()));
    }

    #[test]
    fn a_share_above_one_is_named_with_its_remedy() {
        let bad = Policy { headroom: 1.5, ..Policy::default() }.check().unwrap_err();
        assert_eq!(bad.to_string(), "headroom is 1.5; write a share from 0 to 1");
    }

    #[test]
    fn a_price_below_nothing_is_refused() {
        let bad = Policy { cost_per_gib: -1.0, ..Policy::default() }.check().unwrap_err();
        assert_eq!(bad.to_string(), "cost_per_gib is -1; write a number from 0 to 1000000");
    }

    fn refused(text: &str) -> String {
        toml::from_str::<Policy>(text).unwrap().check().unwrap_err().to_string()
    }

    #[test]
    fn rules_that_say_nothing_or_the_opposite_are_refused() {
        for (text, told) in [
            ("keep_apart = [['a']]", "keep_apart is [a]; write sets of two applications or more"),
            ("keep_apart = [['a','b']]\nkeep_together = [['a','b','c']]", "says the opposite"),
            ("same_labels = ['']", "same_labels is \"\"; write how labels begin"),
            ("pins = { a = [] }", "pins is a; write the machines it may run on"),
            ("needs_labels = { a = [] }", "needs_labels is a; write the labels it needs"),
            ("changes_per_day = 0", "changes_per_day is 0; write 1 or more"),
        ] {
            assert!(refused(text).contains(told), "{}", refused(text));
        }
    }

    #[test]
    fn a_policy_with_every_rule_reads_back_as_it_is_written() {
        let text = "keep_apart = [['a', 'b']]\nneeds_labels = { a = ['licence=x'] }\n\
                    pins = { b = ['db-1'] }\n[[maintenance]]\nchanges = 'allowed'\n\
                    days = ['saturday']\nfrom = '22:00'\nto = '04:00'\nzone = 'Europe/Berlin'\n";
        let policy: Policy = toml::from_str(text).unwrap();
        assert_eq!(policy.check(), Ok(()));
        let written = toml::to_string(&policy).unwrap();
        assert_eq!(toml::from_str::<Policy>(&written).unwrap(), policy);
    }

    #[test]
    fn a_window_no_agent_can_fill_is_refused() {
        let bad = Policy { window_seconds: 5, ..Policy::default() }.check().unwrap_err();
        assert_eq!(bad.field, "window_seconds");
    }
}
