//! The configuration mix of an application: what CPU and memory it needs to run nominally, how sure
//! that is, and how its demand goes over the day.
//!
//! What the windows say is corrected by what trials and audits of the application measured: by the factor
//! by which its predictions were off. The interval holds what the windows leave open and what the trials
//! do, so that it closes with each trial.

use algorithms::normal::Z_95;
use common::{
    id::{AppName, VmId},
    units::{Bytes, Millicores},
};
use serde::{Deserialize, Serialize};

use super::{BUCKETS, Context, Demand, Need, Profile, opportunities::with_margin};
use crate::{
    history::{HourDemand, Resource},
    policy::Policy,
};

/// CPU may be short for one moment in twenty; what waits is done a moment later.
const CPU_SHARE: f64 = 0.95;
/// Memory that is short ends a program.
const MEMORY_SHARE: f64 = 0.99;
/// Days that every hour must be known of before hours are told apart: what came three days at the
/// same hour is no accident.
const DAYS_FOR_A_PROFILE: u8 = 3;
/// Values of the agent's inner cadence that speak of the same moment: load that is seen once a
/// second does not change sixty times a minute. Error bars count each minute once.
const VALUES_AT_A_MOMENT: u64 = 60;

/// A figure with its 95 % interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounded {
    /// The figure.
    pub value: u64,
    /// Lower bound.
    pub lower: u64,
    /// Upper bound.
    pub upper: u64,
}

/// By how much trials and audits changed a figure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Corrected {
    /// Trials and audits; with none there is nothing to correct by.
    pub trials: u32,
    /// The factor; 1 without trials.
    pub factor: f64,
}

/// What one application needs to run nominally, margin and all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ConfigurationMix {
    /// CPU, in thousandths of a core.
    pub cpu: Bounded,
    /// Memory, in bytes.
    pub memory: Bounded,
    /// Memory that was too little once, in bytes; `None` if it never ran out.
    pub memory_floor: Option<u64>,
    /// What the windows alone say, without margin and correction: what trials are held against.
    #[serde(default)]
    pub demand: Demand,
    /// What trials and audits changed of the CPU.
    #[serde(default)]
    pub cpu_corrected: Corrected,
    /// What they changed of the memory.
    #[serde(default)]
    pub memory_corrected: Corrected,
}

/// How demand goes over the day; `None` until every hour is known, over days enough.
pub(super) fn profile(vm: &VmId, name: &AppName, context: &Context<'_>) -> Option<Profile> {
    let demand = context.history.application(vm, name)?.demand();
    if demand.days_known() < DAYS_FOR_A_PROFILE {
        return None;
    }
    let mut hours = [Demand::default(); BUCKETS];
    for (bucket, hour) in hours.iter_mut().zip(demand.hours()) {
        *bucket = Demand { cpu: hour.cpu(CPU_SHARE)?, memory: hour.memory(MEMORY_SHARE)? };
    }
    Some(Profile { hours })
}

/// What an application needs at its busiest hour, with the policy's margin; what was too little once
/// stays so, whatever later windows show.
pub(super) fn mix(
    vm: &VmId,
    name: &AppName,
    need: &Need,
    context: &Context<'_>,
) -> ConfigurationMix {
    let history = context.history.application(vm, name);
    let hours = || history.iter().flat_map(|history| history.demand().hours());
    let cpu = busiest(hours(), CPU_SHARE, |hour, share| hour.cpu(share).map(|cpu| cpu.0));
    let cpu = match need.cpu_shared_out {
        Some(shared) => at_peak(shared, need.cpu_peak.0),
        None => cpu.unwrap_or_else(|| exactly(need.cpu_95.unwrap_or(need.cpu_peak).0)),
    };
    let memory = busiest(hours(), MEMORY_SHARE, |hour, share| hour.memory(share).map(|m| m.0));
    let peak = need.working_set_peak.unwrap_or(need.memory_peak);
    let memory = memory.unwrap_or_else(|| exactly(peak.0));
    let demand = Demand { cpu: Millicores(cpu.value), memory: Bytes(memory.value) };
    let (cpu, cpu_corrected) = corrected(cpu, name, Resource::Cpu, context);
    let (memory, memory_corrected) = corrected(memory, name, Resource::Memory, context);
    let floor = floor(vm, name, context);
    let least = floor.unwrap_or(0);
    let memory = Bounded {
        value: memory.value.max(least),
        lower: memory.lower.max(least),
        upper: memory.upper.max(least),
    };
    ConfigurationMix {
        cpu: padded(cpu, context.policy),
        memory: padded(memory, context.policy),
        memory_floor: floor,
        demand,
        cpu_corrected,
        memory_corrected,
    }
}

/// A figure as trials correct it: on a scale of factors what the windows and what the trials leave open
/// add up by their squares.
fn corrected(
    windows: Bounded,
    name: &AppName,
    resource: Resource,
    context: &Context<'_>,
) -> (Bounded, Corrected) {
    let correction = context.history.corrections().of(name, resource);
    let (off, error) = correction.told();
    let corrected = Corrected { trials: correction.trials(), factor: off.exp() };
    let value = as_float(windows.value) * off.exp();
    let away = |bound: u64| {
        let open = (as_float(bound.max(1)) / as_float(windows.value.max(1))).ln();
        (open * open + (Z_95 * error).powi(2)).sqrt()
    };
    let bounded = Bounded {
        value: whole(value),
        lower: whole(value * (-away(windows.lower)).exp()),
        upper: whole(value * away(windows.upper).exp()),
    };
    (bounded, corrected)
}

#[expect(clippy::cast_precision_loss, reason = "three digits are told")]
const fn as_float(amount: u64) -> f64 {
    amount as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an amount is none below zero, and a float to u64 saturates"
)]
fn whole(amount: f64) -> u64 {
    amount.round() as u64
}

/// Memory that was too little for an application once: here, or where it no longer runs. What it had
/// too little of before it moved is too little here.
fn floor(vm: &VmId, name: &AppName, context: &Context<'_>) -> Option<u64> {
    let floors = context.history.memory_floors().filter(|(_, of, _)| *of == Some(name));
    let still_runs = |elsewhere: &VmId| {
        let standing = context.former.machines.get(elsewhere);
        standing.is_some_and(|standing| standing.needs.contains_key(name))
    };
    let counts = floors.filter(|(at, _, _)| *at == vm || !still_runs(at));
    counts.map(|(_, _, floor)| floor.memory.0).max()
}

/// The quantile of the hour in which it is largest, bounded by the ranks between which the true one
/// lies: with n values apart, share +- z sqrt(share (1 - share) / n).
fn busiest<'a>(
    hours: impl Iterator<Item = &'a HourDemand>,
    share: f64,
    quantile: impl Fn(&HourDemand, f64) -> Option<u64>,
) -> Option<Bounded> {
    let known = hours.filter_map(|hour| Some((quantile(hour, share)?, hour)));
    let (value, hour) = known.max_by_key(|(value, _)| *value)?;
    let apart = (hour.values() / VALUES_AT_A_MOMENT).max(1);
    #[expect(clippy::cast_precision_loss, reason = "values of a cycle are far below 2^52")]
    let off = Z_95 * (share * (1.0 - share) / apart as f64).sqrt();
    Some(Bounded {
        value,
        lower: quantile(hour, (share - off).max(0.0))?,
        upper: quantile(hour, (share + off).min(1.0))?,
    })
}

/// A mean that was shared out, as its peak with bounds as far away.
fn at_peak(mean: Bounded, peak: u64) -> Bounded {
    let of = |bound: u64| whole(as_float(peak) * as_float(bound) / as_float(mean.value.max(1)));
    // A mean of nought scales nothing: its own bound is left then.
    let upper = of(mean.upper).max(peak).max(mean.upper);
    Bounded { value: peak, lower: of(mean.lower).min(peak), upper }
}

const fn exactly(value: u64) -> Bounded {
    Bounded { value, lower: value, upper: value }
}

fn padded(bounded: Bounded, policy: &Policy) -> Bounded {
    let with = |value| with_margin(value, policy);
    Bounded { value: with(bounded.value), lower: with(bounded.lower), upper: with(bounded.upper) }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        time::Duration,
    };

    use super::*;
    use crate::{
        catalogue::Catalogue,
        history::{Compared, History, Limits, Written},
        join::{Joined, JoinedMachine, Used},
        policy::Scope,
    };

    const HOUR_MS: u64 = 3_600_000;
    /// A Monday at midnight.
    const MONDAY: u64 = 1_767_571_200_000;

    fn vm() -> VmId {
        "vm-1".parse().unwrap()
    }

    fn name() -> AppName {
        "web".parse().unwrap()
    }

    /// One window of an hour: busy from nine to seventeen.
    fn hour(number: u64, out_of_memory: u64) -> Joined {
        let is_busy = (9..17).contains(&(number % 24));
        let mut used = Used {
            seen: 60,
            cpu_mean: Some(Millicores(100)),
            cpu_peak: Millicores(if is_busy { 800 } else { 100 }),
            memory_peak: Bytes::mebi(200),
            ..Used::default()
        };
        for second in 0..3_600_u64 {
            used.cpu_quantiles.insert(if is_busy { 400 + second % 400 } else { 100 });
            used.memory_quantiles.insert(Bytes::mebi(200).0);
        }
        let machine = JoinedMachine {
            has_agent: true,
            coverage: 1.0,
            out_of_memory: Some(out_of_memory),
            applications: [(name(), used)].into(),
            ..JoinedMachine::default()
        };
        let from = common::clock::Timestamp::from_millis(MONDAY + number * HOUR_MS);
        Joined {
            window: format!("w-{number}").parse().unwrap(),
            from,
            to: from + Duration::from_millis(HOUR_MS),
            sampled_every: Duration::from_secs(10),
            machines: [(vm(), machine)].into(),
            edges: BTreeMap::new(),
            records: Vec::new(),
            remarks: Vec::new(),
        }
    }

    fn inferred<T>(hours: u64, ran_out_at: Option<u64>, ask: impl Fn(&Context<'_>) -> T) -> T {
        after_trials(hours, ran_out_at, &[], ask)
    }

    fn after_trials<T>(
        hours: u64,
        ran_out_at: Option<u64>,
        trials: &[Compared],
        ask: impl Fn(&Context<'_>) -> T,
    ) -> T {
        let policy = Policy { window_seconds: 3_600, ..Policy::default() };
        let mut history = History::new(Limits::of(&policy));
        for number in 0..hours {
            history.take(&hour(number, u64::from(ran_out_at == Some(number))));
        }
        let plan = "p-1".parse().unwrap();
        for (entry, compared) in (0..).zip(trials) {
            let at = common::clock::Timestamp::from_millis(1 + entry);
            history.correct(Written { plan: &plan, entry, at }, std::slice::from_ref(compared));
        }
        let (catalogue, scope) = (Catalogue::default(), Scope::default());
        ask(&Context {
            policy: &policy,
            catalogue: &catalogue,
            scope: &scope,
            groups: &crate::grouping::GroupRules::default(),
            former: &crate::inference::Findings::default(),
            cooldowns: &BTreeMap::new(),
            busy: &BTreeSet::new(),
            history: &history,
        })
    }

    #[test]
    fn demand_is_told_by_the_hour_once_three_days_are_known_and_not_before() {
        let of = |hours| inferred(hours, None, |c| profile(&vm(), &name(), c));
        assert_eq!(of(71), None);
        let profile = of(72).unwrap();
        let night = profile.hours[3].cpu.0;
        let day = profile.hours[12].cpu.0;
        assert!((98..=102).contains(&night), "{night}");
        assert!((750..=800).contains(&day), "{day}");
    }

    #[test]
    fn the_busiest_hour_counts_with_its_margin_and_its_error_bars() {
        let mix = inferred(72, None, |c| mix(&vm(), &name(), &Need::default(), c));
        // 95 % of 400 to 799 is 779, and a fifth more.
        assert!((900..=960).contains(&mix.cpu.value), "{mix:?}");
        // Steps of the quantiles are a hundred and fiftieth; the upper bound may fall into the same.
        assert!(mix.cpu.lower < mix.cpu.value && mix.cpu.value <= mix.cpu.upper, "{mix:?}");
        assert!(mix.memory.value >= Bytes::mebi(240).0 * 98 / 100, "{mix:?}");
        assert_eq!(mix.memory_floor, None);
    }

    #[test]
    fn what_ran_out_of_memory_once_never_gets_less_than_it_had() {
        let mix = inferred(72, Some(2), |c| mix(&vm(), &name(), &Need::default(), c));
        assert_eq!(mix.memory_floor, Some(Bytes::mebi(200).0));
        assert!(mix.memory.lower >= Bytes::mebi(240).0, "{mix:?}");
    }

    #[test]
    fn a_floor_goes_where_the_application_went() {
        let elsewhere: VmId = "vm-2".parse().unwrap();
        let at = |context: &Context<'_>| mix(&elsewhere, &name(), &Need::default(), context);
        let gone = inferred(3, Some(2), at);
        assert_eq!(gone.memory_floor, Some(Bytes::mebi(200).0));

        let running = crate::inference::Standing {
            needs: [(name(), Need::default())].into(),
            ..crate::inference::Standing::default()
        };
        let former = crate::inference::Findings {
            machines: [(vm(), running)].into(),
            ..crate::inference::Findings::default()
        };
        let beside = inferred(3, Some(2), |context| at(&Context { former: &former, ..*context }));
        assert_eq!(beside.memory_floor, None, "another of its name has a floor of its own");
    }

    #[test]
    fn without_a_history_the_windows_held_count() {
        let need = Need { cpu_peak: Millicores(50), ..Need::default() };
        let mix = inferred(0, None, |c| mix(&vm(), &name(), &need, c));
        assert_eq!((mix.cpu.value, mix.demand.cpu), (60, Millicores(50)));
        // What nothing was tried of is known to a fifth or so.
        assert!((38..45).contains(&mix.cpu.lower) && (85..92).contains(&mix.cpu.upper), "{mix:?}");
    }

    #[test]
    fn what_trials_measured_moves_the_mix_and_closes_its_interval() {
        let need = Need { cpu_peak: Millicores(1_000), ..Need::default() };
        let after = |trials: usize| {
            let compared = Compared {
                application: name(),
                resource: Resource::Cpu,
                predicted: 1_000,
                measured: 1_300,
            };
            after_trials(0, None, &vec![compared; trials], |c| mix(&vm(), &name(), &need, c))
        };
        let mut before = after(0);
        assert_eq!((before.cpu_corrected.trials, before.cpu.value), (0, 1_200));
        for trials in 1..6 {
            let now = after(trials);
            assert!(now.cpu.value > before.cpu.value && now.cpu.value < 1_560, "{now:?}");
            let width = |mix: &ConfigurationMix| as_float(mix.cpu.upper) / as_float(mix.cpu.lower);
            assert!(width(&now) < width(&before), "{now:?} after {before:?}");
            assert_eq!((now.cpu_corrected.trials as usize, now.demand), (trials, before.demand));
            assert_eq!(now.memory, before.memory, "memory was not tried");
            before = now;
        }
    }
}
