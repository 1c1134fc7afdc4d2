//! How long what was called regularly must be silent.

use std::time::Duration;

use super::*;

const DAY: u64 = 24 * 3600;

#[test]
fn what_is_called_by_the_month_may_come_again_within_a_month() {
    let now = Timestamp::from_millis(100 * DAY * 1000);
    let ever = |days_ago: u64| Recurring {
        application: None,
        port: 80,
        silence: Duration::from_secs(31 * DAY),
        last_seen: Timestamp::from_millis((100 - days_ago) * DAY * 1000),
    };
    let why = may_come_again([ever(8)].iter(), now).unwrap();
    assert!(why.contains("silent for 744 h") && why.contains("is for 192 h"), "{why}");
    assert_eq!(may_come_again([ever(31)].iter(), now), None);
    assert!(may_come_again([ever(31), ever(2)].iter(), now).is_some());
}
