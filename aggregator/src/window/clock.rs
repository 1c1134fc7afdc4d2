//! How far a guest's clock is off, judged by when its samples reach us.
//!
//! A sample that was long under way and a guest whose clock is slow look the same at first: it
//! comes long after it was taken. They part with the next samples. A spool that empties sends what
//! is older and older no more: the lag shrinks with every sample until it is gone. A slow clock
//! keeps its lag. A clock that runs ahead shows at once, for nothing comes before it was taken.

use std::time::Duration;

use common::clock::Timestamp;

/// The clock of one agent's guest, as far as it is known.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct GuestClock {
    /// Milliseconds to be added to what it shows.
    off_ms: i128,
    last: Option<Reading>,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    lag_ms: i128,
    received_at: Timestamp,
}

impl GuestClock {
    /// When a sample was taken on our clock; never after it reached us.
    pub(super) fn read(
        &mut self,
        taken_at: Timestamp,
        received_at: Timestamp,
        period: Duration,
    ) -> Timestamp {
        let lag_ms = i128::from(received_at.as_millis()) - i128::from(taken_at.as_millis());
        let period_ms = i128::try_from(period.as_millis()).unwrap_or(i128::MAX / 4);
        if let Some(last) = self.last {
            let paced = i128::try_from(received_at.since(last.received_at).as_millis())
                .unwrap_or(i128::MAX)
                >= period_ms * 3 / 4;
            let holds = (lag_ms - last.lag_ms).abs() <= period_ms / 4;
            // One period of lag is the way; only what lies beyond it is the clock.
            if paced && holds && lag_ms > self.off_ms + 2 * period_ms {
                self.off_ms = lag_ms.min(last.lag_ms);
            }
        }
        self.off_ms = self.off_ms.min(lag_ms);
        // Once a slow clock is set right, its lag is gone and so is the correction; that of a
        // clock that never was off stays nought.
        if lag_ms >= 0 && self.off_ms < 0 && lag_ms <= 2 * period_ms {
            self.off_ms = 0;
        }
        self.last = Some(Reading { lag_ms, received_at });
        let on_ours = i128::from(taken_at.as_millis()) + self.off_ms;
        let on_ours = Timestamp::from_millis(u64::try_from(on_ours).unwrap_or(0));
        on_ours.min(received_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn a_right_clock_is_believed() {
        let mut clock = GuestClock::default();
        assert_eq!(clock.read(at(1000), at(1000), PERIOD), at(1000));
        assert_eq!(clock.read(at(1010), at(1013), PERIOD), at(1010));
    }

    #[test]
    fn a_clock_that_runs_ahead_is_set_back() {
        let mut clock = GuestClock::default();
        assert_eq!(clock.read(at(5000), at(1000), PERIOD), at(1000));
        assert_eq!(clock.read(at(5010), at(1012), PERIOD), at(1010));
    }

    #[test]
    fn a_slow_clock_is_set_right_with_its_second_sample() {
        let mut clock = GuestClock::default();
        clock.read(at(700), at(1000), PERIOD);
        assert_eq!(clock.read(at(710), at(1010), PERIOD), at(1010));
        assert_eq!(clock.read(at(720), at(1021), PERIOD), at(1020));
    }

    #[test]
    fn a_spool_that_empties_is_no_slow_clock() {
        let mut clock = GuestClock::default();
        for (index, taken) in (700..1000).step_by(10).enumerate() {
            let received = Timestamp::from_millis(1_000_000 + 5 * index as u64);
            assert_eq!(clock.read(at(taken), received, PERIOD), at(taken));
        }
        assert_eq!(clock.read(at(1010), at(1010), PERIOD), at(1010));
    }
}
