//! Edges that are used in a period, the surest first.

use super::text::{escaped, more};
use crate::inference::{EdgeKey, Findings, Party, Regularity};

/// Edges that are listed.
const ROWS: usize = 200;

/// A table; empty where no edge has a period.
pub(super) fn told(findings: &Findings) -> String {
    let mut regular: Vec<(&EdgeKey, &Regularity)> = findings
        .edges
        .iter()
        .filter_map(|(key, edge)| Some((key, edge.period.as_ref()?)))
        .collect();
    if regular.is_empty() {
        return String::new();
    }
    regular.sort_by(|(left, one), (right, other)| {
        one.false_alarm.total_cmp(&other.false_alarm).then_with(|| left.cmp(right))
    });
    let mut text = String::from(
        "<table><tr><th>client</th><th>server</th><th class=\"n\">port</th><th class=\"n\">every</th>\
         <th class=\"n\">95 %</th><th class=\"n\">by chance</th><th class=\"n\">events</th></tr>",
    );
    for (key, period) in regular.iter().take(ROWS) {
        let (client, server) = (name(findings, &key.client), name(findings, &key.server));
        text.push_str(&format!(
            "<tr><td>{client}</td><td>{server}</td><td class=\"n\">{}</td><td class=\"n\">{:.1} s</td>\
             <td class=\"n\">{:.1} to {:.1} s</td><td class=\"n\">{:.1e}</td><td class=\"n\">{}</td></tr>",
            key.port,
            period.seconds,
            period.lower,
            period.upper,
            period.false_alarm,
            period.events
        ));
    }
    text.push_str("</table>");
    text + &more(regular.len(), ROWS, "edges")
}

fn name(findings: &Findings, party: &Party) -> String {
    match party {
        Party::External { address } => escaped(&address.to_string()),
        Party::Machine { vm, application } => {
            let known = findings.machines.get(vm);
            let machine = known.map_or(vm.as_str(), |standing| &standing.name);
            let application = application.as_ref().map(|name| format!("/{name}"));
            escaped(&format!("{machine}{}", application.unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::{Edge, Evidence, Standing};

    #[test]
    fn an_edge_with_a_period_is_told_and_what_came_from_outside_is_escaped() {
        let edge = Edge {
            period: Some(Regularity {
                seconds: 300.0,
                lower: 299.0,
                upper: 301.0,
                false_alarm: 1e-6,
                events: 40,
                trusted: true,
                by: Evidence::Gaps,
            }),
            ..Edge::default()
        };
        let vm: common::id::VmId = "vm-1".parse().unwrap();
        let party = Party::Machine { vm: vm.clone(), application: None };
        let outside = Party::External { address: "192.0.2.7".parse().unwrap() };
        let key = EdgeKey { client: outside, server: party, port: 80 };
        let standing = Standing { name: "<b>".to_owned(), ..Default::default() };
        let findings = Findings {
            machines: [(vm, standing)].into(),
            edges: vec![(key, edge)],
            ..Findings::default()
        };

        let told = told(&findings);

        assert!(told.contains("300.0 s") && told.contains("192.0.2.7"), "{told}");
        assert!(told.contains("&lt;b&gt;") && !told.contains("<b>"), "{told}");
        assert_eq!(super::told(&Findings::default()), "");
    }
}
