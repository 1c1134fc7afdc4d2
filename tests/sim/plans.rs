//! Plans for the simulated fleet, written by hand: an application goes to another machine, and
//! the one it leaves is retired. Each machine is named like the application it came with.

use std::{collections::BTreeMap, time::Duration};

use aggregator::{
    hypervisor::{Allocation, CloneOrder, ProbeKind, ProbeOrder, ProbeTarget},
    plan::{Goal, MachineChange, Move, Plan, Step},
};
use common::{
    clock::Timestamp,
    id::{NetworkId, PlanId, VmId},
    list::{ConfigurationList, Form, changes},
    mix::{ApplicationMix, MixHash, Setup},
    units::{Bytes, Millicores},
};

use super::{app, vm};

fn mix(names: &[&str]) -> ApplicationMix {
    ApplicationMix(names.iter().map(|name| (app(name), Setup::default())).collect())
}

const fn given(cpu: u64) -> Allocation {
    Allocation { cpu: Some(Millicores(cpu)), memory: Some(Bytes::mebi(256)), storage: None }
}

struct Names {
    plan: PlanId,
    clone: VmId,
    network: NetworkId,
}

fn apply(names: &Names, to: &VmId, from: &[&str], wanted: &[&str]) -> Step {
    let former = mix(from);
    Step::Apply {
        list: ConfigurationList {
            generation: 1,
            vm: to.clone(),
            plan: names.plan.clone(),
            base: former.hash(),
            expires_at: Timestamp::default(),
            form: Form::Delta,
            applications: changes(&former, &mix(wanted)),
            baseline: None,
        },
        former,
        undo_generation: 2,
    }
}

/// Copies the machine that is `to`, and tries it with `moved` added.
fn assembly(names: &Names, moved: &str, to: &str) -> Vec<Step> {
    let (clone, network) = (names.clone.clone(), names.network.clone());
    let order = CloneOrder {
        source: vm(to),
        clone: clone.clone(),
        name: format!("{to}-trial"),
        host: "host-1".parse().unwrap(),
        plan: names.plan.clone(),
        allocation: given(1000),
        ticket: String::new(),
    };
    let target = ProbeTarget {
        address: "10.0.0.12:8080".parse().unwrap(),
        kind: ProbeKind::TcpConnect,
        rate_per_second: 5.0,
    };
    let probe = ProbeOrder {
        targets: vec![target],
        stand_ins: Vec::new(),
        duration: Duration::from_secs(8),
    };
    vec![
        Step::Clone(order),
        Step::Isolate { clone: clone.clone(), network: network.clone() },
        Step::Start { clone: clone.clone() },
        apply(names, &clone, &[to], &[to, moved]),
        Step::Try { clone, network, probe },
    ]
}

fn change(name: &str, after: &[&str], cpu_after: u64) -> MachineChange {
    MachineChange {
        name: name.into(),
        mix_before: mix(&[name]),
        mix_after: mix(after),
        allocation_before: given(1000),
        allocation_after: given(cpu_after),
        retired: after.is_empty(),
    }
}

fn plan(
    (id, moved, to): (&str, &str, &str),
    cpu_after: u64,
    promotion: impl FnOnce(&Names) -> Vec<Step>,
) -> Plan {
    let names = Names {
        plan: id.parse().unwrap(),
        clone: vm(&format!("clone-{id}")),
        network: format!("net-{id}").parse().unwrap(),
    };
    let changes: BTreeMap<VmId, MachineChange> =
        [(vm(to), change(to, &[to, moved], cpu_after)), (vm(moved), change(moved, &[], 1000))]
            .into();
    let mut steps = assembly(&names, moved, to);
    steps.extend(promotion(&names));
    Plan {
        made_at: Timestamp::default(),
        window: "w-0".parse().unwrap(),
        basis: MixHash::default(),
        goal: Goal::Consolidate,
        summary: format!("{moved} moves to {to}"),
        source: vm(to),
        clone: names.clone.clone(),
        host: "host-1".parse().unwrap(),
        moves: vec![Move { application: app(moved), from: vm(moved), to: vm(to) }],
        changes,
        steps,
        effects: Vec::new(),
        evidence: Vec::new(),
        not_if: format!("{moved} is called by somebody"),
        bound_by: Vec::new(),
        id: names.plan,
    }
}

/// `moved` goes to machine `to` in place, with every kind of step but a swap.
#[must_use]
pub fn consolidation(id: &str, moved: &str, to: &str) -> Plan {
    plan((id, moved, to), 500, |names| {
        vec![
            apply(names, &vm(to), &[to], &[to, moved]),
            Step::Resize { vm: vm(to), to: given(500), from: given(1000) },
            apply(names, &vm(moved), &[moved], &[]),
            Step::Retire { vm: vm(moved) },
            Step::Audit,
            Step::RemoveClone { clone: names.clone.clone() },
        ]
    })
}

/// The clone, with `moved` added, takes the place of machine `to`.
#[must_use]
pub fn swap(id: &str, moved: &str, to: &str) -> Plan {
    plan((id, moved, to), 1000, |names| {
        vec![
            Step::Swap { source: vm(to), clone: names.clone.clone() },
            apply(names, &vm(moved), &[moved], &[]),
            Step::Retire { vm: vm(moved) },
            Step::Audit,
        ]
    })
}
