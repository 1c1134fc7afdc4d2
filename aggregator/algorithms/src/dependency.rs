//! Whether what comes out of something depends on what goes into it: how strongly, and how surely it
//! is more than chance.
//!
//! Three tests, from the sharpest downward: flows nested in flows where times are known (`NSDMiner`,
//! Natarajan and others 2012, ranked after Peddycord and others 2012), rank correlation of rates by
//! interval (Spearman 1904), and intervals in which both were active (Fisher 1935). Many pairs are
//! tested at once: [`discoveries`] keeps the share of false ones among those told (Benjamini,
//! Hochberg 1995).

use crate::normal::above;

/// Fewer intervals than this say nothing about correlation.
pub const INTERVALS_NEEDED: usize = 12;
/// Intervals by which an effect may follow its cause at most.
const MOST_LAG: usize = 2;

/// How closely rates go together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Correlation {
    /// Spearman's rank correlation, from -1 to 1.
    pub rho: f64,
    /// Intervals by which the second follows the first.
    pub lag: usize,
    /// How likely chance gives so much or more at any of the lags.
    pub chance: f64,
}

/// The strongest rank correlation of `cause` with what follows it by 0 to 2 intervals. `None` below
/// 12 intervals, if the two are not equally long, or if either never changes.
#[must_use]
pub fn correlation(cause: &[f64], effect: &[f64]) -> Option<Correlation> {
    if cause.len() != effect.len() {
        return None;
    }
    let at_lag = |lag: usize| {
        let length = cause.len().checked_sub(lag).filter(|length| *length >= INTERVALS_NEEDED)?;
        let rho = spearman(&cause[..length], &effect[lag..])?;
        // Bonferroni over the lags: the best of three looks is no single look.
        let chance = (chance_of_rank(rho, length) * (MOST_LAG + 1) as f64).min(1.0);
        Some(Correlation { rho, lag, chance })
    };
    (0..=MOST_LAG).filter_map(at_lag).max_by(|a, b| a.rho.total_cmp(&b.rho).then(b.lag.cmp(&a.lag)))
}

/// Spearman's rank correlation with mean ranks for ties; `None` where it is not defined.
#[must_use]
pub fn spearman(one: &[f64], other: &[f64]) -> Option<f64> {
    if one.len() != other.len() || one.len() < 2 {
        return None;
    }
    let (one, other) = (ranks(one), ranks(other));
    let mean = (one.len() + 1) as f64 / 2.0;
    let (mut both, mut first, mut second) = (0.0, 0.0, 0.0);
    for (a, b) in one.iter().zip(&other) {
        let (a, b) = (a - mean, b - mean);
        both += a * b;
        first += a * a;
        second += b * b;
    }
    (first > 0.0 && second > 0.0).then(|| both / (first * second).sqrt())
}

/// Ranks from 1, equal values at the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]).then(a.cmp(b)));
    let mut ranks = vec![0.0; values.len()];
    let mut from = 0;
    while from < order.len() {
        let same =
            order[from..].iter().take_while(|at| values[**at] == values[order[from]]).count();
        let same = same.max(1);
        for at in &order[from..from + same] {
            ranks[*at] = (2 * from + same + 1) as f64 / 2.0;
        }
        from += same;
    }
    ranks
}

/// How likely ranks that have nothing to do with each other correlate so much or more: Fisher's
/// transformation with the variance 1.06/(n - 3) of Fieller, Hartley and Pearson (1957).
fn chance_of_rank(rho: f64, length: usize) -> f64 {
    let spread = (1.06 / (length as f64 - 3.0)).sqrt();
    above(rho.clamp(-0.999_999, 0.999_999).atanh() / spread)
}

/// How likely two things that are active in `first` and `second` of `intervals` are both active in
/// `both` of them or more, if they have nothing to do with each other: the upper tail of the
/// hypergeometric distribution, exact. `None` for counts that cannot be.
#[must_use]
pub fn chance_of_company(intervals: u32, first: u32, second: u32, both: u32) -> Option<f64> {
    let (least, most) = (first.min(second), (first + second).saturating_sub(intervals));
    if first.max(second) > intervals || both > least || both < most {
        return None;
    }
    let choose = |n: u32, k: u32| ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k);
    let all = choose(intervals, second);
    let term = |k: u32| (choose(first, k) + choose(intervals - first, second - k) - all).exp();
    Some((both..=least).map(term).sum::<f64>().min(1.0))
}

fn ln_factorial(n: u32) -> f64 {
    (2..=n).map(|k| f64::from(k).ln()).sum()
}

/// Which of many findings hold so that of all that do the share of false ones is at most `share`
/// (Benjamini, Hochberg 1995); each is told by how likely chance gives it.
#[must_use]
pub fn discoveries(chances: &[f64], share: f64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..chances.len()).collect();
    order.sort_by(|a, b| chances[*a].total_cmp(&chances[*b]).then(a.cmp(b)));
    let is_below =
        |rank: usize, at: usize| chances[at] <= share * (rank + 1) as f64 / chances.len() as f64;
    let last = order.iter().enumerate().rposition(|(rank, at)| is_below(rank, *at));
    let kept = last.map_or(0, |rank| rank + 1);
    let mut held = vec![false; chances.len()];
    for at in &order[..kept] {
        held[*at] = true;
    }
    held
}

/// Flows of one service, and how many of them a flow of another was nested in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Nesting {
    /// Flows into the service.
    pub flows: u64,
    /// Those of them during which at least one flow to the other began.
    pub nested: u64,
}

impl Nesting {
    /// Share of the flows that had one of the other in them; `None` without flows.
    #[must_use]
    pub fn confidence(&self) -> Option<f64> {
        (self.flows > 0).then(|| self.nested as f64 / self.flows as f64)
    }

    /// Peddycord's rank `log_w(A) w(A,B)`, from 0 to 1: a rare call among very many is not lost.
    /// `None` below two flows, where the base of the logarithm is none.
    #[must_use]
    pub fn rank(&self) -> Option<f64> {
        if self.flows < 2 {
            return None;
        }
        if self.nested == 0 {
            return Some(0.0);
        }
        Some((self.nested as f64).ln() / (self.flows as f64).ln())
    }
}

/// How many of the flows `outer` (begin, end) had one of `starts` begin within them. `starts` are in
/// order.
#[must_use]
pub fn nesting(outer: &[(f64, f64)], starts: &[f64]) -> Nesting {
    let is_nested = |&&(begin, end): &&(f64, f64)| {
        let next = starts.partition_point(|start| *start < begin);
        starts.get(next).is_some_and(|start| *start <= end)
    };
    Nesting { flows: outer.len() as u64, nested: outer.iter().filter(is_nested).count() as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packing::Random;

    #[test]
    fn ranks_of_equals_are_shared() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
    }

    #[test]
    fn what_grows_together_correlates_whatever_its_shape() {
        let one: Vec<f64> = (1..=20).map(f64::from).collect();
        let other: Vec<f64> = one.iter().map(|x| x.powi(3)).collect();
        assert!((spearman(&one, &other).unwrap() - 1.0).abs() < 1e-12);
        // Spearman's own formula 1 - 6 sum d^2 / (n (n^2 - 1)) gives 0.8 here.
        assert!(
            (spearman(&[1.0, 2.0, 3.0, 4.0], &[2.0, 1.0, 3.0, 4.0]).unwrap() - 0.8).abs() < 1e-12
        );
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), None);
    }

    #[test]
    fn an_effect_that_comes_later_is_found_at_its_lag() {
        let mut random = Random::new(2);
        let cause: Vec<f64> = (0..48).map(|_| random.share()).collect();
        let effect: Vec<f64> = (0..48_usize).map(|at| cause[at.saturating_sub(2)]).collect();
        let found = correlation(&cause, &effect).unwrap();
        assert!(found.lag == 2 && found.rho > 0.95 && found.chance < 1e-6, "{found:?}");
        assert_eq!(correlation(&cause[..11], &effect[..11]), None);
    }

    #[test]
    fn chance_is_told_as_often_as_it_happens() {
        let mut random = Random::new(9);
        let mut below = 0_u32;
        for _ in 0..2_000 {
            let one: Vec<f64> = (0..24).map(|_| random.share()).collect();
            let other: Vec<f64> = (0..24).map(|_| random.share()).collect();
            below += u32::from(chance_of_rank(spearman(&one, &other).unwrap(), 24) < 0.05);
        }
        assert!((70..130).contains(&below), "{below} of 2000 below 0.05");
    }

    #[test]
    fn the_exact_test_is_that_of_the_lady_tasting_tea() {
        // Fisher: all four cups right is 1 in 70, three or more 17 in 70.
        assert!((chance_of_company(8, 4, 4, 4).unwrap() - 1.0 / 70.0).abs() < 1e-12);
        assert!((chance_of_company(8, 4, 4, 3).unwrap() - 17.0 / 70.0).abs() < 1e-12);
        assert!((chance_of_company(8, 4, 4, 0).unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(chance_of_company(8, 4, 4, 5), None);
        assert_eq!(chance_of_company(8, 9, 4, 4), None);
    }

    #[test]
    fn discoveries_are_those_of_the_authors() {
        // The example of Benjamini and Hochberg: of 15, four hold at 0.05.
        let chances = [
            0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262,
            0.5719, 0.6528, 0.7590, 1.0,
        ];
        let held = discoveries(&chances, 0.05).iter().filter(|held| **held).count();
        assert_eq!(held, 4);
        assert_eq!(discoveries(&[], 0.05), Vec::<bool>::new());
    }

    #[test]
    fn a_flow_is_nested_if_it_begins_within_another() {
        let found =
            nesting(&[(0.0, 1.0), (2.0, 3.0), (4.0, 5.0), (6.0, 7.0)], &[0.5, 0.7, 5.5, 6.0]);
        assert_eq!(found, Nesting { flows: 4, nested: 2 });
        assert_eq!(found.confidence(), Some(0.5));
        assert_eq!(found.rank(), Some(0.5));
        assert_eq!(Nesting::default().rank(), None);
    }
}
