//! Whether what a machine's agent says can be true, by its hypervisor, its peers and its own past.
//!
//! A lie may stop us from acting, it must not make us act. So every test here only ever takes a machine
//! out of what may be changed. Each has a floor below which two honest clocks differ by chance: an idle
//! machine is no liar.

use common::{
    id::VmId,
    units::{Bytes, Millicores},
};
use serde::{Deserialize, Serialize};

use super::{
    Claim, Context,
    links::{self, bytes},
    measured::{Measured, mean_cpu, weighted},
    predicates::{no, yes},
    witness::{Account, Blame, Witnesses},
};
use crate::{
    history::WINDOWS,
    join::{Joined, Use},
};

/// Differences in CPU below this are the noise of two clocks that read at different moments.
const CPU_NOISE: Millicores = Millicores(20);
/// Differences in traffic below this, in bytes per second, are the agent's own reports, which
/// may leave by a link that the hypervisor does not count.
const TRAFFIC_NOISE: f64 = 65_536.0;
/// Differences in memory below this are pages that one side counts and the other does not.
const MEMORY_NOISE: Bytes = Bytes::mebi(128);
/// A guest that says it uses less memory than this part of what its hypervisor sees says too little.
const MEMORY_PART: u64 = 2;
/// Share of the windows remembered in which a machine may have said what cannot be.
const LIES_FORGIVEN: f64 = 0.1;
/// Windows that must be remembered before the past counts against a machine.
const PAST_NEEDED: u32 = 24;
/// Names that are told of others at most.
const NAMES_TOLD: usize = 8;

/// How far a machine can be believed, and why.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Testimony {
    /// How many machines it agrees with about an edge.
    pub agrees: u32,
    /// Machines that tell of edges with it which it denies, by name, the first few.
    pub denies: Vec<String>,
    /// Machines that deny edges with them which it tells of, likewise.
    pub unbacked: Vec<String>,
    /// Share of the windows remembered in which what it said could not be true: its lie score.
    pub score: f64,
    /// How many windows it rests on.
    pub windows: u32,
    /// It is not believed: what it alone says proves nothing.
    pub doubted: bool,
}

/// Whether a machine is to be trusted, and its testimony. One of which only one side speaks cannot be
/// held against anything, and is not trusted with a change.
pub(super) fn trusted(
    machine: &Measured<'_>,
    witnesses: &Witnesses<'_>,
    present: &Joined,
    context: &Context<'_>,
) -> (Claim, Testimony) {
    let account = witnesses.account(machine.vm);
    let mut testimony = testimony(machine, &account, present, context);
    if !machine.present.has_agent {
        return (no("no agent reports from it, so the hypervisor stands alone"), testimony);
    }
    let lie = lie(machine, (witnesses, &account), present, context);
    let is_new = context.former.window.as_ref() != Some(&present.window);
    if is_new {
        testimony.remember(lie.is_some());
    }
    let lie = lie.or_else(|| past(&testimony));
    testimony.doubted = lie.is_some();
    if let Some(lie) = lie {
        return (no(lie), testimony);
    }
    if mean_cpu(machine.recent().iter().map(|window| &window.outside)).is_none() {
        return (no("the hypervisor does not say what CPU it uses"), testimony);
    }
    if let Some(other) = witnesses.disputed(machine.vm) {
        let other = name_of(other, present);
        return (no(format!("it and {other} do not agree about who calls whom")), testimony);
    }
    let tolerance = context.policy.trust_tolerance * 100.0;
    (yes(format!("guest and hypervisor agree within {tolerance:.0} %")), testimony)
}

impl Testimony {
    /// Takes one more window into the score; old ones fade as new ones come.
    fn remember(&mut self, lied: bool) {
        let most = u32::try_from(WINDOWS).unwrap_or(u32::MAX);
        self.windows = self.windows.saturating_add(1).min(most);
        let now = if lied { 1.0 } else { 0.0 };
        self.score += (now - self.score) / f64::from(self.windows);
    }
}

fn testimony(
    machine: &Measured<'_>,
    account: &Account<'_>,
    present: &Joined,
    context: &Context<'_>,
) -> Testimony {
    let former = context.former.machines.get(machine.vm).map(|former| &former.testimony);
    let names = |all: &mut dyn Iterator<Item = &&VmId>| {
        all.take(NAMES_TOLD).map(|vm| name_of(vm, present)).collect()
    };
    Testimony {
        agrees: u32::try_from(account.agrees.len()).unwrap_or(u32::MAX),
        denies: names(&mut account.denies.iter()),
        unbacked: names(&mut account.unbacked.iter()),
        score: former.map_or(0.0, |former| former.score),
        windows: former.map_or(0, |former| former.windows),
        doubted: false,
    }
}

fn name_of(vm: &VmId, present: &Joined) -> String {
    present.machines.get(vm).map_or_else(|| vm.to_string(), |machine| machine.name.clone())
}

/// What a machine says that cannot be true; `None` if all can.
fn lie(
    machine: &Measured<'_>,
    (witnesses, account): (&Witnesses<'_>, &Account<'_>),
    present: &Joined,
    context: &Context<'_>,
) -> Option<String> {
    let tolerance = context.policy.trust_tolerance;
    let contradiction = machine.present.contradictions.first().cloned();
    contradiction
        .or_else(|| cpu(machine, tolerance))
        .or_else(|| traffic(machine, tolerance))
        .or_else(|| links::beyond(machine))
        .or_else(|| memory(machine))
        .or_else(|| disk(machine, tolerance))
        .or_else(|| names(machine, context))
        .or_else(|| peers(machine.vm, (witnesses, account), present))
}

/// Why it is not believed though what it says now can be true.
fn past(testimony: &Testimony) -> Option<String> {
    (testimony.windows >= PAST_NEEDED && testimony.score > LIES_FORGIVEN).then(|| {
        let (share, least) = (testimony.score * 100.0, LIES_FORGIVEN * 100.0);
        format!(
            "what it said could not be true in {share:.0} % of the windows remembered, {least:.0} % are \
             forgiven"
        )
    })
}

fn cpu(machine: &Measured<'_>, tolerance: f64) -> Option<String> {
    let outside = mean_cpu(machine.recent().iter().map(|window| &window.outside))?;
    let guest = mean_cpu(machine.recent().iter().map(|window| &window.guest));
    let applications = applications_cpu(machine);
    let differ = |guest: Millicores, outside: Millicores| {
        let off = guest.0.abs_diff(outside.0);
        off > CPU_NOISE.0 && as_float(off) > tolerance * as_float(guest.0.max(outside.0))
    };
    if let Some(guest) = guest.filter(|guest| differ(*guest, outside)) {
        return Some(format!("the guest says it uses {guest}, the hypervisor says {outside}"));
    }
    (applications > outside && differ(applications, outside)).then(|| {
        let told = "its applications say they use";
        format!("{told} {applications}, the hypervisor says {outside} of the whole")
    })
}

/// CPU of all applications of a guest, over the windows needed to act.
fn applications_cpu(machine: &Measured<'_>) -> Millicores {
    let sums = machine.recent().iter().map(|window| {
        window.applications.values().filter_map(|used| used.cpu_mean).map(|cpu| cpu.0).sum()
    });
    let sums: Vec<u64> = sums.collect();
    Millicores(sums.iter().sum::<u64>() / (sums.len() as u64).max(1))
}

type Side = fn(&Use) -> Option<f64>;

/// Both sides of a figure per second, over the windows needed to act.
fn both(machine: &Measured<'_>, side: Side) -> Option<(f64, f64)> {
    let recent = machine.recent().iter();
    let guest = weighted(recent.clone().map(|w| (side(&w.guest), w.guest.watched)));
    guest.zip(weighted(recent.map(|w| (side(&w.outside), w.outside.watched))))
}

fn traffic(machine: &Measured<'_>, tolerance: f64) -> Option<String> {
    let sides: [(&str, Side); 2] =
        [("receives", |side| side.received_per_second), ("sends", |side| side.sent_per_second)];
    for (verb, side) in sides {
        let Some((guest, outside)) = both(machine, side) else { continue };
        let off = (guest - outside).abs();
        if off > TRAFFIC_NOISE && off > tolerance * guest.max(outside) {
            let told = format!("the guest says it {verb} {} per second", bytes(guest));
            return Some(format!("{told}, the hypervisor says {}", bytes(outside)));
        }
    }
    None
}

/// What a guest says too little of: it would be given less. Saying too much keeps what it has.
fn memory(machine: &Measured<'_>) -> Option<String> {
    let peak = |side: fn(&crate::join::JoinedMachine) -> &Use| {
        machine.recent().iter().filter_map(|window| side(window).memory_peak).max()
    };
    let (guest, outside) = peak(|window| &window.guest).zip(peak(|window| &window.outside))?;
    let is_less = guest.0.saturating_mul(MEMORY_PART) < outside.0;
    (is_less && outside.0 - guest.0 > MEMORY_NOISE.0)
        .then(|| format!("the guest says it uses {guest} of memory, the hypervisor says {outside}"))
}

/// A guest may write to disks that its hypervisor does not give it, such as those of the network; not
/// less than its hypervisor sees.
fn disk(machine: &Measured<'_>, tolerance: f64) -> Option<String> {
    let (guest, outside) = both(machine, |side| side.written_per_second)?;
    (outside - guest > TRAFFIC_NOISE && outside - guest > tolerance * outside).then(|| {
        let (guest, outside) = (bytes(guest), bytes(outside));
        format!("the guest says it writes {guest} per second, the hypervisor says {outside}")
    })
}

/// An application that only its ports make known, and that listens on none of them, is none.
fn names(machine: &Measured<'_>, context: &Context<'_>) -> Option<String> {
    let (name, ports) = machine.present.applications.iter().find_map(|(name, used)| {
        let known = context.catalogue.0.get(name)?;
        let ports: Option<Vec<u16>> = known.rules.iter().map(|rule| rule.port).collect();
        let ports = ports.filter(|ports| !ports.is_empty())?;
        let is_another = machine.recent().iter().all(|window| {
            let listens = window.applications.get(name).map(|used| &used.listens);
            listens.is_some_and(|listens| {
                !listens.is_empty() && !ports.iter().any(|port| listens.contains(port))
            })
        });
        (used.seen > 0 && is_another).then_some((name, ports))
    })?;
    let ports: Vec<String> = ports.iter().take(4).map(u16::to_string).collect();
    Some(format!("it says {name} runs, which is known by port {}, and not there", ports.join(", ")))
}

/// What its peers say of it.
fn peers(
    vm: &VmId,
    (witnesses, account): (&Witnesses<'_>, &Account<'_>),
    present: &Joined,
) -> Option<String> {
    let some = |all: &mut dyn Iterator<Item = &&VmId>| {
        let names: Vec<String> = all.take(4).map(|vm| name_of(vm, present)).collect();
        names.join(", ")
    };
    match witnesses.blamed(vm) {
        Some(Blame::Hides) => {
            let (of, count) = (account.peers(), account.denies.len());
            let names = some(&mut account.denies.iter());
            return Some(format!(
                "{count} of {of} machines that work with it tell of connections that it does not: {names}"
            ));
        }
        Some(Blame::Invents) => {
            let names = some(&mut account.unbacked.iter());
            return Some(format!(
                "it tells of connections that the other end does not have: {names}"
            ));
        }
        None => {}
    }
    account.is_apart().then(|| {
        let names = some(&mut account.apart.iter());
        format!("what it counts is far from what the other ends count: {names}")
    })
}

#[expect(clippy::cast_precision_loss, reason = "three digits are compared")]
fn as_float(amount: u64) -> f64 {
    amount as f64
}

#[cfg(test)]
mod tests;
