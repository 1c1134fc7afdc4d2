//! The communication graph: machines that work in concert stand in a ring of their own, the rings on
//! a spiral, the largest first. The same findings give the same picture.

use std::{
    collections::{BTreeMap, BTreeSet},
    f64::consts::TAU,
};

use common::id::VmId;

use super::text::{escaped, more, rate};
use crate::inference::{Edge, Findings, Party};

/// Machines that are drawn: those with most edges.
const NODES: usize = 160;
/// Edges listed below the picture, the busiest.
const LISTED: usize = 20;
/// Space for one machine on its ring.
const ROOM: f64 = 34.0;
const COLOURS: [&str; 8] =
    ["#2f6db3", "#c2571a", "#2e8b57", "#8a4fa3", "#b3283a", "#4b7f86", "#96751b", "#5a6472"];

/// Where a machine stands, and in which ring.
type Places<'a> = BTreeMap<&'a VmId, (f64, f64, usize)>;

/// Events per second of an edge, of both kinds.
fn events(edge: &Edge) -> f64 {
    edge.connections.per_second + edge.exchanges.map_or(0.0, |rate| rate.per_second)
}

pub(super) fn drawn(findings: &Findings) -> String {
    let mut pairs: BTreeMap<(&VmId, &VmId), f64> = BTreeMap::new();
    for (key, edge) in &findings.edges {
        if let (Some(client), Some(server)) = (key.client.vm(), key.server.vm())
            && client != server
        {
            *pairs.entry((client, server)).or_default() += events(edge);
        }
    }
    if pairs.is_empty() {
        return "<p>No machine talks to another.</p>".to_owned();
    }
    let mut degrees: BTreeMap<&VmId, usize> = BTreeMap::new();
    for (client, server) in pairs.keys() {
        *degrees.entry(client).or_default() += 1;
        *degrees.entry(server).or_default() += 1;
    }
    let mut chosen: Vec<&VmId> = degrees.keys().copied().collect();
    chosen.sort_by_key(|vm| std::cmp::Reverse(degrees[vm]));
    let all = chosen.len();
    chosen.truncate(NODES);
    let (places, half) = placed(findings, &chosen);
    let mut text = format!(
        "<svg viewBox=\"{0:.0} {0:.0} {1:.0} {1:.0}\" width=\"900\" role=\"img\" aria-label=\"graph of \
         who talks to whom\">",
        -half,
        2.0 * half
    );
    lines(&mut text, &pairs, &places);
    for (vm, (x, y, ring)) in &places {
        let name = escaped(findings.machines.get(*vm).map_or(vm.as_str(), |known| &known.name));
        let size = 4.0 + 1.5 * as_float(degrees[*vm]).sqrt();
        let colour = COLOURS[ring % COLOURS.len()];
        text.push_str(&format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{size:.1}\" fill=\"{colour}\"><title>{name}, {} \
             neighbours</title></circle><text class=\"note\" x=\"{x:.1}\" y=\"{:.1}\" font-size=\"9\" \
             text-anchor=\"middle\">{name}</text>",
            degrees[*vm],
            y + size + 9.0
        ));
    }
    text.push_str("</svg>");
    text + &more(all, NODES, "machines") + &listed(findings)
}

/// Rings by group, on a spiral from the middle.
fn placed<'a>(findings: &'a Findings, chosen: &[&'a VmId]) -> (Places<'a>, f64) {
    let mut groups: BTreeMap<&VmId, Vec<&VmId>> = BTreeMap::new();
    for vm in chosen.iter().copied().collect::<BTreeSet<_>>() {
        let standing = findings.machines.get(vm);
        let group = standing.and_then(|standing| standing.group.as_ref()).unwrap_or(vm);
        groups.entry(group).or_default().push(vm);
    }
    let mut rings: Vec<Vec<&VmId>> = groups.into_values().collect();
    rings.sort_by_key(|ring| std::cmp::Reverse(ring.len()));
    let mut places = Places::new();
    let mut taken: Vec<(f64, f64, f64)> = Vec::new();
    let mut half: f64 = 60.0;
    for (number, ring) in rings.iter().enumerate() {
        let radius =
            if ring.len() == 1 { 0.0 } else { (as_float(ring.len()) * ROOM / TAU).max(26.0) };
        let (x, y) = free_place(&taken, radius + ROOM);
        taken.push((x, y, radius + ROOM));
        half = half.max(x.hypot(y) + radius + ROOM + 10.0);
        for (at, vm) in ring.iter().enumerate() {
            let angle = TAU * as_float(at) / as_float(ring.len());
            places.insert(vm, (x + radius * angle.cos(), y + radius * angle.sin(), number));
        }
    }
    (places, half)
}

/// The first place on a spiral where a circle of that radius touches no other.
fn free_place(taken: &[(f64, f64, f64)], radius: f64) -> (f64, f64) {
    let mut step = 0.0;
    loop {
        let (angle, out) = (step * 0.3, step * 4.0);
        let (x, y) = (out * f64::cos(angle), out * f64::sin(angle));
        let is_free = taken.iter().all(|(tx, ty, other)| (x - tx).hypot(y - ty) >= radius + other);
        if is_free {
            return (x, y);
        }
        step += 1.0;
    }
}

fn lines(text: &mut String, pairs: &BTreeMap<(&VmId, &VmId), f64>, places: &Places<'_>) {
    let most = pairs.values().copied().fold(f64::MIN_POSITIVE, f64::max);
    for ((client, server), events) in pairs {
        let (Some(from), Some(to)) = (places.get(client), places.get(server)) else { continue };
        // Rates lie apart by powers of ten.
        let strength = (1.0 + events).ln() / (1.0 + most).ln();
        let dash = if from.2 == to.2 { "" } else { " stroke-dasharray=\"4 3\"" };
        text.push_str(&format!(
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#7d8894\" \
             stroke-width=\"{:.2}\" stroke-opacity=\"{:.2}\"{dash}/>",
            from.0,
            from.1,
            to.0,
            to.1,
            0.5 + 2.5 * strength,
            0.15 + 0.55 * strength
        ));
    }
}

fn party(findings: &Findings, party: &Party) -> String {
    match party {
        Party::Machine { vm, application } => {
            let name = findings.machines.get(vm).map_or(vm.as_str(), |known| &known.name);
            let application = application.as_ref().map(|name| format!(" ({name})"));
            escaped(&format!("{name}{}", application.unwrap_or_default()))
        }
        Party::External { address } => escaped(&address.to_string()),
    }
}

fn listed(findings: &Findings) -> String {
    let mut busiest: Vec<_> = findings.edges.iter().collect();
    busiest.sort_by(|(_, one), (_, other)| events(other).total_cmp(&events(one)));
    let mut text = String::from(
        "<h3>Busiest edges</h3><table><tr><th>client</th><th>server</th><th class=\"n\">port</th><th \
         class=\"n\">connections</th><th class=\"n\">exchanges</th><th class=\"n\">coverage</th></tr>",
    );
    for (key, edge) in busiest.into_iter().take(LISTED) {
        let exchanges =
            edge.exchanges.map_or_else(|| "not known".to_owned(), |it| rate(it.per_second));
        text.push_str(&format!(
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td \
             class=\"n\">{exchanges}</td><td class=\"n\">{:.0} %</td></tr>",
            party(findings, &key.client),
            party(findings, &key.server),
            key.port,
            rate(edge.connections.per_second),
            edge.coverage * 100.0
        ));
    }
    text + "</table>"
}

#[expect(clippy::cast_precision_loss, reason = "few are drawn")]
fn as_float(count: usize) -> f64 {
    count as f64
}
