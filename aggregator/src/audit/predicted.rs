//! What applications were predicted to use, and what a trial or an audit measured of it: what predictions
//! are corrected by.

use std::collections::{BTreeMap, BTreeSet};

use common::id::AppName;

use crate::{
    history::{Compared, Resource},
    inference::{Demand, Findings},
    journal::Predicted,
    plan::Plan,
};

/// What the applications of the machines that `plan` touches are predicted to use, by what was found
/// last. One that runs on several of them is left out: nobody could say which is measured.
#[must_use]
pub fn predicted(plan: &Plan, findings: &Findings) -> Vec<Predicted> {
    let mut demands: BTreeMap<&AppName, Demand> = BTreeMap::new();
    let mut several = BTreeSet::new();
    for (vm, change) in &plan.changes {
        let Some(standing) = findings.machines.get(vm) else { continue };
        for name in change.mix_before.0.keys() {
            let Some(mix) = standing.mixes.get(name) else { continue };
            if demands.insert(name, mix.demand).is_some() {
                several.insert(name);
            }
        }
    }
    demands.retain(|name, _| !several.contains(name));
    let each = demands.into_iter().flat_map(|(name, demand)| {
        amounts(&demand).map(|(resource, amount)| Predicted {
            application: name.clone(),
            resource,
            amount,
        })
    });
    each.collect()
}

/// The predictions beside what was measured. A trial is no measure of what is needed, for its load is
/// that of probes: it teaches only by what was used beyond the prediction.
#[must_use]
pub fn compared(
    predicted: &[Predicted],
    used: &BTreeMap<AppName, Demand>,
    is_trial: bool,
) -> Vec<Compared> {
    let each = predicted.iter().filter_map(|predicted| {
        let demand = used.get(&predicted.application)?;
        let (_, measured) =
            amounts(demand).into_iter().find(|(resource, _)| *resource == predicted.resource)?;
        let is_known = predicted.amount > 0 && measured > 0;
        let teaches = is_known && (!is_trial || measured > predicted.amount);
        teaches.then(|| Compared {
            application: predicted.application.clone(),
            resource: predicted.resource,
            predicted: predicted.amount,
            measured,
        })
    });
    each.collect()
}

const fn amounts(demand: &Demand) -> [(Resource, u64); 2] {
    [(Resource::Cpu, demand.cpu.0), (Resource::Memory, demand.memory.0)]
}

#[cfg(test)]
mod tests {
    use common::units::{Bytes, Millicores};

    use super::*;

    fn of(name: &str, resource: Resource, amount: u64) -> Predicted {
        Predicted { application: name.parse().unwrap(), resource, amount }
    }

    #[test]
    fn an_audit_teaches_both_ways_a_trial_only_of_more_and_nothing_of_what_is_not_known() {
        let predicted = [
            of("web", Resource::Cpu, 100),
            of("web", Resource::Memory, 1_000),
            of("gone", Resource::Cpu, 100),
            of("new", Resource::Cpu, 0),
        ];
        let demand = |cpu, memory| Demand { cpu: Millicores(cpu), memory: Bytes(memory) };
        let used = [("web", demand(80, 1_200)), ("new", demand(5, 0))];
        let used = used.map(|(name, demand)| (name.parse().unwrap(), demand)).into();
        let told = |is_trial| -> Vec<(Resource, u64)> {
            let compared = compared(&predicted, &used, is_trial);
            compared.iter().map(|one| (one.resource, one.measured)).collect()
        };
        assert_eq!(told(false), [(Resource::Cpu, 80), (Resource::Memory, 1_200)]);
        assert_eq!(told(true), [(Resource::Memory, 1_200)]);
    }
}
