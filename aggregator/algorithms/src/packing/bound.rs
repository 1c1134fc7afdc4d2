//! The least that any packing can cost.
//!
//! Bins that are kept anyway cost what they cost, and what they have room for is free. What is
//! left over must go into bins that could be closed: at least as many as the volume of each
//! dimension asks for, and as Martello and Toth's bound L2 asks for where items are large.

use super::{End, Packing};

/// Pairs of an item and a bin that are looked at one by one.
const PLACES_LOOKED_AT: usize = 8_000_000;

/// A cost below which no packing is.
#[must_use]
pub fn bound(packing: &Packing) -> f64 {
    let kept = packing.bins.iter().filter(|bin| bin.stays);
    let kept: f64 = kept.map(|bin| bin.fixed_cost).sum();
    kept + closable(packing) + placed(packing)
}

/// Least number of bins that hold an item or are kept anyway.
#[must_use]
pub fn bins(packing: &Packing) -> usize {
    let kept = packing.bins.iter().filter(|bin| bin.stays).count();
    kept + more(packing)
}

/// What it costs at least to have the items anywhere: each where it is cheapest.
fn placed(packing: &Packing) -> f64 {
    let has_cost =
        packing.bins.iter().any(|bin| bin.reluctance != 0.0 || !bin.unit_cost.is_empty());
    if !has_cost {
        return 0.0;
    }
    if packing.items().saturating_mul(packing.bins()) > PLACES_LOOKED_AT {
        return placed_anywhere(packing);
    }
    let least = |item: usize| {
        let fits = (0..packing.bins()).filter(|bin| packing.may(item, *bin));
        let costs = fits.map(|bin| packing.place_cost(item, bin) - moved(packing, item, bin));
        costs.fold(f64::INFINITY, f64::min)
    };
    let each = (0..packing.items()).map(least).filter(|cost| cost.is_finite());
    each.sum()
}

/// The same where there are too many places to look at each: wherever it is cheapest to be at all.
fn placed_anywhere(packing: &Packing) -> f64 {
    let bins = packing.bins.iter();
    if bins.clone().any(|bin| bin.unit_cost.iter().any(|cost| *cost < 0.0)) {
        return f64::NEG_INFINITY;
    }
    let least = bins.map(|bin| bin.reluctance).fold(f64::INFINITY, f64::min);
    if least.is_finite() { least * packing.items() as f64 } else { 0.0 }
}

fn moved(packing: &Packing, item: usize, bin: usize) -> f64 {
    let of = &packing.items[item];
    if of.home.is_some_and(|home| home != bin) { of.move_cost } else { 0.0 }
}

/// Indices of the bins that could be closed and hold, or may take in, something.
fn may_close(packing: &Packing) -> Vec<usize> {
    let mut has_home = vec![false; packing.bins()];
    for home in packing.items.iter().filter_map(|item| item.home) {
        has_home[home] = true;
    }
    let useful = |bin: &usize| {
        let of = &packing.bins[*bin];
        !of.stays && (of.accepts || has_home[*bin])
    };
    (0..packing.bins()).filter(useful).collect()
}

fn room(packing: &Packing, bin: usize, dim: usize) -> f64 {
    (packing.capacity(bin)[dim] - packing.base(bin)[dim]).max(0.0)
}

/// What the bins cost at least that are needed beside those that are kept.
fn closable(packing: &Packing) -> f64 {
    let bins = may_close(packing);
    let mut costs: Vec<f64> = bins.iter().map(|bin| packing.bins[*bin].fixed_cost).collect();
    costs.sort_by(f64::total_cmp);
    let by_number: f64 = costs.iter().take(more(packing)).sum();
    let by_volume = (0..packing.dims).map(|dim| cover(packing, &bins, dim)).fold(0.0, f64::max);
    by_number.max(by_volume)
}

/// What is left of a dimension once the bins that are kept are full.
fn left_over(packing: &Packing, dim: usize) -> f64 {
    let asked: f64 = (0..packing.items()).map(|item| packing.demand(item)[dim]).sum();
    let kept = (0..packing.bins()).filter(|bin| packing.bins[*bin].stays);
    let free: f64 = kept.map(|bin| room(packing, bin, dim)).sum();
    (asked - free).max(0.0)
}

/// Cheapest bins by room until the rest is covered, the last of them in part: the relaxation of a
/// cover with one constraint.
fn cover(packing: &Packing, bins: &[usize], dim: usize) -> f64 {
    let mut left = left_over(packing, dim);
    let mut offers: Vec<(f64, f64)> = bins
        .iter()
        .map(|bin| (packing.bins[*bin].fixed_cost, room(packing, *bin, dim)))
        .filter(|(cost, room)| *room > 0.0 && *cost >= 0.0)
        .collect();
    offers.sort_by(|one, other| (one.0 * other.1).total_cmp(&(other.0 * one.1)));
    let mut cost = 0.0;
    for (price, room) in offers {
        let part = (left / room).min(1.0);
        cost += price * part;
        left -= room * part;
        if left <= 0.0 {
            break;
        }
    }
    cost
}

/// Least number of bins needed beside those that are kept.
fn more(packing: &Packing) -> usize {
    let bins = may_close(packing);
    let kept = packing.bins.iter().filter(|bin| bin.stays).count();
    let by_dim = (0..packing.dims).map(|dim| by_volume(packing, &bins, dim));
    let large = (0..packing.dims).map(|dim| by_size(packing, dim).saturating_sub(kept));
    let least = usize::from(kept == 0 && packing.items() > 0);
    by_dim.chain(large).fold(least, usize::max).min(bins.len())
}

/// Largest bins first until the rest is covered.
fn by_volume(packing: &Packing, bins: &[usize], dim: usize) -> usize {
    let mut left = left_over(packing, dim);
    let mut rooms: Vec<f64> = bins.iter().map(|bin| room(packing, *bin, dim)).collect();
    rooms.sort_by(|one, other| other.total_cmp(one));
    let mut needed = 0;
    for room in rooms {
        if left <= 0.0 {
            break;
        }
        left -= room;
        needed += 1;
    }
    needed
}

/// L2 with every bin as large as the largest: items above half of it share with none of their
/// kind, and what is left beside them holds only so much of the middling ones.
fn by_size(packing: &Packing, dim: usize) -> usize {
    let most = (0..packing.bins()).map(|bin| room(packing, bin, dim)).fold(0.0, f64::max);
    if most <= 0.0 {
        return 0;
    }
    let mut sizes: Vec<f64> = (0..packing.items()).map(|item| packing.demand(item)[dim]).collect();
    // Larger than any room: at home where nothing else fits; it says nothing of the others.
    sizes.retain(|size| *size > 0.0 && *size <= most);
    sizes.sort_by(f64::total_cmp);
    let upper = |limit: f64| sizes.partition_point(|size| *size <= limit);
    let sum: Vec<f64> = std::iter::once(0.0)
        .chain(sizes.iter().scan(0.0, |sum, size| {
            *sum += size;
            Some(*sum)
        }))
        .collect();
    let half = upper(most / 2.0);
    let mut thresholds: Vec<f64> = sizes[..half].to_vec();
    thresholds.dedup();
    thresholds.push(0.0);
    let mut best = 0;
    for threshold in thresholds {
        let from = sizes.partition_point(|size| *size < threshold);
        let large = upper(most - threshold).max(half);
        let alone = sizes.len() - large;
        let beside = large - half;
        let free = most * beside as f64 - (sum[large] - sum[half]);
        let middling = (sum[half] - sum[from.min(half)] - free).max(0.0);
        best = best.max(alone + beside + ceil(middling / most));
    }
    best
}

fn ceil(value: f64) -> usize {
    // A hair above a whole number is that number: a bound may be too low, never too high.
    let whole = (value - 1e-9).ceil().max(0.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is a number of bins, and none is below 0"
    )]
    let bins = whole as usize;
    bins
}

/// Whether the cost of ties depends on where other items are.
pub(super) fn has_item_ties(packing: &Packing) -> bool {
    packing.items.iter().any(|item| item.ties.iter().any(|tie| matches!(tie.to, End::Item(_))))
}
