//! How often applications answered, before and after, and when fewer is too few.
//!
//! Arrivals vary by chance. A rate has fallen only if what was counted is less than chance gives
//! once in forty times at the rate that would just be right; a rate so low that even silence could
//! be chance in the longest audit is shown and not held against.

use std::{collections::BTreeMap, collections::BTreeSet, time::Duration};

use common::id::AppName;

use crate::{
    inference::Findings,
    journal::{Measurement, Served},
    plan::Plan,
};

/// One in forty: the lower end of an interval of 95 %.
const BY_CHANCE: f64 = 0.025;

/// From here on connections are held open as a matter of course, and that they are is held too.
const HELD_OPEN: f64 = 0.5;

/// Connections that last this long on average, in seconds, are held open: of a pool, how many are
/// open says what new ones cannot. Of short ones, fewer open at once at the same rate only says
/// that they are answered sooner (Little's law).
const HELD_FOR: f64 = 30.0;

/// Above this expectation the normal distribution is the Poisson distribution for our purpose.
const LARGE: f64 = 500.0;

/// What the applications of the machines that `plan` touches answer, by what was found last.
#[must_use]
pub fn baseline(plan: &Plan, findings: &Findings) -> Vec<Served> {
    let touched: BTreeSet<&AppName> =
        plan.changes.values().flat_map(|change| change.mix_before.0.keys()).collect();
    let all = totals(findings).into_iter();
    let of_plan = all.filter(|((application, _), _)| touched.contains(application));
    of_plan
        .map(|((application, port), (per_second, open_mean))| Served {
            application,
            port,
            per_second,
            open_mean,
        })
        .collect()
}

/// Each served rate held against its baseline, and whether more windows could tell more.
pub(super) fn held(
    served: &[Served],
    findings: &Findings,
    (watched, longest): (Duration, Duration),
    tolerance: f64,
) -> (Vec<Measurement>, bool) {
    let now = totals(findings);
    let mut measurements = Vec::new();
    let mut is_open = false;
    for before in served {
        let key = (before.application.clone(), before.port);
        let (per_second, open_mean) = now.get(&key).copied().unwrap_or_default();
        let least = before.per_second * (1.0 - tolerance);
        let expected = least * watched.as_secs_f64();
        let can_tell = silence_tells(expected);
        let could_tell = silence_tells(least * longest.as_secs_f64());
        is_open |= could_tell && !can_tell;
        let counted = per_second * watched.as_secs_f64();
        let threshold = if could_tell {
            format!("not below {least:.3}, chance left out")
        } else {
            "nothing: it is too rare to tell".into()
        };
        measurements.push(Measurement {
            name: format!("connections to {} on port {}", before.application, before.port),
            value: Some(per_second),
            unit: "per second".into(),
            threshold,
            passed: !can_tell || at_most(counted, expected) >= BY_CHANCE,
        });
        if are_held_open(before) {
            let least = before.open_mean * (1.0 - tolerance);
            measurements.push(Measurement {
                name: format!("open connections to {} on port {}", before.application, before.port),
                value: Some(open_mean),
                unit: "on average".into(),
                threshold: format!("at least {least:.2}"),
                passed: open_mean >= least,
            });
        }
    }
    (measurements, is_open)
}

fn are_held_open(before: &Served) -> bool {
    let last_long = before.open_mean >= HELD_FOR * before.per_second;
    before.open_mean >= HELD_OPEN && last_long
}

/// New connections per second and connections open, by application and port, all clients together.
fn totals(findings: &Findings) -> BTreeMap<(AppName, u16), (f64, f64)> {
    let mut totals: BTreeMap<_, (f64, f64)> = BTreeMap::new();
    for (key, edge) in &findings.edges {
        if let Some(application) = key.server.application() {
            let total = totals.entry((application.clone(), key.port)).or_default();
            total.0 += edge.connections.per_second;
            total.1 += edge.open_mean;
        }
    }
    totals
}

fn silence_tells(expected: f64) -> bool {
    at_most(0.0, expected) < BY_CHANCE
}

/// Probability of no more than `counted` events where `expected` are expected by chance.
fn at_most(counted: f64, expected: f64) -> f64 {
    if expected <= 0.0 || counted >= expected {
        return 1.0;
    }
    if expected > LARGE {
        // The tail of the normal distribution, by the logistic curve that lies next to it.
        let deviations = (counted + 0.5 - expected) / expected.sqrt();
        return 1.0 / (1.0 + (-1.702 * deviations).exp());
    }
    let mut term = (-expected).exp();
    let mut sum = term;
    let mut count = 1.0;
    while count <= counted.round() {
        term *= expected / count;
        sum += term;
        count += 1.0;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_what_the_tables_say() {
        assert!((at_most(0.0, 3.0) - 0.0498).abs() < 0.0001);
        assert!((at_most(5.0, 10.0) - 0.0671).abs() < 0.0001);
        assert!(at_most(900.0, 1000.0) < 0.01);
        assert!(at_most(990.0, 1000.0) > 0.2);
    }

    #[test]
    fn a_rate_that_fell_to_nothing_is_told_and_a_rare_one_is_left_alone() {
        let served = |per_second| Served {
            application: "web".parse().unwrap(),
            port: 80,
            per_second,
            open_mean: 0.0,
        };
        let span = (Duration::from_secs(20), Duration::from_secs(60));
        let judge = |per_second| held(&[served(per_second)], &Findings::default(), span, 0.2);

        let (measurements, is_open) = judge(2.0);
        assert!(!measurements[0].passed && !is_open);
        let (measurements, is_open) = judge(0.1);
        assert!(measurements[0].passed && is_open, "more windows can tell");
        let (measurements, is_open) = judge(0.01);
        assert!(measurements[0].passed && !is_open, "no audit is that long");
    }

    #[test]
    fn short_connections_may_be_fewer_at_once_and_a_pool_may_not() {
        let served = |per_second, open_mean| Served {
            application: "web".parse().unwrap(),
            port: 80,
            per_second,
            open_mean,
        };
        let span = (Duration::from_secs(20), Duration::from_secs(60));
        let names = |served: Served| {
            let (measurements, _) = held(&[served], &Findings::default(), span, 0.2);
            measurements.into_iter().map(|one| (one.name, one.passed)).collect::<Vec<_>>()
        };
        assert_eq!(names(served(5.0, 1.0)).len(), 1);
        let pool = names(served(0.01, 4.0));
        assert_eq!(pool[1], ("open connections to web on port 80".to_owned(), false));
    }
}
