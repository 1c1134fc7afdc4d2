//! Shared cost by its causes: least squares whose coefficients are none below nought (Lawson & Hanson,
//! *Solving Least Squares Problems*, 1974), with their intervals.
//!
//! An application that works less saves nothing and earns nothing: a cost below nought would only
//! balance one that is too high elsewhere. Columns are few, so each is solved by the normal equations of
//! those above nought, in units in which each has length one.

use crate::{interval::Interval, normal::Z_95};

/// Rounds for each column at most; three are hardly ever needed.
const ROUNDS: usize = 10;
/// What a column may pull, in its own unit and of all there is, without being let in.
const PULL: f64 = 1e-10;
/// A column that is but for so little a sum of others tells nothing of its own.
const INDEPENDENT: f64 = 1e-9;

/// What one cause costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// For each unit of it.
    pub each: f64,
    /// The 95 % interval.
    pub interval: Interval,
}

/// The cost of each column, so that rows come to `values`. `None` unless there are two rows more than
/// columns, all of equal length and of numbers: fewer leave nothing to tell the scatter by. A column
/// that is nought throughout, or a sum of others, may cost anything, and says so by its interval.
#[must_use]
pub fn costs(rows: &[Vec<f64>], values: &[f64]) -> Option<Vec<Cost>> {
    let columns = rows.first().map(Vec::len).filter(|columns| *columns > 0)?;
    let is_whole = rows.len() == values.len() && rows.len() >= columns + 2;
    let is_number = rows.iter().flatten().chain(values).all(|value| value.is_finite());
    if !is_whole || !is_number || rows.iter().any(|row| row.len() != columns) {
        return None;
    }
    let problem = Problem::new(rows, values, columns);
    let scaled = problem.solved();
    let positive: Vec<usize> = (0..columns).filter(|column| scaled[*column] > 0.0).collect();
    let freedom = (rows.len() - positive.len().max(1)) as f64;
    let scatter = (problem.left(&scaled) / freedom).sqrt();
    let cost = |column: usize| {
        let unit = problem.units[column];
        let error = problem.error(&positive, column).filter(|_| unit > 0.0);
        let half = error.map_or(f64::INFINITY, |error| student(freedom) * scatter * error / unit);
        let each = if unit > 0.0 { scaled[column] / unit } else { 0.0 };
        Cost { each, interval: Interval { lower: (each - half).max(0.0), upper: each + half } }
    };
    Some((0..columns).map(cost).collect())
}

/// Student's 97.5 % quantile, from the normal one (Cornish & Fisher 1937).
fn student(freedom: f64) -> f64 {
    let z = Z_95;
    z + (z.powi(3) + z) / (4.0 * freedom)
        + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * freedom * freedom)
}

/// The products that all is computed from, in units in which each column has length one.
struct Problem {
    products: Vec<Vec<f64>>,
    pulls: Vec<f64>,
    square: f64,
    units: Vec<f64>,
}

impl Problem {
    fn new(rows: &[Vec<f64>], values: &[f64], columns: usize) -> Self {
        let along = |column: usize| rows.iter().map(move |row| row[column]);
        let units: Vec<f64> =
            (0..columns).map(|column| along(column).map(|x| x * x).sum::<f64>().sqrt()).collect();
        let by = |unit: f64| if unit > 0.0 { unit.recip() } else { 0.0 };
        let product = |one: usize, other: usize| {
            let sum: f64 = along(one).zip(along(other)).map(|(x, y)| x * y).sum();
            sum * by(units[one]) * by(units[other])
        };
        let products = (0..columns)
            .map(|one| (0..columns).map(|other| product(one, other)).collect())
            .collect();
        let pulls = (0..columns).map(|column| {
            along(column).zip(values).map(|(x, value)| x * value).sum::<f64>() * by(units[column])
        });
        let pulls = pulls.collect();
        Self { products, pulls, square: values.iter().map(|value| value * value).sum(), units }
    }

    /// The coefficients: columns are let in by how much they pull, and let out where they would be
    /// below nought.
    fn solved(&self) -> Vec<f64> {
        let columns = self.pulls.len();
        let mut found = vec![0.0; columns];
        let mut inside: Vec<usize> = Vec::new();
        let mut barred = vec![false; columns];
        for _ in 0..ROUNDS * columns {
            let Some(next) = self.next(&found, &inside, &barred) else { break };
            inside.push(next);
            if self.inverse_column(&inside, next).is_none() {
                inside.pop();
                barred[next] = true;
                continue;
            }
            self.settle(&mut found, &mut inside);
        }
        found
    }

    /// The column outside that pulls most.
    fn next(&self, found: &[f64], inside: &[usize], barred: &[bool]) -> Option<usize> {
        let pull = |column: usize| {
            let held: f64 = self.products[column].iter().zip(found).map(|(x, y)| x * y).sum();
            self.pulls[column] - held
        };
        let outside =
            (0..found.len()).filter(|column| !inside.contains(column) && !barred[*column]);
        let most = outside.max_by(|one, other| pull(*one).total_cmp(&pull(*other)))?;
        (pull(most) > PULL * self.square.sqrt()).then_some(most)
    }

    /// Goes to the least squares of the columns inside, as far as none falls below nought; those that
    /// reach it go out.
    fn settle(&self, found: &mut [f64], inside: &mut Vec<usize>) {
        while !inside.is_empty() {
            let pulls: Vec<f64> = inside.iter().map(|column| self.pulls[*column]).collect();
            let Some(wanted) = self.of(inside, &pulls) else { return };
            let steps = inside.iter().zip(&wanted).filter(|(_, to)| **to <= 0.0);
            let part = steps
                .map(|(column, to)| found[*column] / (found[*column] - to).max(f64::MIN_POSITIVE))
                .fold(1.0, f64::min);
            for (column, to) in inside.iter().zip(&wanted) {
                found[*column] += part * (to - found[*column]);
            }
            let is_whole = wanted.iter().all(|to| *to > 0.0);
            if is_whole {
                return;
            }
            for (column, to) in inside.iter().zip(&wanted) {
                if *to <= 0.0 && found[*column] <= PULL {
                    found[*column] = 0.0;
                }
            }
            inside.retain(|column| found[*column] > 0.0);
        }
    }

    /// Sum of squares of what the coefficients leave.
    fn left(&self, found: &[f64]) -> f64 {
        let mut left = self.square;
        for (one, pull) in self.pulls.iter().enumerate() {
            let held: f64 = self.products[one].iter().zip(found).map(|(x, y)| x * y).sum();
            left += found[one] * (held - 2.0 * pull);
        }
        left.max(0.0)
    }

    /// Standard error of a coefficient, at a scatter of one, beside those above nought.
    fn error(&self, positive: &[usize], column: usize) -> Option<f64> {
        let mut beside = positive.to_vec();
        if !beside.contains(&column) {
            beside.push(column);
        }
        self.inverse_column(&beside, column).map(f64::sqrt)
    }

    /// The diagonal element of the inverse; `None` if the columns depend on each other.
    fn inverse_column(&self, columns: &[usize], column: usize) -> Option<f64> {
        let unit: Vec<f64> =
            columns.iter().map(|other| if *other == column { 1.0 } else { 0.0 }).collect();
        let solved = self.of(columns, &unit)?;
        columns.iter().zip(solved).find(|(other, _)| **other == column).map(|(_, value)| value)
    }

    /// Solves the normal equations of some columns (Cholesky); `None` if they depend on each other.
    fn of(&self, columns: &[usize], right: &[f64]) -> Option<Vec<f64>> {
        let n = columns.len();
        let mut lower = vec![vec![0.0; n]; n];
        for row in 0..n {
            for place in 0..=row {
                let known: f64 = (0..place).map(|at| lower[row][at] * lower[place][at]).sum();
                let rest = self.products[columns[row]][columns[place]] - known;
                lower[row][place] = if row == place {
                    (rest > INDEPENDENT).then(|| rest.sqrt())?
                } else {
                    rest / lower[place][place]
                };
            }
        }
        let mut solved = right.to_vec();
        for row in 0..n {
            let known: f64 = (0..row).map(|at| lower[row][at] * solved[at]).sum();
            solved[row] = (solved[row] - known) / lower[row][row];
        }
        for row in (0..n).rev() {
            let known: f64 = (row + 1..n).map(|at| lower[at][row] * solved[at]).sum();
            solved[row] = (solved[row] - known) / lower[row][row];
        }
        Some(solved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packing::Random;

    fn each(rows: &[&[f64]], values: &[f64]) -> Vec<f64> {
        let rows: Vec<Vec<f64>> = rows.iter().map(|row| row.to_vec()).collect();
        costs(&rows, values).unwrap().iter().map(|cost| cost.each).collect()
    }

    fn are_near(found: &[f64], known: &[f64]) {
        assert_eq!(found.len(), known.len());
        for (found, known) in found.iter().zip(known) {
            assert!((found - known).abs() < 1e-9, "{found} for {known}");
        }
    }

    #[test]
    fn solutions_that_are_known_come_out() {
        let rows: &[&[f64]] = &[&[1.0, 0.0], &[1.0, 0.0], &[0.0, 1.0], &[0.0, 1.0]];
        are_near(&each(rows, &[2.0, 1.0, 1.0, 1.0]), &[1.5, 1.0]);
        are_near(&each(rows, &[2.0, 1.0, -1.0, -1.0]), &[1.5, 0.0]);
        are_near(&each(rows, &[-1.0; 4]), &[0.0, 0.0]);
        // Unbound the first would be -1 and the second 3: bound, the second alone fits 5/3.
        let rows: &[&[f64]] = &[&[1.0, 1.0], &[1.0, 0.0], &[0.0, 1.0], &[1.0, 1.0]];
        are_near(&each(rows, &[2.0, -1.0, 3.0, 2.0]), &[0.0, 7.0 / 3.0]);
    }

    /// Of the optimum no column pulls that is at nought, and none that is above it is pulled at (Karush,
    /// Kuhn & Tucker).
    #[test]
    fn nothing_pulls_at_what_is_found() {
        let mut random = Random::new(7);
        for _ in 0..300 {
            let (rows, columns) = (12 + random.below(30), 1 + random.below(9));
            let row = |random: &mut Random| (0..columns).map(|_| random.share() - 0.3).collect();
            let rows: Vec<Vec<f64>> = (0..rows).map(|_| row(&mut random)).collect();
            let values: Vec<f64> = rows.iter().map(|_| random.share() - 0.4).collect();
            let found = costs(&rows, &values).unwrap();
            for column in 0..columns {
                let left = rows.iter().zip(&values).map(|(row, value)| {
                    let made: f64 = row.iter().zip(&found).map(|(x, cost)| x * cost.each).sum();
                    row[column] * (value - made)
                });
                let pull: f64 = left.sum();
                let each = found[column].each;
                assert!(each >= 0.0 && pull < 1e-6 && (each <= 0.0 || pull.abs() < 1e-6), "{pull}");
            }
        }
    }

    #[test]
    fn the_intervals_hold_the_truth_as_often_as_said() {
        let mut random = Random::new(11);
        let (mut held, mut all) = (0, 0);
        for _ in 0..500 {
            let truth = [5.0, 0.8, 0.1];
            let rows: Vec<Vec<f64>> =
                (0..12).map(|_| vec![1.0, random.share() * 10.0, random.share() * 40.0]).collect();
            let noise = |random: &mut Random| (0..12).map(|_| random.share()).sum::<f64>() - 6.0;
            let values: Vec<f64> = rows
                .iter()
                .map(|row| {
                    row.iter().zip(truth).map(|(x, each)| x * each).sum::<f64>()
                        + noise(&mut random)
                })
                .collect();
            for (cost, truth) in costs(&rows, &values).unwrap().iter().zip(truth) {
                held += i32::from(cost.interval.lower <= truth && truth <= cost.interval.upper);
                all += 1;
            }
        }
        assert!(held * 100 >= all * 93 && held * 100 <= all * 99, "{held} of {all}");
    }

    #[test]
    fn what_cannot_be_told_apart_may_cost_anything() {
        let rows: Vec<Vec<f64>> =
            (0..9).map(|at| vec![f64::from(at), f64::from(2 * at), 0.0]).collect();
        let values: Vec<f64> = (0..9).map(|at| f64::from(at) * 3.0).collect();
        let found = costs(&rows, &values).unwrap();
        assert!(found.iter().any(|cost| cost.interval.upper.is_infinite()), "{found:?}");
        assert!(found[2].interval.upper.is_infinite());
        assert_eq!(costs(&rows[..4], &values[..4]), None, "too few rows");
        assert_eq!(costs(&[vec![f64::NAN], vec![1.0], vec![1.0]], &[1.0; 3]), None);
        assert_eq!(costs(&[], &[]), None);
    }
}
