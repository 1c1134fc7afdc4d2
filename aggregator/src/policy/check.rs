//! Holds every value of a policy against what can be worked with, each refusal with its remedy.

use super::{BadPolicy, Policy, maintenance};

impl Policy {
    /// Checks every value.
    ///
    /// # Errors
    ///
    /// The first value nobody can work with.
    pub fn check(&self) -> Result<(), BadPolicy> {
        let shares = [
            ("coverage_minimum", self.coverage_minimum),
            ("active_cpu_share", self.active_cpu_share),
            ("housekeeping_cpu_share", self.housekeeping_cpu_share),
            ("headroom", self.headroom),
            ("shrink_minimum", self.shrink_minimum),
            ("shared_infrastructure_share", self.shared_infrastructure_share),
            ("trial_success_minimum", self.trial_success_minimum),
            ("trial_use_maximum", self.trial_use_maximum),
            ("audit_tolerance", self.audit_tolerance),
        ];
        for (field, value) in shares {
            require(field, value, (0.0..=1.0).contains(&value), "write a share from 0 to 1")?;
        }
        let positive = [
            ("communicates_per_second", self.communicates_per_second),
            ("unused_per_second", self.unused_per_second),
            ("shrink_margin", self.shrink_margin),
            ("gain_per_disruption", self.gain_per_disruption),
            ("trust_tolerance", self.trust_tolerance),
        ];
        for (field, value) in positive {
            let right = value.is_finite() && value > 0.0;
            require(field, value, right, "write a number above 0")?;
        }
        self.check_prices()?;
        let window_ms = self.window_seconds.saturating_mul(1000);
        let period = self.sample_period_ms;
        require(
            "sample_period_ms",
            period,
            (100..=3_600_000).contains(&period),
            "write 100 to 3600000",
        )?;
        let room = window_ms >= period.saturating_mul(2);
        require("window_seconds", self.window_seconds, room, "write at least two sample periods")?;
        let within_a_day = self.window_seconds <= 86_400;
        require("window_seconds", self.window_seconds, within_a_day, "write at most a day, 86400")?;
        let cycle = self.cycle_days;
        require("cycle_days", cycle, (1..=35).contains(&cycle), "write 1 to 35")?;
        require("windows_needed", self.windows_needed, self.windows_needed > 0, "write 1 or more")?;
        require("audit_windows", self.audit_windows, self.audit_windows > 0, "write 1 or more")?;
        require("plans_at_once", self.plans_at_once, self.plans_at_once > 0, "write 1 or more")?;
        require("trial_seconds", self.trial_seconds, self.trial_seconds > 0, "write 1 or more")?;
        let patience = self.patience_seconds;
        require("patience_seconds", patience, patience > 0, "write 1 or more")?;
        self.check_rules()
    }

    fn check_rules(&self) -> Result<(), BadPolicy> {
        let budgets = [
            ("changes_per_machine_per_day", self.changes_per_machine_per_day),
            ("changes_per_day", self.changes_per_day),
        ];
        for (field, budget) in budgets {
            require(field, budget, budget > 0, "write 1 or more")?;
        }
        let sets = [
            ("keep_together", &self.keep_together),
            ("keep_apart", &self.keep_apart),
            ("keep_apart_by_host", &self.keep_apart_by_host),
        ];
        for (field, sets) in sets {
            for set in sets {
                let told = set.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
                let remedy = "write sets of two applications or more";
                require(field, format_args!("[{told}]"), set.len() > 1, remedy)?;
            }
        }
        for set in &self.keep_apart {
            let both = self.keep_together.iter().find(|other| other.intersection(set).count() > 1);
            let remedy = "keep_together says the opposite; write it in one of them";
            require("keep_apart", format_args!("{set:?}"), both.is_none(), remedy)?;
        }
        self.check_places()
    }

    fn check_places(&self) -> Result<(), BadPolicy> {
        for prefix in &self.same_labels {
            let remedy = "write how labels begin, such as \"licence=\"";
            require("same_labels", format_args!("{prefix:?}"), !prefix.trim().is_empty(), remedy)?;
        }
        for (name, labels) in &self.needs_labels {
            let remedy = "write the labels it needs, or leave it out";
            require("needs_labels", name, !labels.is_empty(), remedy)?;
        }
        for (name, machines) in &self.pins {
            let remedy = "write the machines it may run on, or leave it out";
            require("pins", name, !machines.is_empty(), remedy)?;
        }
        for (name, pools) in &self.needs_pools {
            let remedy = "write the pools it needs, or leave it out";
            require("needs_pools", name, !pools.is_empty(), remedy)?;
        }
        for (number, entry) in (1..).zip(&self.maintenance) {
            entry.check(self.lead()).map_err(|maintenance::Wrong { what, value, remedy }| {
                let value = format!("{value} in {what} of entry {number}");
                BadPolicy { field: "maintenance", value, remedy }
            })?;
        }
        Ok(())
    }

    fn check_prices(&self) -> Result<(), BadPolicy> {
        let prices = [
            ("cost_per_machine", self.cost_per_machine),
            ("cost_per_core", self.cost_per_core),
            ("cost_per_gib", self.cost_per_gib),
        ];
        for (field, value) in prices {
            // Dearer than that, and the cents of others vanish from the sums.
            require(
                field,
                value,
                (0.0..=1e6).contains(&value),
                "write a number from 0 to 1000000",
            )?;
        }
        Ok(())
    }
}

fn require(
    field: &'static str,
    value: impl std::fmt::Display,
    right: bool,
    remedy: &str,
) -> Result<(), BadPolicy> {
    if right {
        return Ok(());
    }
    Err(BadPolicy { field, value: value.to_string(), remedy: remedy.to_owned() })
}
