//! What the operator says of business groups: read, and set under the version that was read.

use std::collections::{BTreeMap, BTreeSet};

use common::{id::VmId, wire::admin::v1};
use tonic::Status;

use super::{Admin, fleet::found, refusal, refusal::bad_field, show};
use crate::grouping::{GroupRules, SharedService};

/// Machines that are named in all rules together, at most.
const MOST_NAMED: usize = 200_000;

impl Admin {
    pub(super) async fn group_rules(&self) -> Result<v1::GetGroupRulesResponse, Status> {
        let rules = self.steering.settings().groups;
        let known = self.fleet().await?.names();
        let named =
            machines(&rules).filter_map(|vm| Some((vm.to_string(), known.get(vm)?.clone())));
        let names = named.collect();
        Ok(v1::GetGroupRulesResponse { rules: Some(show::rules(&rules)), names })
    }

    pub(super) async fn change_group_rules(
        &self,
        request: v1::SetGroupRulesRequest,
    ) -> Result<v1::SetGroupRulesResponse, Status> {
        let written = request.rules.unwrap_or_default();
        let present = self.steering.settings().groups;
        // Machines that went since may stay in the rules.
        let mut names: BTreeMap<VmId, String> =
            machines(&present).map(|vm| (vm.clone(), vm.to_string())).collect();
        names.extend(self.fleet().await?.names());
        let rules = read(&written, &Known::of(&names))?;
        let set = self.steering.set_group_rules(rules.clone(), request.validate_only).await;
        set.map_err(refusal::steering)?;
        let version = rules.version + u64::from(!request.validate_only);
        let rules = show::rules(&GroupRules { version, ..rules });
        Ok(v1::SetGroupRulesResponse { rules: Some(rules) })
    }
}

/// What the audit log has of rules.
pub(super) fn detail(rules: Option<&v1::GroupRules>) -> String {
    let Some(rules) = rules else { return "none".to_owned() };
    let sets = |sets: &[v1::MachineSet]| {
        let each = sets.iter().map(|set| set.vms.join(" "));
        each.collect::<Vec<_>>().join(", ")
    };
    let named = rules.named.iter().map(|group| format!("{}: {}", group.name, group.vms.join(" ")));
    let shared = rules.shared.iter().map(|service| match service.port {
        Some(port) => format!("{}:{port}", service.vm),
        None => service.vm.clone(),
    });
    let parts = [
        ("named", named.collect::<Vec<_>>().join(", ")),
        ("together", sets(&rules.together)),
        ("apart", sets(&rules.apart)),
        ("shared", shared.collect::<Vec<_>>().join(", ")),
    ];
    let told = parts.iter().filter(|(_, told)| !told.is_empty());
    let told: Vec<_> = told.map(|(field, told)| format!("{field} {told}")).collect();
    if told.is_empty() { "none".to_owned() } else { told.join("; ") }
}

fn machines(rules: &GroupRules) -> impl Iterator<Item = &VmId> {
    let sets = rules.joined().chain(&rules.apart).flatten();
    sets.chain(rules.shared.iter().map(|service| &service.vm))
}

/// Machines by what they may be called.
struct Known<'a> {
    names: &'a BTreeMap<VmId, String>,
    by_text: BTreeMap<&'a str, &'a VmId>,
}

impl<'a> Known<'a> {
    fn of(names: &'a BTreeMap<VmId, String>) -> Self {
        Self { names, by_text: names.keys().map(|vm| (vm.as_str(), vm)).collect() }
    }

    fn machine(&self, text: &str) -> Result<VmId, Status> {
        match self.by_text.get(text) {
            Some(vm) => Ok((*vm).clone()),
            None => found(self.names, text),
        }
    }

    fn set(&self, texts: &[String]) -> Result<BTreeSet<VmId>, Status> {
        texts.iter().map(|text| self.machine(text)).collect()
    }
}

fn read(written: &v1::GroupRules, known: &Known<'_>) -> Result<GroupRules, Status> {
    let sets = written.together.iter().chain(&written.apart).map(|set| set.vms.len());
    let named = written.named.iter().map(|group| group.vms.len());
    if sets.chain(named).sum::<usize>() > MOST_NAMED {
        return Err(bad_field(
            "rules",
            format!("name more than {MOST_NAMED} machines; name fewer"),
        ));
    }
    let mut rules = GroupRules { version: written.version, ..GroupRules::default() };
    for group in &written.named {
        let machines = known.set(&group.vms)?;
        if rules.named.insert(group.name.clone(), machines).is_some() {
            let told = format!("has {:?} twice; write each name once", group.name);
            return Err(bad_field("rules.named", told));
        }
    }
    for set in &written.together {
        rules.together.push(known.set(&set.vms)?);
    }
    for set in &written.apart {
        rules.apart.push(known.set(&set.vms)?);
    }
    for service in &written.shared {
        let port = service.port.map(u16::try_from).transpose();
        let port = port.map_err(|_| {
            bad_field("rules.shared.port", "is above 65535; write a port from 1 to 65535")
        })?;
        rules.shared.insert(SharedService { vm: known.machine(&service.vm)?, port });
    }
    Ok(rules)
}
