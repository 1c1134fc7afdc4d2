//! Business groups, dependencies and roles, and what the operator says of them.

use std::collections::{BTreeMap, BTreeSet};

use common::{id::VmId, wire::admin::v1};

use super::{graph::party, word};
use crate::{
    grouping::GroupRules,
    inference::{Dependency, Group, Playing},
};

/// One group.
pub(in super::super) fn group(group: &Group, names: &BTreeMap<VmId, String>) -> v1::Group {
    let member = |vm: &VmId| {
        let of_machine = group.applications.iter().filter(|(of, _)| of == vm);
        v1::GroupMember {
            vm: vm.to_string(),
            name: names.get(vm).cloned().unwrap_or_else(|| vm.to_string()),
            applications: of_machine.map(|(_, application)| application.to_string()).collect(),
        }
    };
    v1::Group {
        group: group.id,
        name: group.name.clone(),
        machines: group.machines.iter().map(member).collect(),
        cohesion: group.cohesion,
        pinned: group.pinned,
        reason: group.reason.clone(),
    }
}

/// One dependency.
pub(in super::super) fn dependency(
    known: &Dependency,
    names: &BTreeMap<VmId, String>,
) -> v1::Dependency {
    v1::Dependency {
        client: Some(party(&known.edge.client, names)),
        server: Some(party(&known.edge.server, names)),
        port: u32::from(known.edge.port),
        follows: known.follows.map(|follows| v1::Follows {
            by: word(&follows.by),
            strength: follows.strength,
            lag: follows.lag,
            chance: follows.chance,
            windows: follows.windows,
            holds: follows.holds,
        }),
    }
}

/// One role.
pub(super) fn playing(playing: &Playing) -> v1::Playing {
    v1::Playing { role: word(&playing.role), reason: playing.reason.clone() }
}

/// The operator's rules.
pub(in super::super) fn rules(rules: &GroupRules) -> v1::GroupRules {
    let vms = |set: &BTreeSet<VmId>| set.iter().map(ToString::to_string).collect::<Vec<_>>();
    let set = |set: &BTreeSet<VmId>| v1::MachineSet { vms: vms(set) };
    let named = rules.named.iter();
    let shared = rules.shared.iter();
    v1::GroupRules {
        version: rules.version,
        named: named
            .map(|(name, set)| v1::NamedGroup { name: name.clone(), vms: vms(set) })
            .collect(),
        together: rules.together.iter().map(set).collect(),
        apart: rules.apart.iter().map(set).collect(),
        shared: shared
            .map(|service| v1::SharedService {
                vm: service.vm.to_string(),
                port: service.port.map(u32::from),
            })
            .collect(),
    }
}
