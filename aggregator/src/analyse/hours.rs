//! CPU of one machine by hour of the day.

use common::{clock::Timestamp, units::Millicores};
use serde::Serialize;

/// Hours of a day.
pub(super) const HOURS: usize = 24;
const HOUR_MS: u64 = 3_600_000;

/// CPU by hour of the day, from midnight UTC, over all windows read.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Hours {
    /// The most of one window; `None` for an hour of which no window speaks.
    pub most: [Option<Millicores>; HOURS],
    /// The mean of its windows; `None` likewise.
    pub mean: [Option<Millicores>; HOURS],
    #[serde(skip)]
    sums: [(u64, u64); HOURS],
}

impl Hours {
    /// Takes in what a window that opened then says.
    pub(super) fn take(&mut self, from: Timestamp, cpu: Millicores) {
        let hour = usize::try_from(from.as_millis() / HOUR_MS % HOURS as u64).unwrap_or(0);
        let (sum, count) = &mut self.sums[hour];
        *sum = sum.saturating_add(cpu.0);
        *count += 1;
        self.mean[hour] = Some(Millicores(*sum / *count));
        self.most[hour] = self.most[hour].max(Some(cpu));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_that_no_window_speaks_of_is_not_known() {
        let mut hours = Hours::default();
        hours.take(Timestamp::from_millis(25 * HOUR_MS), Millicores(100));
        hours.take(Timestamp::from_millis(49 * HOUR_MS), Millicores(300));
        assert_eq!((hours.mean[1], hours.most[1]), (Some(Millicores(200)), Some(Millicores(300))));
        assert_eq!((hours.mean[0], hours.most[2]), (None, None));
    }
}
