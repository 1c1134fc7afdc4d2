//! Communities of a weighted graph by the Leiden algorithm (Traag, Waltman, van Eck, Scientific
//! Reports 2019) on modularity with a resolution (Reichardt, Bornholdt 2006).
//!
//! ```text
//!  wishes ─> contract ─> graph ─> move (queue) ─> refine (chance) ─> aggregate ─┐
//!                                   ^                                           │
//!                                   └──── until every community is one node ────┘
//! ```
//!
//! Modularity compares the weight inside each community with what chance would put there:
//! `sum over communities of (inside - resolution x degree^2 / (2 total)) / total`. No community falls
//! apart into pieces that nothing joins, but where a wish joins them. The same graph, wishes and seed
//! give the same communities. One pass is O(edges), and few passes are needed.
//!
//! Wishes hold always: nodes wanted together are one node from the start, and a node never moves to a
//! community that has one it is wanted apart from.

mod graph;
mod passes;
#[cfg(test)]
mod tests;

use std::fmt;

use self::graph::Graph;
use crate::{packing::Random, partition::numbered};

/// Rounds over the whole graph at most; more are hardly ever of use.
const ROUNDS: usize = 12;
/// Times a small graph is begun anew, in another order: the best is kept.
const STARTS: usize = 10;
/// Edges looked at over all starts: large graphs are begun once.
const STARTED_EDGES: usize = 100_000;
/// Modularities that differ by less are the same: gains of the last digits are no gains.
const SAME_QUALITY: f64 = 1e-10;

/// How communities are looked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Above 1 for smaller communities, below 1 for larger ones.
    pub resolution: f64,
    /// How freely the refinement chooses among what gains; 0.01 is the authors'.
    pub randomness: f64,
    /// What chance follows from.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { resolution: 1.0, randomness: 0.01, seed: 1 }
    }
}

/// What must hold of the communities, whatever the edges say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Pairs in one community.
    pub together: Vec<(usize, usize)>,
    /// Pairs in two communities.
    pub apart: Vec<(usize, usize)>,
}

/// A graph or a wish nobody can work with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unworkable {
    /// An edge or a wish names a node that is not there.
    NoNode {
        /// Which.
        node: usize,
        /// How many there are.
        nodes: usize,
    },
    /// The weight of an edge is below 0 or no number.
    Weight {
        /// Its first end.
        one: usize,
        /// Its second end.
        other: usize,
        /// What was given.
        weight: f64,
    },
    /// Two nodes are wanted apart and, maybe by way of others, together.
    Contradiction {
        /// One of them.
        one: usize,
        /// The other.
        other: usize,
    },
}

impl fmt::Display for Unworkable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNode { node, nodes } => {
                write!(f, "node {node} is named; there are {nodes}, counted from 0")
            }
            Self::Weight { one, other, weight } => {
                write!(f, "weight of {one} to {other} is {weight}; write a number from 0")
            }
            Self::Contradiction { one, other } => {
                write!(f, "{one} and {other} are wanted together and apart; drop one wish")
            }
        }
    }
}

impl std::error::Error for Unworkable {}

/// The community of each node, numbered from 0 in the order of their first nodes. Several edges
/// between two nodes add up; direction does not count.
///
/// # Errors
///
/// [`Unworkable`] for the first edge or wish that is.
pub fn communities(
    nodes: usize,
    edges: &[(usize, usize, f64)],
    wishes: &Wishes,
    settings: &Settings,
) -> Result<Vec<usize>, Unworkable> {
    check(nodes, edges, wishes)?;
    let merged = contracted(nodes, &wishes.together);
    let apart: Vec<_> = wishes.apart.iter().map(|&(a, b)| (merged[a], merged[b])).collect();
    if let Some(at) = apart.iter().position(|(one, other)| one == other) {
        let (one, other) = wishes.apart[at];
        return Err(Unworkable::Contradiction { one, other });
    }
    let size = merged.iter().max().map_or(0, |most| most + 1);
    let lifted = edges.iter().map(|&(a, b, weight)| (merged[a], merged[b], weight));
    let graph = Graph::new(size, lifted, apart);
    let mut random = Random::new(settings.seed);
    let starts = (STARTED_EDGES / edges.len().max(1)).clamp(1, STARTS);
    let (mut found, mut quality) = improved(&graph, settings, &mut random);
    for _ in 1..starts {
        let (other, better) = improved(&graph, settings, &mut random);
        if better > quality + SAME_QUALITY {
            (found, quality) = (other, better);
        }
    }
    let found = graph.connected(&found);
    let labels: Vec<usize> = merged.iter().map(|&node| found[node]).collect();
    Ok(numbered(&labels))
}

/// Rounds from every node alone until one gains nothing.
fn improved(graph: &Graph, settings: &Settings, random: &mut Random) -> (Vec<usize>, f64) {
    let mut found: Vec<usize> = (0..graph.size()).collect();
    let mut quality = graph.quality(&found, settings.resolution);
    for _ in 0..ROUNDS {
        let next = passes::round(graph, &found, settings, random);
        let reached = graph.quality(&next, settings.resolution);
        if reached <= quality + SAME_QUALITY {
            break;
        }
        (found, quality) = (next, reached);
    }
    (found, quality)
}

/// Modularity of communities: at most 1, about 0 where they say no more than chance.
///
/// # Errors
///
/// [`Unworkable`] for the first edge that is, or if the labels are not one for each node.
pub fn modularity(
    labels: &[usize],
    edges: &[(usize, usize, f64)],
    resolution: f64,
) -> Result<f64, Unworkable> {
    check(labels.len(), edges, &Wishes::default())?;
    let graph = Graph::new(labels.len(), edges.iter().copied(), Vec::new());
    Ok(graph.quality(&numbered(labels), resolution))
}

fn check(nodes: usize, edges: &[(usize, usize, f64)], wishes: &Wishes) -> Result<(), Unworkable> {
    let wished = wishes.together.iter().chain(&wishes.apart).flat_map(|&(one, other)| [one, other]);
    let ends = edges.iter().flat_map(|&(one, other, _)| [one, other]);
    if let Some(node) = ends.chain(wished).find(|node| *node >= nodes) {
        return Err(Unworkable::NoNode { node, nodes });
    }
    let bad = edges.iter().find(|(.., weight)| !(weight.is_finite() && *weight >= 0.0));
    bad.map_or(Ok(()), |&(one, other, weight)| Err(Unworkable::Weight { one, other, weight }))
}

/// The node each node is part of once those wanted together are one.
fn contracted(nodes: usize, together: &[(usize, usize)]) -> Vec<usize> {
    let mut parents: Vec<usize> = (0..nodes).collect();
    for &(one, other) in together {
        let (one, other) = (root(&mut parents, one), root(&mut parents, other));
        parents[one.max(other)] = one.min(other);
    }
    let roots: Vec<usize> = (0..nodes).map(|node| root(&mut parents, node)).collect();
    numbered(&roots)
}

fn root(parents: &mut [usize], node: usize) -> usize {
    let mut at = node;
    while parents[at] != at {
        // The way is halved, so that a long chain is walked once.
        parents[at] = parents[parents[at]];
        at = parents[at];
    }
    at
}
