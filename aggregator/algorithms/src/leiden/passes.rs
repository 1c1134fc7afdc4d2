//! One round of the algorithm: moving, refining and aggregating until nothing is left to move.

use std::collections::VecDeque;

use super::{Settings, graph::Graph};
use crate::{packing::Random, partition::numbered};

/// Improves a partition; what comes back is numbered from 0.
pub(super) fn round(
    base: &Graph,
    start: &[usize],
    settings: &Settings,
    random: &mut Random,
) -> Vec<usize> {
    let mut level = base.clone();
    // The node of the level that each node of the base is part of.
    let mut place: Vec<usize> = (0..base.size()).collect();
    let mut parts = start.to_vec();
    loop {
        parts = numbered(&moved(&level, &parts, settings.resolution, random));
        let count = parts.iter().max().map_or(0, |most| most + 1);
        if count == level.size() {
            break;
        }
        let refined = numbered(&refined(&level, &parts, settings, random));
        let fewer = refined.iter().max().map_or(0, |most| most + 1);
        // Nothing could be merged without tearing a community apart.
        if fewer == level.size() {
            break;
        }
        let mut lifted = vec![0; fewer];
        for (node, &part) in refined.iter().enumerate() {
            lifted[part] = parts[node];
        }
        level = level.aggregate(&refined, fewer);
        for at in &mut place {
            *at = refined[*at];
        }
        parts = lifted;
    }
    numbered(&place.into_iter().map(|at| parts[at]).collect::<Vec<_>>())
}

/// Weights from one node to communities, without forgetting a large table each time.
#[derive(Debug)]
struct Pull {
    to: Vec<f64>,
    touched: Vec<usize>,
}

impl Pull {
    fn new(size: usize) -> Self {
        Self { to: vec![0.0; size], touched: Vec::new() }
    }

    fn add(&mut self, part: usize, weight: f64) {
        if self.to[part] <= 0.0 {
            self.touched.push(part);
        }
        self.to[part] += weight;
    }

    fn clear(&mut self) {
        for part in self.touched.drain(..) {
            self.to[part] = 0.0;
        }
    }
}

/// Fast local moving: every node goes where it gains most, and its neighbours are looked at again.
fn moved(graph: &Graph, start: &[usize], resolution: f64, random: &mut Random) -> Vec<usize> {
    let size = graph.size();
    let mut parts = start.to_vec();
    let (mut degrees, mut members) = (vec![0.0; size], vec![0_usize; size]);
    for node in 0..size {
        degrees[parts[node]] += graph.degrees[node];
        members[parts[node]] += 1;
    }
    let mut empty: Vec<usize> = (0..size).rev().filter(|part| members[*part] == 0).collect();
    let mut order: Vec<usize> = (0..size).collect();
    random.shuffle(&mut order);
    let mut queue: VecDeque<usize> = order.into();
    let mut is_queued = vec![true; size];
    let mut pull = Pull::new(size);
    while let Some(node) = queue.pop_front() {
        is_queued[node] = false;
        let own = parts[node];
        for &(to, weight) in graph.around(node) {
            pull.add(parts[to], weight);
        }
        degrees[own] -= graph.degrees[node];
        let cost = resolution * graph.degrees[node] / graph.total.max(f64::MIN_POSITIVE);
        let gain = |part: usize| pull.to[part] - cost * degrees[part];
        let mut best = (own, gain(own));
        for &part in &pull.touched {
            let gained = gain(part);
            let better =
                gained > best.1 + 1e-12 || (gained >= best.1 && part < best.0 && best.0 != own);
            if better && is_free(graph, &parts, node, part) {
                best = (part, gained);
            }
        }
        // Alone is better than where it loses.
        let alone = empty.last().filter(|_| best.1 < -1e-12 && members[own] > 1);
        best = alone.map_or(best, |part| (*part, 0.0));
        let part = best.0;
        degrees[part] += graph.degrees[node];
        pull.clear();
        if part == own {
            continue;
        }
        if empty.last() == Some(&part) {
            empty.pop();
        }
        members[own] -= 1;
        members[part] += 1;
        if members[own] == 0 {
            empty.push(own);
        }
        parts[node] = part;
        for &(to, _) in graph.around(node) {
            if parts[to] != part && !is_queued[to] {
                is_queued[to] = true;
                queue.push_back(to);
            }
        }
    }
    parts
}

/// Whether nothing a node is wanted apart from is in a community.
fn is_free(graph: &Graph, parts: &[usize], node: usize, part: usize) -> bool {
    graph.apart(node).iter().all(|other| parts[*other] != part)
}

/// Sub-communities of each community: nodes that hang well on to it are merged, by chance weighed
/// with what is gained, so that each sub-community is joined by edges.
fn refined(graph: &Graph, parts: &[usize], settings: &Settings, random: &mut Random) -> Vec<usize> {
    let size = graph.size();
    let per_total = settings.resolution / graph.total.max(f64::MIN_POSITIVE);
    let mut around = vec![0.0; size];
    for node in 0..size {
        around[parts[node]] += graph.degrees[node];
    }
    let mut subs: Vec<usize> = (0..size).collect();
    let mut degrees = graph.degrees.clone();
    let mut members = vec![1_usize; size];
    // Weight from each sub-community to the rest of its community.
    let mut outward: Vec<f64> = (0..size)
        .map(|node| {
            let own = graph.around(node).iter().filter(|(to, _)| parts[*to] == parts[node]);
            own.map(|(_, weight)| weight).sum()
        })
        .collect();
    let mut order: Vec<usize> = (0..size).collect();
    random.shuffle(&mut order);
    let mut pull = Pull::new(size);
    let unit = graph.mean_weight() * settings.randomness.max(1e-9);
    for node in order {
        let whole = around[parts[node]];
        let hangs_on = |sub: usize, outward: f64, degrees: &[f64]| {
            outward >= per_total * degrees[sub] * (whole - degrees[sub]) - 1e-12
        };
        // The first of a sub-community with more members stays: moving it could tear it apart.
        if members[subs[node]] > 1 || !hangs_on(node, outward[node], &degrees) {
            continue;
        }
        for &(to, weight) in graph.around(node) {
            if parts[to] == parts[node] {
                pull.add(subs[to], weight);
            }
        }
        let mut choices: Vec<(usize, f64)> = Vec::new();
        for &sub in &pull.touched {
            let gain = pull.to[sub] - per_total * graph.degrees[node] * degrees[sub];
            let fits = gain >= 0.0 && hangs_on(sub, outward[sub], &degrees);
            if fits && is_free(graph, &subs, node, sub) {
                choices.push((sub, gain));
            }
        }
        if let Some(sub) = chosen(&choices, unit, random) {
            outward[sub] += outward[node] - 2.0 * pull.to[sub];
            degrees[sub] += graph.degrees[node];
            members[sub] += 1;
            members[node] = 0;
            subs[node] = sub;
        }
        pull.clear();
    }
    subs
}

/// One of the choices, each as likely as `exp(gain / unit)`.
fn chosen(choices: &[(usize, f64)], unit: f64, random: &mut Random) -> Option<usize> {
    let most = choices.iter().map(|(_, gain)| *gain).fold(0.0, f64::max);
    let weighed = |gain: f64| ((gain - most) / unit).exp();
    let sum: f64 = choices.iter().map(|(_, gain)| weighed(*gain)).sum();
    let mut left = random.share() * sum;
    for &(part, gain) in choices {
        left -= weighed(gain);
        if left < 0.0 {
            return Some(part);
        }
    }
    choices.last().map(|(part, _)| *part)
}
