//! How far the aggregator can be reached, and how its clock stands.

use std::time::Duration;

use common::{clock::Clock, task::Chain};

use super::Check;
use crate::{
    config::Config,
    link::{self, Answer, Clocks},
};

/// Clocks further apart than this make figures of two guests hard to compare.
const APART: Duration = Duration::from_secs(5);
/// Certificates are good from an hour before they are made; clocks further apart than that fail.
const FAR_APART: Duration = Duration::from_secs(3600);

/// Each check needs the one before it; what cannot be made is left out.
pub(super) async fn checks(config: &Config, clock: &dyn Clock) -> Vec<Check> {
    let cost = "samples wait in the spool, and no list comes";
    let address = &config.aggregator;
    let addresses = match link::addresses(address).await {
        Ok(addresses) if !addresses.is_empty() => addresses,
        found => {
            let cause = found.err().map_or_else(|| "no address".to_owned(), |it| it.to_string());
            let remedy = "see /etc/resolv.conf and /etc/hosts, or give an address in agent.toml";
            return vec![Check::fail(
                "aggregator's name",
                format!("{address}: {cause}"),
                cost,
                remedy,
            )];
        }
    };
    let shown: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let mut checks =
        vec![Check::pass("aggregator's name", format!("{address} is {}", shown.join(", ")))];
    match link::knock(&addresses).await {
        Ok(peer) => checks.push(Check::pass("aggregator's port", format!("{peer} answers"))),
        Err(cause) => {
            let remedy = "start the aggregator, or let its port through the firewalls between";
            checks.push(Check::fail(
                "aggregator's port",
                format!("{address}: {cause}"),
                cost,
                remedy,
            ));
            return checks;
        }
    }
    match link::ask(address, &config.authority_fingerprint, clock).await {
        Ok(answer) => {
            let found = format!("the pinned one; it answers within {} ms", answer.took.as_millis());
            checks.extend([Check::pass("aggregator's authority", found), clocks(&answer)]);
        }
        Err(cause) => {
            let remedy =
                "compare authority_fingerprint with `sinter-aggregator authority fingerprint`";
            let found = Chain(&cause).to_string();
            checks.push(Check::fail("aggregator's authority", found, cost, remedy));
        }
    }
    checks
}

fn clocks(answer: &Answer) -> Check {
    let name = "clock";
    let remedy = "let both be set by NTP";
    let Some(Clocks { theirs, ours, within }) = answer.clocks else {
        let cost = "it is not known whether the clocks agree";
        return Check::warn(name, "the aggregator did not say the time", cost, remedy);
    };
    let (apart, which) = if ours > theirs {
        (ours.since(theirs), "ahead of")
    } else {
        (theirs.since(ours), "behind")
    };
    if apart <= within {
        let found = format!("agrees with the aggregator's within {:.1} s", within.as_secs_f64());
        return Check::pass(name, found);
    }
    let (off, unsure) = (apart.as_secs_f64(), within.as_secs_f64());
    let found = format!("{off:.1} s {which} the aggregator's, give or take {unsure:.1} s");
    if apart > FAR_APART {
        let cost = "certificates seem to be over or not good yet";
        return Check::fail(name, found, cost, remedy);
    }
    if apart > APART {
        let cost = "times of samples are not those of other guests; lists may seem to be over";
        return Check::warn(name, found, cost, remedy);
    }
    Check::pass(name, found)
}

#[cfg(test)]
mod tests {
    use common::clock::Timestamp;

    use super::*;
    use crate::doctor::Verdict;

    fn verdict(ours_ms: u64) -> Verdict {
        let clocks_at = Clocks {
            theirs: Timestamp::from_millis(1_800_000_000_500),
            ours: Timestamp::from_millis(ours_ms),
            within: Duration::from_millis(510),
        };
        clocks(&Answer { clocks: Some(clocks_at), took: Duration::from_millis(20) }).verdict
    }

    #[test]
    fn clocks_are_judged_by_how_far_they_are_apart() {
        assert_eq!(verdict(1_800_000_000_100), Verdict::Pass);
        assert_eq!(verdict(1_800_000_003_000), Verdict::Pass);
        assert_eq!(verdict(1_800_000_009_000), Verdict::Warn);
        assert_eq!(verdict(1_799_990_000_000), Verdict::Fail);
    }

    #[test]
    fn an_aggregator_that_does_not_say_the_time_is_no_pass() {
        let answer = Answer { clocks: None, took: Duration::ZERO };
        assert_eq!(clocks(&answer).verdict, Verdict::Warn);
    }
}
