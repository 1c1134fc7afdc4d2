//! CPU that nobody accounts to its applications, shared out by what they did: least squares, none below
//! nought, of what a machine used on how often each of them was called and called others, window by
//! window, beside what it uses anyhow.

use std::collections::BTreeMap;

use algorithms::nnls::{Cost, costs};
use common::{
    id::{AppName, VmId},
    units::Millicores,
};

use super::{Bounded, Need, measured::Measured, opportunities::Calls};
use crate::join::{Joined, JoinedMachine, Traffic};

/// What one application did in each window, in events per second.
type Rates = BTreeMap<AppName, Vec<f64>>;

/// Fills in the CPU of the applications that no window accounts any to. They stay as they are where
/// there are too few windows to tell them apart by.
pub(super) fn share_out(
    needs: &mut BTreeMap<AppName, Need>,
    machine: &Measured<'_>,
    calls: &Calls<'_>,
    windows: &[&Joined],
) {
    let missing: Vec<AppName> =
        needs.keys().filter(|name| !is_accounted(machine.vm, name, windows)).cloned().collect();
    if missing.is_empty() {
        return;
    }
    let (left, rates) = observed(machine.vm, &missing, calls, windows);
    let columns: Vec<&Vec<f64>> = rates.values().collect();
    let row = |at: usize| {
        // What it uses anyhow is a column too.
        columns.iter().map(|rates| rates[at]).chain([1.0]).collect::<Vec<f64>>()
    };
    let rows: Vec<Vec<f64>> = (0..left.len()).map(row).collect();
    let Some(found) = costs(&rows, &left) else { return };
    for ((name, rates), cost) in rates.iter().zip(found) {
        let Some(need) = needs.get_mut(name).filter(|_| cost.interval.upper.is_finite()) else {
            continue;
        };
        let mean = rates.iter().sum::<f64>() / rates.len().max(1) as f64;
        need.cpu_mean = millicores(cost.each * mean);
        need.cpu_peak = millicores(cost.each * rates.iter().copied().fold(0.0, f64::max));
        need.cpu_shared_out = Some(bounded(&cost, mean));
    }
}

fn bounded(cost: &Cost, mean: f64) -> Bounded {
    let of = |each: f64| millicores(each * mean).0;
    Bounded { value: of(cost.each), lower: of(cost.interval.lower), upper: of(cost.interval.upper) }
}

fn is_accounted(vm: &VmId, name: &AppName, windows: &[&Joined]) -> bool {
    windows.iter().any(|window| {
        let machine = window.machines.get(vm);
        let used = machine.and_then(|machine| machine.applications.get(name));
        used.is_some_and(|used| used.cpu_mean.is_some())
    })
}

/// By window that tells what the machine used: the CPU that nobody accounts for, and what the
/// applications did.
fn observed(
    vm: &VmId,
    missing: &[AppName],
    calls: &Calls<'_>,
    windows: &[&Joined],
) -> (Vec<f64>, Rates) {
    let mut left = Vec::new();
    let mut rates: Rates = missing.iter().map(|name| (name.clone(), Vec::new())).collect();
    for window in windows {
        let Some(unaccounted) = window.machines.get(vm).and_then(unaccounted) else { continue };
        left.push(unaccounted);
        for (name, rates) in &mut rates {
            let ends = calls.inbound.iter().map(|edge| (edge, &edge.key.server));
            let ends = ends.chain(calls.outbound.iter().map(|edge| (edge, &edge.key.client)));
            let own = ends.filter(|(_, end)| end.application() == Some(name));
            let seen = own.filter_map(|(edge, _)| window.edges.get(edge.key));
            rates.push(seen.map(per_second).sum());
        }
    }
    (left, rates)
}

/// Of what both sides say that the machine used the smaller: what nobody used is shared out to nobody.
fn unaccounted(machine: &JoinedMachine) -> Option<f64> {
    let sides = [machine.guest.cpu_mean, machine.outside.cpu_mean].into_iter();
    let whole = sides.flatten().min()?;
    let known = machine.applications.values().filter_map(|used| used.cpu_mean);
    let known = known.map(|cpu| cpu.0).sum();
    Some(as_float(whole.0.saturating_sub(known)))
}

fn per_second(traffic: &Traffic) -> f64 {
    let seconds = traffic.watched.as_secs_f64();
    let events = traffic.opened.saturating_add(traffic.exchanges.unwrap_or(0));
    if seconds > 0.0 { as_float(events) / seconds } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "amounts of a window are far below 2^52")]
const fn as_float(amount: u64) -> f64 {
    amount as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cost is none below zero, and a float to u64 saturates"
)]
fn millicores(cpu: f64) -> Millicores {
    Millicores(cpu.round() as u64)
}
