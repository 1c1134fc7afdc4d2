//! What was found, counted against what is true.

use crate::figure::{Row, Target};

/// Counts of right and wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Score {
    /// Found and true.
    pub right: usize,
    /// Found and not true.
    pub wrong: usize,
    /// True and not found.
    pub missed: usize,
    /// Neither.
    pub rest: usize,
}

impl Score {
    /// Counts one case.
    pub const fn count(&mut self, found: bool, is_true: bool) {
        match (found, is_true) {
            (true, true) => self.right += 1,
            (true, false) => self.wrong += 1,
            (false, true) => self.missed += 1,
            (false, false) => self.rest += 1,
        }
    }

    /// Share of what was found that is true; 1 where nothing was found.
    #[must_use]
    pub fn precision(&self) -> f64 {
        share(self.right, self.right + self.wrong)
    }

    /// Share of what is true that was found; 1 where nothing is.
    #[must_use]
    pub fn recall(&self) -> f64 {
        share(self.right, self.right + self.missed)
    }

    /// The harmonic mean of both.
    #[must_use]
    pub fn f1(&self) -> f64 {
        share(2 * self.right, 2 * self.right + self.wrong + self.missed)
    }

    /// As rows: the four counts of the confusion matrix.
    #[must_use]
    pub fn confusion(&self, what: &str) -> Vec<Row> {
        let counts = [
            ("held and so told", self.right),
            ("held and not told", self.missed),
            ("told and did not hold", self.wrong),
            ("neither held nor told", self.rest),
        ];
        let row = |(name, count)| Row::new(format!("{what}: {name}"), count as f64, "machines");
        counts.map(row).into()
    }

    /// As rows: precision, recall and F1 of a method, the first two held to targets if there are any.
    #[must_use]
    pub fn rows(&self, what: &str, precision: Option<f64>, recall: Option<f64>) -> Vec<Row> {
        let row = |name: &str, value, target: Option<f64>| {
            let row = Row::new(format!("{what}: {name}"), value, "share");
            target.map_or(row.clone(), |target| row.held_to(Target::AtLeast(target)))
        };
        vec![
            row("precision", self.precision(), precision),
            row("recall", self.recall(), recall),
            row("F1", self.f1(), None),
        ]
    }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_what_was_found_and_of_what_is_true() {
        let score = Score { right: 6, wrong: 2, missed: 4, rest: 8 };
        assert_eq!((score.precision(), score.recall(), score.f1()), (0.75, 0.6, 12.0 / 18.0));
    }
}
