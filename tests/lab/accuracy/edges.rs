//! Edges found, their rates, and the attempts that failed on them.

use std::collections::{BTreeMap, BTreeSet};

use aggregator::{
    inference::{EdgeKey, Findings, Party},
    join::Joined,
};

use algorithms::partition::adjusted_rand;

use super::{fleet, policy, score::Score};
use crate::{
    figure::{Row, Target},
    fleet::{
        Fleet, Shape,
        found::findings,
        samples::{Truth, Watched, watch},
    },
};

/// Fewer events than this tell a rate to no better than a tenth.
const EVENTS_OF_A_RATE: u64 = 100;

/// A busy fleet with pools, noise and nothing lost; then one in which a fifth of the machines loses
/// three in a hundred samples.
pub(super) fn measure(machines: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    let noisy = |shape| Shape { noisy: 0.3, ..shape };
    let lossy = |shape| Shape { noisy: 0.3, lossy: (0.2, 0.03), ..shape };
    for (name, fleet) in [("", fleet(machines, noisy)), (", 3 % lost", fleet(machines, lossy))] {
        let what = format!("edges, {machines} machines{name}");
        rows.extend(of_fleet(&what, &fleet));
    }
    rows
}

fn of_fleet(what: &str, fleet: &Fleet) -> Vec<Row> {
    let policy = policy();
    let watched = watch(fleet, &policy, 3);
    let found = findings(&watched.windows, &fleet.catalogue(), &policy);
    let happened = |number: usize| {
        let Truth { opened, exchanges, .. } = watched.truth[number];
        opened + exchanges > 0 || fleet.links[number].carries.open > 0
    };
    let links = fleet.links.iter().enumerate().filter(|(number, _)| happened(*number));
    let truth: BTreeSet<EdgeKey> = links.map(|(_, link)| fleet.key(link)).collect();
    let told: BTreeSet<&EdgeKey> = found.edges.iter().map(|(key, _)| key).collect();
    let mut rows = score(&truth, &told).rows(&format!("{what}, ours"), Some(1.0), Some(0.99));
    rows.extend(presence(fleet, &truth, &watched).rows(
        &format!("{what}, machines that show a common connection"),
        None,
        None,
    ));
    rows.extend(rates(what, fleet, &found, &watched.truth));
    rows.push(failures(what, fleet, &watched));
    rows.extend(groups(what, fleet, &found));
    rows
}

/// How well the groups found are the business applications that the fleet was made of.
fn groups(what: &str, fleet: &Fleet, found: &Findings) -> Option<Row> {
    let members = fleet.participating().into_iter().map(|index| &fleet.machines[index]);
    let (told, truth): (Vec<_>, Vec<_>) = members
        .map(|machine| {
            (found.machines.get(&machine.vm).map(|one| one.business_group), machine.business)
        })
        .unzip();
    let index = adjusted_rand(&told, &truth)?;
    Some(Row::new(format!("{what}: groups, adjusted Rand index"), index, "-"))
}

fn score(truth: &BTreeSet<EdgeKey>, told: &BTreeSet<&EdgeKey>) -> Score {
    let mut score = Score::default();
    told.iter().for_each(|key| score.count(true, truth.contains(*key)));
    truth.iter().filter(|key| !told.contains(*key)).for_each(|_| score.count(false, true));
    score
}

/// What knows machines and ports only: every application of the client's machine is taken for the
/// caller.
fn presence(fleet: &Fleet, truth: &BTreeSet<EdgeKey>, watched: &Watched) -> Score {
    let mut told = BTreeSet::new();
    let by_vm: BTreeMap<_, _> =
        fleet.machines.iter().map(|machine| (&machine.vm, &machine.applications)).collect();
    for key in watched.windows.last().into_iter().flat_map(|window| window.edges.keys()) {
        let callers = key.client.vm().and_then(|vm| Some((vm, by_vm.get(vm)?)));
        let Some((vm, callers)) = callers else {
            told.insert(key.clone());
            continue;
        };
        for caller in *callers {
            let application = Some(caller.name.clone());
            let client = Party::Machine { vm: vm.clone(), application };
            told.insert(EdgeKey { client, ..key.clone() });
        }
    }
    score(truth, &told.iter().collect())
}

/// How far the rates are off, over edges of enough events and coverage.
fn rates(what: &str, fleet: &Fleet, found: &Findings, truth: &[Truth]) -> Vec<Row> {
    let told: BTreeMap<_, _> = found.edges.iter().map(|(key, edge)| (key, edge)).collect();
    let seconds = policy().window().as_secs_f64();
    let mut off = Vec::new();
    for (link, truth) in fleet.links.iter().zip(truth) {
        let Some(edge) = told.get(&fleet.key(link)).filter(|edge| edge.coverage >= 0.95) else {
            continue;
        };
        let exchanges = edge.exchanges.map(|rate| rate.per_second);
        let rates =
            [(truth.opened, Some(edge.connections.per_second)), (truth.exchanges, exchanges)];
        for (events, rate) in rates {
            if let Some(rate) = rate.filter(|_| events >= EVENTS_OF_A_RATE) {
                off.push((rate * seconds / events as f64 - 1.0).abs());
            }
        }
    }
    off.sort_by(f64::total_cmp);
    let mean = off.iter().sum::<f64>() / off.len().max(1) as f64;
    let most = off.get(off.len().saturating_sub(1) * 99 / 100).copied().unwrap_or(f64::NAN);
    let row = |name, value: f64| Row::new(format!("{what}: {name}"), value * 100.0, "%");
    vec![
        row("error of rates, mean", mean).held_to(Target::AtMost(5.0)),
        row("error of rates, 99 in 100 at most", most),
    ]
}

/// Attempts that failed, as told and as they were, over edges of which every sample came.
fn failures(what: &str, fleet: &Fleet, watched: &Watched) -> Row {
    let present = watched.windows.last();
    let two = watched.windows.get(watched.windows.len().saturating_sub(2)..).unwrap_or_default();
    let mut off = 0;
    for (link, truth) in fleet.links.iter().zip(&watched.truth) {
        let key = fleet.key(link);
        // After a loss at the end of the window before, what it held is told in this one.
        let is_whole = |window: &Joined| {
            let ends = [&key.client, &key.server].into_iter().filter_map(|end| end.vm());
            ends.filter_map(|vm| window.machines.get(vm)).all(|machine| machine.coverage >= 1.0)
        };
        let told = present.filter(|_| two.iter().all(is_whole));
        let told = told.and_then(|window| window.edges.get(&key));
        if let Some(told) = told.filter(|told| told.both_ends) {
            off += told.failed.abs_diff(truth.failed);
        }
    }
    Row::new(format!("{what}: failed attempts told wrongly"), off as f64, "-")
        .held_to(Target::AtMost(0.0))
}
