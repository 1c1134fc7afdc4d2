//! What a plan rests on, as one hash, and the names that follow from it.
//!
//! What is measured is left out: it is never the same twice, and a plan whose figures moved a
//! little is still the plan that was approved. What was decided or set is all in it.

use std::collections::{BTreeMap, BTreeSet};

use common::{
    id::{AppName, HostId, NetworkId, PlanId, VmId},
    mix::MixHash,
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{Goal, MachineChange, Situation, draft::Draft};
use crate::{
    catalogue::Application,
    hypervisor::{Allocation, Power},
    inference::NEVER_TOUCH,
    policy::Policy,
};

/// Our own name space of uuids: the same plan has the same id wherever it is made.
const NAMESPACE: Uuid = Uuid::from_u128(0x7d2b_95f4_60f1_4d0e_9f57_3f0b_c1a4_e6d2);
/// A name may be a host name too, and those have 63 letters at most.
const LONGEST_STEM: usize = 48;

#[derive(Serialize)]
struct Basis<'a> {
    machines: BTreeMap<&'a VmId, Option<Ground<'a>>>,
    applications: BTreeMap<&'a AppName, Option<&'a Application>>,
    policy: &'a Policy,
}

#[derive(Serialize)]
struct Ground<'a> {
    power: Power,
    host: &'a HostId,
    allocation: Allocation,
    never_touch: bool,
    labels: &'a BTreeSet<String>,
    opted_out: Option<&'a String>,
    mix: Option<(MixHash, u64, u64)>,
}

/// The hash over all that a change of these machines rests on.
pub(super) fn of(changes: &BTreeMap<VmId, MachineChange>, situation: &Situation<'_>) -> MixHash {
    let mixes = changes.values().flat_map(|change| [&change.mix_before, &change.mix_after]);
    let names = mixes.flat_map(|mix| mix.0.keys());
    let basis = Basis {
        machines: changes.keys().map(|vm| (vm, ground(vm, situation))).collect(),
        applications: names.map(|name| (name, situation.catalogue.0.get(name))).collect(),
        policy: situation.policy,
    };
    // Nothing in it can fail to be written: every key is text and every number finite.
    let bytes = serde_json::to_vec(&basis).unwrap_or_default();
    MixHash(Sha256::digest(bytes).into())
}

fn ground<'a>(vm: &'a VmId, situation: &Situation<'a>) -> Option<Ground<'a>> {
    let machine = situation.inventory.machines.get(vm)?;
    let standing = situation.findings.machines.get(vm);
    let mix = standing.and_then(|standing| standing.mix.as_ref());
    Some(Ground {
        power: machine.power,
        host: &machine.host,
        allocation: machine.allocation,
        never_touch: machine.labels.contains(NEVER_TOUCH),
        labels: &machine.labels,
        opted_out: situation.scope.opted_out.get(vm),
        mix: mix.map(|mix| (mix.applications.hash(), mix.generation, mix.attempted_generation)),
    })
}

/// Every name a plan needs.
pub(super) struct Names {
    pub(super) plan: PlanId,
    pub(super) clone: VmId,
    pub(super) clone_name: String,
    pub(super) network: NetworkId,
}

/// The names that follow from a basis and what is to be done on it: the same proposal made again
/// in a later window has the same ones, one made after a failed attempt has others, because the
/// generations attempted are part of the basis.
#[expect(clippy::expect_used, reason = "letters, hyphens and hex digits are an id")]
pub(super) fn names(draft: &Draft, basis: &MixHash) -> Names {
    #[derive(Serialize)]
    struct Deed<'a>(&'a MixHash, Goal, &'a VmId, &'a [super::Move], Allocation);
    let deed = Deed(basis, draft.goal, &draft.source, &draft.moves, draft.allocation);
    let bytes = serde_json::to_vec(&deed).unwrap_or_default();
    let id = Uuid::new_v5(&NAMESPACE, &bytes);
    let hex = id.simple().to_string();
    let clone = Uuid::new_v5(&id, b"clone");
    let stem: String = draft
        .changes
        .get(&draft.source)
        .map_or("machine", |change| change.name.as_str())
        .chars()
        .take(LONGEST_STEM)
        .collect();
    Names {
        plan: format!("p-{}", &hex[..10]).parse().expect("hex digits are an id"),
        clone: clone.to_string().parse().expect("a uuid is an id"),
        clone_name: format!("{stem}-trial-{}", &hex[..4]),
        // Short enough to name a link of the kernel, should an adapter want to.
        network: format!("t-{}", &hex[..10]).parse().expect("hex digits are an id"),
    }
}
