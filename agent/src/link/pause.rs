//! How long to wait before the next try.

use std::time::Duration;

use common::task::Chain;
use rand::Rng as _;
use tracing::{error, warn};

use super::Broken;

/// Longest first pause; doubled with each failure.
const FIRST: Duration = Duration::from_secs(1);
/// Longest pause while the aggregator is away, and never more than so many sample periods: who
/// wants to know every second what happens does not want to wait a minute to hear of it again.
const LONGEST: Duration = Duration::from_secs(60);
const LONGEST_PERIODS: u32 = 10;
/// Longest first pause after a denial: a person has to do something.
const FIRST_DENIED: Duration = Duration::from_secs(5);
/// Longest pause after denials.
const LONGEST_DENIED: Duration = Duration::from_secs(300);
/// A stream that lasted this long was a good one.
pub(super) const STEADY: Duration = Duration::from_secs(30);

/// Failures in a row.
#[derive(Debug)]
pub(super) struct Pause {
    failures: u32,
    longest: Duration,
}

impl Default for Pause {
    fn default() -> Self {
        Self { failures: 0, longest: LONGEST }
    }
}

impl Pause {
    /// Fits the longest pause to how often samples are taken.
    pub(super) fn fit(&mut self, period: Duration) {
        self.longest = (period * LONGEST_PERIODS).clamp(FIRST, LONGEST);
    }

    pub(super) const fn reset(&mut self) {
        self.failures = 0;
    }

    /// Says what failed and how long to wait: any time from none to a bound that doubles. Full
    /// jitter, because agents that were cut off at once must not come back at once.
    pub(super) fn after(&mut self, broken: &Broken, what: &'static str) -> Duration {
        let (first, longest) = self.bounds(broken);
        let most = first.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        let wait = rand::rng().random_range(Duration::ZERO..=most);
        let again_in = wait.as_secs_f32();
        if broken.is_denial() {
            let what_to_do =
                "look at `sinterctl agents`, or make a token with `sinterctl tokens create`";
            error!(cause = %Chain(broken), again_in, what_to_do, "{what}");
        } else {
            warn!(cause = %Chain(broken), again_in, "{what}");
        }
        wait
    }

    fn bounds(&self, broken: &Broken) -> (Duration, Duration) {
        if broken.is_denial() { (FIRST_DENIED, LONGEST_DENIED) } else { (FIRST, self.longest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> Broken {
        Broken::from(tonic::Status::unavailable("away"))
    }

    #[test]
    fn pauses_are_spread_over_all_of_a_bound_that_grows_to_a_minute() {
        let mut longest = Duration::ZERO;
        let mut below_half = 0;
        for _ in 0..400 {
            let mut pause = Pause { failures: 10, ..Pause::default() };
            let wait = pause.after(&away(), "not reached");
            longest = longest.max(wait);
            below_half += usize::from(wait < LONGEST / 2);
        }
        assert!(longest <= LONGEST && longest > LONGEST * 9 / 10, "{longest:?}");
        assert!((120..280).contains(&below_half), "{below_half} of 400 are below the half");
    }

    #[test]
    fn the_first_try_comes_soon() {
        assert!(Pause::default().after(&away(), "not reached") <= FIRST);
    }

    #[test]
    fn a_denial_is_waited_for_longer() {
        let denied = Broken::from(tonic::Status::permission_denied("revoked"));
        let pause = Pause::default();
        assert!(pause.bounds(&denied) > pause.bounds(&away()));
    }

    #[test]
    fn who_is_looked_at_every_second_is_back_within_ten() {
        let mut pause = Pause { failures: 10, ..Pause::default() };
        pause.fit(Duration::from_secs(1));
        assert_eq!(pause.bounds(&away()).1, Duration::from_secs(10));
        pause.fit(Duration::from_secs(300));
        assert_eq!(pause.bounds(&away()).1, LONGEST);
    }
}
