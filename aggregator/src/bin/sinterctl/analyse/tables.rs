//! An analysis as tables for people.

use std::collections::BTreeMap;

use aggregator::{
    analyse::Analysis,
    inference::{Edge, Findings, Party, Rate},
};

use crate::print::{Printer, safe, table};

/// Lines of each table; all of them are in `-o json`.
const LINES: usize = 20;

/// All of it.
pub(super) fn told(printer: &Printer, analysis: &Analysis) -> String {
    let mut text = String::new();
    head(&mut text, printer, analysis);
    groups(&mut text, printer, &analysis.findings);
    edges(&mut text, printer, &analysis.findings);
    candidates(&mut text, printer, &analysis.findings);
    plan(&mut text, printer, analysis);
    figures(&mut text, printer, analysis);
    text
}

fn heading(text: &mut String, printer: &Printer, title: &str) {
    text.push_str(&format!("\n{}\n", printer.heading(title)));
}

fn more(text: &mut String, all: usize) {
    if all > LINES {
        text.push_str(&format!("and {} more; -o json has all\n", all - LINES));
    }
}

fn head(text: &mut String, printer: &Printer, analysis: &Analysis) {
    let source = safe(&analysis.source);
    text.push_str(&format!(
        "{}\n",
        printer.heading(&format!("{source}, read as {}", analysis.format))
    ));
    for assumed in &analysis.assumed {
        text.push_str(&format!("assumed: {}\n", safe(assumed)));
    }
    for remark in analysis.findings.remarks.iter().take(LINES) {
        text.push_str(&format!("remark: {}\n", safe(remark)));
    }
    let all = analysis.findings.remarks.len();
    more(text, all);
}

fn groups(text: &mut String, printer: &Printer, findings: &Findings) {
    let mut groups: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for standing in findings.machines.values() {
        groups.entry(&standing.group).or_default().push(&standing.name);
    }
    let mut groups: Vec<_> = groups.into_values().filter(|group| group.len() > 1).collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
    heading(text, printer, &format!("groups that work in concert: {}", groups.len()));
    for group in groups.iter().take(LINES) {
        let shown: Vec<_> = group.iter().take(8).map(|name| safe(name)).collect();
        let rest = if group.len() > shown.len() { " and others" } else { "" };
        text.push_str(&format!("{:6}  {}{rest}\n", group.len(), shown.join(", ")));
    }
    more(text, groups.len());
}

fn edges(text: &mut String, printer: &Printer, findings: &Findings) {
    heading(text, printer, &format!("edges: {}", findings.edges.len()));
    if findings.edges.is_empty() {
        return;
    }
    let events = |edge: &Edge| {
        edge.connections.per_second + edge.exchanges.map_or(0.0, |rate| rate.per_second)
    };
    let mut busiest: Vec<_> = findings.edges.iter().collect();
    busiest.sort_by(|(_, one), (_, other)| events(other).total_cmp(&events(one)));
    let party = |party: &Party| match party {
        Party::Machine { vm, application } => {
            let name = findings.machines.get(vm).map_or(vm.as_str(), |known| &known.name);
            let application = application.as_ref().map(|name| format!("/{name}"));
            safe(&format!("{name}{}", application.unwrap_or_default()))
        }
        Party::External { address } => address.to_string(),
    };
    let rows = busiest.into_iter().take(LINES).map(|(key, edge)| {
        [
            party(&key.client),
            party(&key.server),
            key.port.to_string(),
            rate(Some(edge.connections)),
            rate(edge.exchanges),
            format!("{:.0} %", edge.coverage * 100.0),
        ]
    });
    let head = ["client", "server", "port", "connections/s", "exchanges/s", "coverage"];
    text.push_str(&table(head, rows));
    more(text, findings.edges.len());
}

fn rate(rate: Option<Rate>) -> String {
    rate.map_or_else(
        || "-".to_owned(),
        |rate| format!("{:.3} [{:.3}, {:.3}]", rate.per_second, rate.lower, rate.upper),
    )
}

fn candidates(text: &mut String, printer: &Printer, findings: &Findings) {
    let (candidates, others): (Vec<_>, Vec<_>) =
        findings.machines.values().partition(|standing| standing.candidate.holds);
    for (title, standings) in [("candidates", candidates), ("no candidates", others)] {
        heading(text, printer, &format!("{title}: {}", standings.len()));
        let rows = standings
            .iter()
            .take(LINES)
            .map(|standing| [safe(&standing.name), safe(&standing.candidate.reason)]);
        if !standings.is_empty() {
            text.push_str(&table(["machine", "because"], rows));
        }
        more(text, standings.len());
    }
}

fn plan(text: &mut String, printer: &Printer, analysis: &Analysis) {
    let planned = &analysis.planned;
    heading(text, printer, &format!("plans: {}", planned.plans.len()));
    if planned.plans.is_empty() {
        text.push_str("there is no beneficial change\n");
    }
    for plan in planned.plans.iter().take(LINES) {
        text.push_str(&format!("{}\n", safe(&plan.summary)));
    }
    more(text, planned.plans.len());
    text.push_str(&format!("cost now {:.2}, after these plans {:.2}, of the whole target {:.2}, of no target less than {:.2}\n",
        planned.cost_before, planned.cost_after, planned.cost_of_target, planned.lower_bound
    ));
}

fn figures(text: &mut String, printer: &Printer, analysis: &Analysis) {
    let figures = &analysis.figures;
    heading(text, printer, "figures");
    let seconds = |seconds: f64| format!("{seconds:.3} s");
    let rows = [
        ["windows".to_owned(), figures.windows.to_string()],
        ["machines".to_owned(), figures.machines.to_string()],
        ["applications".to_owned(), figures.applications.to_string()],
        ["edges".to_owned(), figures.edges.to_string()],
        ["read and folded in".to_owned(), seconds(figures.read_seconds)],
        ["inferred".to_owned(), seconds(figures.infer_seconds)],
        ["planned".to_owned(), seconds(figures.plan_seconds)],
        ["lines that could not be read".to_owned(), analysis.bad_lines.to_string()],
    ];
    text.push_str(&table(["what", "how much"], rows));
}
