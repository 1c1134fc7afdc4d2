//! Counts over time laid one cycle upon the other: do the same hours, days or dates stand out?
//!
//! What is told is the variance of the mean cycle. Chance is told by turning every cycle by an amount
//! of its own: that keeps how load rises and falls within a day, and takes away only that all days do
//! so at the same hour. It is given up once ten turns look as much alike (Besag & Clifford, Biometrika
//! 1991): what has no cycle, as nearly all has, costs a tenth. Counts enter as their square roots, whose scatter does not grow with them
//! (Anscombe, Biometrika 1948). Beyond what 199 turns can tell, the chance is that of the gamma law with
//! their mean and variance.

use crate::{interval::gamma_above, packing::Random};

/// Fewer whole cycles tell nothing of the next one.
pub const FEWEST_CYCLES: usize = 6;
/// Turns of all cycles that chance is told by.
const TURNS: usize = 199;
/// Turns that look as much alike after which no more are made.
const REACHED_ENOUGH: usize = 10;
/// Chance is the same for the same counts.
const SEED: u64 = 0x5eed_f01d;

/// What folding shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Folded {
    /// How often cycles that know nothing of each other look as much alike.
    pub false_alarm: f64,
    /// Share of all variance that the mean cycle explains.
    pub power: f64,
    /// The place in the cycle that stands out most, from 0.
    pub peak: usize,
    /// Cycles it rests on.
    pub cycles: usize,
}

/// Lays cycles upon each other. Each is the counts of its places in order, `None` where nobody
/// looked; they may differ in length, as months do. `None` with too few cycles that were watched for at least half
/// of their places, or if nothing ever happened or never changed.
#[must_use]
pub fn fold(cycles: &[&[Option<u64>]]) -> Option<Folded> {
    let watched = cycles.iter().filter(|cycle| 2 * known(cycle) >= cycle.len().max(1));
    let rows: Vec<Vec<Option<f64>>> = watched.map(|cycle| roots(cycle)).collect();
    if rows.len() < FEWEST_CYCLES {
        return None;
    }
    let seen = between(&rows, &vec![0; rows.len()]);
    let all = total(&rows);
    if seen.0 <= 0.0 || all <= 0.0 {
        return None;
    }
    Some(Folded {
        false_alarm: chance_of(seen.0, &rows),
        power: (seen.0 / all).min(1.0),
        peak: seen.1,
        cycles: rows.len(),
    })
}

fn known(cycle: &[Option<u64>]) -> usize {
    cycle.iter().flatten().count()
}

#[expect(clippy::cast_precision_loss, reason = "the root of a count is blurred by chance anyway")]
fn roots(cycle: &[Option<u64>]) -> Vec<Option<f64>> {
    cycle.iter().map(|count| count.map(|count| (count as f64).sqrt())).collect()
}

/// Sum of squares of the places' means about the mean of all, each weighed by its cycles, and the
/// place whose mean is largest.
fn between(rows: &[Vec<Option<f64>>], turns: &[usize]) -> (f64, usize) {
    let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut sums = vec![(0.0, 0.0); longest];
    for (row, turn) in rows.iter().zip(turns) {
        let turned = row[*turn..].iter().chain(&row[..*turn]);
        for (place, value) in sums.iter_mut().zip(turned) {
            if let Some(value) = value {
                place.0 += value;
                place.1 += 1.0;
            }
        }
    }
    let (sum, count) =
        sums.iter().fold((0.0, 0.0), |all, place| (all.0 + place.0, all.1 + place.1));
    let mean = if count > 0.0 { sum / count } else { 0.0 };
    let means = sums.iter().map(|(sum, count)| if *count > 0.0 { sum / count } else { 0.0 });
    let peak = means.clone().enumerate().max_by(|(_, one), (_, other)| one.total_cmp(other));
    let squares = means.zip(&sums).map(|(place, (_, count))| count * (place - mean).powi(2));
    (squares.sum(), peak.map_or(0, |(place, _)| place))
}

/// Sum of squares of all values about their mean.
#[expect(clippy::cast_precision_loss, reason = "places are few")]
fn total(rows: &[Vec<Option<f64>>]) -> f64 {
    let values: Vec<f64> = rows.iter().flatten().flatten().copied().collect();
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    values.iter().map(|value| (value - mean).powi(2)).sum()
}

/// How often cycles that are turned by chance look as much alike.
#[expect(clippy::cast_precision_loss, reason = "turns are 199")]
fn chance_of(seen: f64, rows: &[Vec<Option<f64>>]) -> f64 {
    let mut random = Random::new(SEED);
    let mut turns = vec![0; rows.len()];
    let (mut reached, mut chance) = (0_usize, Vec::with_capacity(TURNS));
    while chance.len() < TURNS {
        for (turn, row) in turns.iter_mut().zip(rows) {
            *turn = random.below(row.len().max(1));
        }
        let turned = between(rows, &turns).0;
        chance.push(turned);
        reached += usize::from(turned >= seen);
        if reached == REACHED_ENOUGH {
            return reached as f64 / chance.len() as f64;
        }
    }
    let n = chance.len() as f64;
    let counted = (reached as f64 + 1.0) / (n + 1.0);
    let mean = chance.iter().sum::<f64>() / n;
    let variance = chance.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    if reached > 0 || variance <= 0.0 {
        return counted;
    }
    gamma_above(mean * mean / variance, seen * mean / variance).min(counted)
}

/// When something stood out: the starts, in seconds from the first, of stretches of slots that hold
/// more than twice the middle count, and more than chance adds to it. Slots that nobody watched hold
/// nothing. With what runs for hours on end this tells periods that single events are too many for.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts of a slot are far below 2^52")]
pub fn stretches(slots: &[Option<u64>], seconds: f64) -> Vec<f64> {
    let mut counts: Vec<u64> = slots.iter().copied().flatten().collect();
    counts.sort_unstable();
    let middle = counts.get(counts.len() / 2).copied().unwrap_or(0) as f64;
    // Chance passes four standard deviations once in 30,000 slots.
    let most = (2.0 * middle).max(middle + 4.0 * middle.sqrt());
    let stands_out = |slot: &Option<u64>| slot.is_some_and(|count| count as f64 > most);
    let starts = slots.iter().enumerate().filter(|(at, slot)| {
        stands_out(slot) && !at.checked_sub(1).is_some_and(|before| stands_out(&slots[before]))
    });
    starts.map(|(at, _)| at as f64 * seconds).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A week of hours. Load that wanders, and a job at some hour of the day.
    fn week(seed: u64, job: Option<usize>) -> Vec<Option<u64>> {
        let mut random = Random::new(seed);
        let mut load = 200_usize;
        let hours = (0..7 * 24).map(|hour| {
            load = (load + random.below(121)).saturating_sub(60).clamp(20, 600);
            let own = load * (7 + random.below(7)) / 100;
            let more = if job == Some(hour % 24) { 60 } else { 0 };
            Some((own + more) as u64)
        });
        hours.collect()
    }

    fn folded(slots: &[Option<u64>]) -> Option<Folded> {
        fold(&slots.chunks(24).collect::<Vec<_>>())
    }

    #[test]
    fn a_job_at_the_same_hour_of_each_day_stands_out_of_a_load_that_wanders() {
        for seed in 1000..1040 {
            let found = folded(&week(seed, Some(3))).unwrap();
            assert!(found.false_alarm < 0.01 && found.peak == 3, "{seed}: {found:?}");
        }
    }

    #[test]
    fn a_load_that_only_wanders_is_taken_for_a_daily_one_no_more_often_than_said() {
        let alarms =
            (2000..2600).filter(|seed| folded(&week(*seed, None)).unwrap().false_alarm <= 0.05);
        let alarms = alarms.count();
        assert!((10..=50).contains(&alarms), "{alarms} of 600 at one in twenty");
    }

    #[test]
    fn hours_that_nobody_watched_are_not_silent_ones() {
        let mut slots = week(7, Some(3));
        (24 * 2..24 * 2 + 9).for_each(|hour| slots[hour] = None);
        assert_eq!(folded(&slots).unwrap().cycles, 7);
        (24 * 4..24 * 6).for_each(|hour| slots[hour] = None);
        assert_eq!(folded(&slots), None, "five days are too few");
    }

    #[test]
    fn silence_and_sameness_have_no_cycle() {
        assert_eq!(folded(&vec![Some(0); 168]), None);
        assert_eq!(folded(&vec![Some(9); 168]), None);
    }

    #[test]
    fn stretches_begin_where_counts_stand_out_and_not_with_every_slot() {
        let slots = [3, 4, 90, 80, 3, 0, 5, 4, 70, 3].map(Some);
        assert_eq!(stretches(&slots, 300.0), [600.0, 2400.0]);
        assert_eq!(stretches(&[Some(0), None, Some(1), Some(0)], 60.0), [120.0]);
        assert!(stretches(&[], 60.0).is_empty());
    }
}
