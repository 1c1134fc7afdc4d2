//! Business groups, dependencies, roles and rules as tables.

use common::wire::admin::v1;

use super::{graph::party, percent};
use crate::print::{Printer, safe, table};

/// Names of machines that one cell of a table shows.
const SHOWN: usize = 5;

pub(crate) fn groups(_: &Printer, answer: &v1::ListGroupsResponse) -> String {
    if answer.groups.is_empty() {
        return "no two machines do one thing together, as far as is known\n".to_owned();
    }
    let rows = answer.groups.iter().map(|group| {
        let names: Vec<_> =
            group.machines.iter().take(SHOWN).map(|member| safe(&member.name)).collect();
        let more = if group.machines.len() > SHOWN { " ..." } else { "" };
        [
            group.group.to_string(),
            safe(&group.name),
            group.machines.len().to_string(),
            group.cohesion.map_or_else(|| "-".to_owned(), percent),
            format!("{}{more}", names.join(" ")),
            safe(&group.reason),
        ]
    });
    table(["id", "name", "machines", "within", "which", "why"], rows)
}

pub(crate) fn group(printer: &Printer, answer: &v1::ListGroupsResponse) -> String {
    let mut text = String::new();
    for group in &answer.groups {
        text += &format!("{} (group {})\n", printer.heading(&group.name), group.group);
        text += &format!("  {}\n\n", safe(&group.reason));
        text += &table(
            ["machine", "applications"],
            group.machines.iter().map(|member| {
                let applications: Vec<_> =
                    member.applications.iter().map(|name| safe(name)).collect();
                let told = applications.join(" ");
                [safe(&member.name), if told.is_empty() { "-".to_owned() } else { told }]
            }),
        );
    }
    if !answer.dependencies.is_empty() {
        text += "\n";
        text += &dependencies(printer, answer);
    }
    text
}

pub(crate) fn dependencies(printer: &Printer, answer: &v1::ListGroupsResponse) -> String {
    if answer.dependencies.is_empty() {
        return "no machine of the inventory calls another, as far as is known\n".to_owned();
    }
    let rows = answer.dependencies.iter().map(|known| {
        let follows = known.follows.as_ref();
        let dash = || "-".to_owned();
        [
            party(known.client.as_ref()),
            party(known.server.as_ref()),
            known.port.to_string(),
            follows.map_or_else(dash, |follows| percent(follows.strength)),
            follows.map_or_else(dash, |follows| safe(&follows.by)),
            follows.map_or_else(dash, |follows| follows.windows.to_string()),
            follows.map_or_else(dash, |follows| printer.claim(follows.holds)),
        ]
    });
    table(["who", "depends on", "port", "follows", "by", "windows", "more than chance"], rows)
}

/// What each application does, a line each.
pub(super) fn roles(needs: &[v1::Need]) -> Vec<String> {
    let each = needs.iter().filter(|need| !need.roles.is_empty()).map(|need| {
        let told = need.roles.iter().map(|role| format!("{} ({})", role.role, safe(&role.reason)));
        format!("{}: {}", safe(&need.application), told.collect::<Vec<_>>().join(", "))
    });
    each.collect()
}

pub(crate) fn rules(_: &Printer, answer: &v1::GetGroupRulesResponse) -> String {
    let rules = answer.rules.clone().unwrap_or_default();
    let name = |vm: &String| safe(answer.names.get(vm).unwrap_or(vm));
    let names = |vms: &[String]| vms.iter().map(name).collect::<Vec<_>>().join(" ");
    let mut rows = Vec::new();
    for group in &rules.named {
        rows.push([format!("named:{}", safe(&group.name)), names(&group.vms)]);
    }
    for (kind, sets) in [("together", &rules.together), ("apart", &rules.apart)] {
        for (at, set) in sets.iter().enumerate() {
            rows.push([format!("{kind}:{}", at + 1), names(&set.vms)]);
        }
    }
    for (at, service) in rules.shared.iter().enumerate() {
        let port = service.port.map_or_else(String::new, |port| format!(":{port}"));
        rows.push([format!("shared:{}", at + 1), format!("{}{port}", name(&service.vm))]);
    }
    if rows.is_empty() {
        return "nothing is said of groups; they are drawn from who calls whom\n".to_owned();
    }
    table(["rule", "machines"], rows)
}
