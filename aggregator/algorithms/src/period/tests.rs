use super::*;
use crate::packing::Random;

fn exponential(random: &mut Random) -> f64 {
    -(1.0 - random.share()).ln()
}

/// A clock that strikes every `period` seconds, off by up to `jitter` of it, one strike in `loses`
/// lost.
fn clock(seed: u64, period: f64, jitter: f64, loses: usize) -> Vec<f64> {
    let mut random = Random::new(seed);
    let mut times = Vec::new();
    for strike in 0..60 {
        let off = (random.share() - 0.5) * 2.0 * jitter;
        if random.below(loses) > 0 {
            times.push((f64::from(strike) + off) * period);
        }
    }
    times
}

fn chance(seed: u64, mean: f64) -> Vec<f64> {
    let mut random = Random::new(seed);
    let mut at = 0.0;
    (0..80)
        .map(|_| {
            at += mean * exponential(&mut random);
            at
        })
        .collect()
}

fn of(times: &[f64], resolution: f64) -> Option<Period> {
    of_train(&Train { times, resolution }, 0.01)
}

#[test]
fn a_clock_is_found_to_the_second_though_strikes_are_lost() {
    for seed in 1000..1100 {
        let period = of(&clock(seed, 300.0, 0.1, 8), 1.0).unwrap();
        assert!((period.seconds - 300.0).abs() < 3.0, "{seed}: {period:?}");
        assert!(period.is_trusted && period.false_alarm < 1e-4);
    }
}

#[test]
fn chance_has_a_period_no_more_often_than_said() {
    let alarms = (2000..3000).filter(|seed| of(&chance(*seed, 40.0), 1.0).is_some()).count();
    assert!(alarms <= 10, "{alarms} of 1000 at one in a hundred");
}

#[test]
fn a_burst_is_one_event() {
    let strikes = clock(1001, 600.0, 0.02, 100);
    let bursts: Vec<f64> =
        strikes.iter().flat_map(|at| (0..9).map(move |retry| at + f64::from(retry))).collect();
    let (alone, in_bursts) = (of(&strikes, 1.0).unwrap(), of(&bursts, 1.0).unwrap());
    assert_eq!(alone.events, in_bursts.events);
    assert!((in_bursts.seconds - 600.0).abs() < 1.0, "{in_bursts:?}");
}

#[test]
fn the_comb_of_the_looking_is_no_period() {
    let rounded = |times: Vec<f64>| -> Vec<f64> {
        times.into_iter().map(|time| (time / 15.0).floor() * 15.0).collect()
    };
    for seed in 3000..3100 {
        let found = of(&rounded(chance(seed, 60.0)), 15.0);
        assert!(found.is_none_or(|period| period.seconds >= 30.0), "{found:?}");
    }
    assert_eq!(of(&rounded(clock(1002, 20.0, 0.0, 100)), 15.0), None, "below two looks");
    let barely = of(&rounded(clock(1003, 45.0, 0.0, 100)), 15.0).unwrap();
    assert!(!barely.is_trusted && (barely.seconds - 45.0).abs() < 1.0, "{barely:?}");
    assert!(of(&rounded(clock(1004, 75.0, 0.0, 100)), 15.0).unwrap().is_trusted);
}

#[test]
fn what_comes_at_every_look_has_the_period_of_the_looking_alone() {
    let every_look: Vec<f64> = (0..100).map(|look| f64::from(look) * 15.0).collect();
    assert_eq!(of(&every_look, 15.0), None);
    let mut random = Random::new(9);
    let nearly: Vec<f64> = every_look.into_iter().filter(|_| random.below(8) > 0).collect();
    assert_eq!(of(&nearly, 15.0), None);
}

#[test]
fn few_events_are_told_only_if_they_are_very_even() {
    let days: Vec<f64> = (0..6).map(|day| f64::from(day) * 86_400.0).collect();
    assert!((of(&days, 60.0).unwrap().seconds - 86_400.0).abs() < 60.0);
    assert_eq!(of(&days[..5], 60.0), None);
    assert_eq!(of(&[0.0, 10.0, 500.0, 530.0, 900.0, 2000.0], 1.0), None);
}

#[test]
fn only_the_distances_of_times_count() {
    let (times, epoch) = (clock(1005, 120.0, 0.05, 10), 1_764_000_000.0);
    let later: Vec<f64> = times.iter().map(|time| time + epoch).collect();
    let (near, far) = (of(&times, 1.0).unwrap(), of(&later, 1.0).unwrap());
    assert!((near.seconds - far.seconds).abs() < 1e-3);
}

#[test]
fn what_is_no_train_has_no_period() {
    assert_eq!(of(&[], 1.0), None);
    assert_eq!(of(&[5.0; 100], 1.0), None);
    assert_eq!(of(&[f64::NAN; 100], 1.0), None);
    assert_eq!(of(&[f64::INFINITY, f64::MAX, 0.0, -1.0, f64::MIN, 3.0, 9.0], 1.0), None);
}

/// A normal value (Box & Muller).
fn normal(random: &mut Random) -> f64 {
    let radius = (-2.0 * (1.0 - random.share()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.share()).cos()
}

/// What sleeps a period after each event, give or take a share of it: its jitter adds up.
fn sleeper(seed: u64, period: f64, jitter: f64) -> Vec<f64> {
    let mut random = Random::new(seed);
    let mut at = 0.0;
    (0..60)
        .map(|_| {
            at += period * (1.0 + jitter * normal(&mut random)).max(0.1);
            at
        })
        .collect()
}

#[test]
fn the_interval_holds_the_truth_of_what_sleeps_too_however_much_it_is_off() {
    for jitter in [0.02, 0.1, 0.2] {
        let told = (5000..5300).filter_map(|seed| of(&sleeper(seed, 900.0, jitter), 1.0));
        let told: Vec<Period> = told.collect();
        let holds = told.iter().map(|period| period.interval);
        let holds = holds.filter(|told| told.lower <= 900.0 && 900.0 <= told.upper).count();
        assert!(told.len() >= 290, "{jitter}: {} of 300 told", told.len());
        assert!(holds * 100 >= told.len() * 93, "{jitter}: {holds} of {}", told.len());
    }
}

#[test]
fn the_interval_holds_the_truth_as_often_as_said() {
    let holds = (4000..4200).filter(|seed| {
        let period = of(&clock(*seed, 900.0, 0.1, 10), 1.0).unwrap();
        period.interval.lower <= 900.0 && 900.0 <= period.interval.upper
    });
    let holds = holds.count();
    assert!(holds >= 180, "{holds} of 200");
}

/// A clock of which three strikes in ten are lost, with half as many events besides as it strikes.
fn drowned(seed: u64, period: f64, jitter: f64) -> Vec<f64> {
    let mut random = Random::new(seed);
    let mut times = Vec::new();
    for strike in 0..80 {
        if random.share() >= 0.3 {
            times.push((f64::from(strike) + jitter * normal(&mut random)) * period);
        }
        if random.share() < 0.5 {
            times.push((f64::from(strike) + random.share()) * period);
        }
    }
    times.sort_by(f64::total_cmp);
    times
}

#[test]
fn where_another_period_fits_as_well_the_interval_holds_both() {
    for (jitter, least) in [(0.1, 240), (0.2, 150)] {
        let told = (6000..6300).filter_map(|seed| of(&drowned(seed, 900.0, jitter), 1.0));
        let told: Vec<Period> = told.collect();
        let holds = told.iter().map(|period| period.interval);
        let holds = holds.filter(|told| told.lower <= 900.0 && 900.0 <= told.upper).count();
        assert!(told.len() >= least, "{jitter}: {} of 300 told", told.len());
        assert!(holds * 10 >= told.len() * 9, "{jitter}: {holds} of {}", told.len());
    }
}
