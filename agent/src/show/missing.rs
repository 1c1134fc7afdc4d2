//! What a look could not see, in words: the other half of every table.

use std::collections::BTreeMap;

use common::sample::{ConnectionState, Holder, Observation};

use crate::platform::{Right, Rights};

/// Most reasons that are told one by one.
const MOST_REASONS: usize = 5;

/// What is missing, most important first.
pub(super) fn of(seen: &Observation, rights: Option<&Rights>) -> Vec<String> {
    let mut missing = Vec::new();
    let lacks = |right| rights.is_some_and(|rights| !rights.has(right));
    if lacks(Right::Processes) {
        missing.push(
            "without CAP_SYS_PTRACE processes of other users are seen in part; root sees more"
                .into(),
        );
    }
    coverage(seen, &mut missing);
    connections(seen, &mut missing);
    processes(seen, &mut missing);
    if seen.facts.product_uuid.is_none() {
        missing.push("the machine's SMBIOS uuid could not be read".into());
    }
    if seen.services.is_empty() {
        missing.push(format!("no services: {}", seen.facts.services_source));
    }
    missing
}

fn coverage(seen: &Observation, missing: &mut Vec<String>) {
    let Some(coverage) = &seen.coverage else {
        missing.push("coverage is not counted: short connections may be missing".into());
        return;
    };
    if !coverage.ends_are_told {
        missing
            .push("ends of connections are not told: those between two looks are missing".into());
    }
    if !coverage.opens_are_told {
        missing.push("openings are not told: a short connection may have no application".into());
    }
}

fn connections(seen: &Observation, missing: &mut Vec<String>) {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    // What lingers after its end has no process by nature; none is missing.
    let living = || seen.connections.values().filter(|row| row.state != ConnectionState::TimeWait);
    for row in living() {
        if let Holder::Unknown { reason, .. } = &row.holder {
            *reasons.entry(reason).or_default() += 1;
        }
    }
    let all = living().count();
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (reason, count) in reasons.into_iter().take(MOST_REASONS) {
        missing.push(format!("{count} of {all} connections have no process: {reason}"));
    }
}

fn processes(seen: &Observation, missing: &mut Vec<String>) {
    let all = seen.processes.len();
    let mut note = |what: &str, count: usize| {
        if count > 0 {
            missing.push(format!("{what} of {count} of {all} processes may not be read"));
        }
    };
    let rows = || seen.processes.values();
    note("the executable", rows().filter(|row| row.executable.is_none()).count());
    note("I/O", rows().filter(|row| row.read.is_none()).count());
}

#[cfg(test)]
mod tests {
    use common::sample::{Coverage, Facts};

    use super::*;

    #[test]
    fn a_look_that_saw_all_misses_nothing() {
        let told = Coverage { ends_are_told: true, opens_are_told: true, ..Coverage::default() };
        let facts = Facts { product_uuid: Some("u".into()), ..Facts::default() };
        let services = [("a.service".to_owned(), service())].into();
        let seen = Observation { coverage: Some(told), facts, services, ..Observation::default() };
        assert_eq!(of(&seen, None), Vec::<String>::new());
    }

    fn service() -> common::sample::Service {
        common::sample::Service {
            supervisor: common::sample::Supervisor::Systemd,
            state: common::sample::ServiceState::Active,
            enabled: true,
            main_pid: None,
        }
    }

    #[test]
    fn a_look_that_saw_nothing_says_what_is_missing() {
        let facts = Facts { services_source: "no bus".into(), ..Facts::default() };
        let missing = of(&Observation { facts, ..Observation::default() }, None);
        assert!(missing.iter().any(|line| line.contains("coverage is not counted")));
        assert!(missing.iter().any(|line| line == "no services: no bus"));
    }
}
