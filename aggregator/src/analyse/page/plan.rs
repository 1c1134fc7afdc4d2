//! The plan: each machine that changes, before and after.

use std::collections::BTreeMap;

use common::{id::VmId, units::Millicores};

use super::{
    profiles::share,
    text::{escaped, more},
};
use crate::{
    analyse::Analysis,
    plan::{MachineChange, Planned},
};

/// Machines that are drawn.
const DRAWN: usize = 100;
const BAR: f64 = 220.0;

pub(super) fn told(analysis: &Analysis) -> String {
    let planned = &analysis.planned;
    let mut text = summary(planned);
    let mut changes: BTreeMap<&VmId, &MachineChange> = BTreeMap::new();
    for plan in &planned.plans {
        changes.extend(plan.changes.iter());
    }
    if !changes.is_empty() {
        text.push_str(
            "<table><tr><th>machine</th><th>before</th><th>after</th><th>applications \
             before</th><th>after</th></tr>",
        );
        for (vm, change) in changes.iter().take(DRAWN) {
            row(&mut text, analysis, vm, change);
        }
        text.push_str("</table>");
        text.push_str(&more(changes.len(), DRAWN, "machines that change"));
    }
    text
}

fn summary(planned: &Planned) -> String {
    if planned.plans.is_empty() {
        return "<p>There is no beneficial change. Why each machine is left alone stands below.</p>"
            .to_owned();
    }
    let mut text = format!(
        "<p>{} plans take the cost from {:.1} to {:.1}; the whole target costs {:.1}, and no target \
         less than {:.1}.</p><ol>",
        planned.plans.len(),
        planned.cost_before,
        planned.cost_after,
        planned.cost_of_target,
        planned.lower_bound
    );
    for plan in planned.plans.iter().take(DRAWN) {
        text.push_str(&format!("<li>{}</li>", escaped(&plan.summary)));
    }
    text + "</ol>"
}

fn row(text: &mut String, analysis: &Analysis, vm: &VmId, change: &MachineChange) {
    let given = change.allocation_before.cpu.unwrap_or(Millicores(0)).0;
    let cpu = |names: &mut dyn Iterator<Item = &common::id::AppName>| -> u64 {
        let of = |name: &common::id::AppName| {
            let needs = analysis.findings.machines.values().find_map(|it| it.needs.get(name));
            needs.map_or(0, |need| need.cpu_peak.0)
        };
        names.map(of).sum()
    };
    let before = cpu(&mut change.mix_before.0.keys());
    let after = cpu(&mut change.mix_after.0.keys());
    let name = escaped(&change.name);
    text.push_str(&format!("<tr><td title=\"{}\">{name}</td>", escaped(vm.as_str())));
    bar(text, before, given);
    if change.retired {
        text.push_str("<td class=\"no\">retired</td>");
    } else {
        bar(text, after, change.allocation_after.cpu.map_or(given, |cpu| cpu.0));
    }
    for mix in [&change.mix_before, &change.mix_after] {
        let names: Vec<_> = mix.0.keys().map(|name| escaped(name.as_str())).collect();
        text.push_str(&format!("<td>{}</td>", names.join(", ")));
    }
    text.push_str("</tr>");
}

/// What is used at peak of what is given.
fn bar(text: &mut String, used: u64, given: u64) {
    let wide = (share(used, given) * BAR).min(BAR);
    let (used, given) = (Millicores(used), Millicores(given));
    text.push_str(&format!(
        "<td><svg viewBox=\"0 0 {BAR} 14\" width=\"{BAR}\" height=\"14\"><rect width=\"{wide:.1}\" \
         height=\"14\" fill=\"#2f6db3\"><title>{used} of {given} at peak</title></rect></svg></td>"
    ));
}
