//! The graph that communities are looked for in: neighbours in one row after the other.

use std::collections::BTreeMap;

use crate::partition::numbered;

/// An undirected weighted graph, and which of its nodes are wanted apart.
#[derive(Debug, Clone, Default)]
pub(super) struct Graph {
    /// Where each node's neighbours begin, and where the last one's end.
    starts: Vec<usize>,
    neighbours: Vec<(usize, f64)>,
    /// Weight of a node's edges to itself, each once.
    loops: Vec<f64>,
    /// Weight of all ends of edges at a node.
    pub(super) degrees: Vec<f64>,
    /// Weight of all ends of edges.
    pub(super) total: f64,
    /// Nodes that each node is wanted apart from; those without any have no row.
    apart: BTreeMap<usize, Vec<usize>>,
}

impl Graph {
    pub(super) fn new(
        nodes: usize,
        edges: impl Iterator<Item = (usize, usize, f64)>,
        apart: Vec<(usize, usize)>,
    ) -> Self {
        let mut ends: Vec<(usize, usize, f64)> = Vec::new();
        let mut loops = vec![0.0; nodes];
        for (one, other, weight) in edges.filter(|(.., weight)| *weight > 0.0) {
            if one == other {
                loops[one] += weight;
            } else {
                ends.push((one, other, weight));
                ends.push((other, one, weight));
            }
        }
        // Stable, so that sums are made in the order of the edges given.
        ends.sort_by_key(|&(from, to, _)| (from, to));
        let mut graph = Self { loops, ..Self::default() };
        graph.fill(nodes, &ends);
        for (one, other) in apart {
            graph.apart.entry(one).or_default().push(other);
            graph.apart.entry(other).or_default().push(one);
        }
        graph
    }

    /// Puts ends in order of their nodes into rows; those of one pair are added up.
    fn fill(&mut self, nodes: usize, ends: &[(usize, usize, f64)]) {
        self.starts.push(0);
        let mut at = 0;
        for node in 0..nodes {
            let row = self.neighbours.len();
            while let Some(&(_, to, weight)) = ends.get(at).filter(|(from, ..)| *from == node) {
                let has_any = self.neighbours.len() > row;
                match self.neighbours.last_mut() {
                    Some((last, sum)) if *last == to && has_any => *sum += weight,
                    _ => self.neighbours.push((to, weight)),
                }
                at += 1;
            }
            self.starts.push(self.neighbours.len());
            let around: f64 = self.neighbours[row..].iter().map(|(_, weight)| weight).sum();
            self.degrees.push(2.0 * self.loops[node] + around);
        }
        self.total = self.degrees.iter().sum();
    }

    pub(super) fn size(&self) -> usize {
        self.degrees.len()
    }

    pub(super) fn around(&self, node: usize) -> &[(usize, f64)] {
        &self.neighbours[self.starts[node]..self.starts[node + 1]]
    }

    pub(super) fn apart(&self, node: usize) -> &[usize] {
        self.apart.get(&node).map_or(&[], Vec::as_slice)
    }

    /// What a unit of weight is: gains are told in it, so that chance does not depend on units.
    pub(super) fn mean_weight(&self) -> f64 {
        self.total / (self.neighbours.len().max(1)) as f64
    }

    /// Each part of a partition as one node.
    pub(super) fn aggregate(&self, parts: &[usize], count: usize) -> Self {
        let mut edges = Vec::with_capacity(self.neighbours.len() / 2);
        for node in 0..self.size() {
            if self.loops[node] > 0.0 {
                edges.push((parts[node], parts[node], self.loops[node]));
            }
            let once = self.around(node).iter().filter(|(to, _)| *to > node);
            edges.extend(once.map(|&(to, weight)| (parts[node], parts[to], weight)));
        }
        let mut apart: Vec<(usize, usize)> = Vec::new();
        for (&node, others) in &self.apart {
            let once = others.iter().filter(|other| **other > node);
            apart.extend(
                once.map(|&other| (parts[node].min(parts[other]), parts[node].max(parts[other]))),
            );
        }
        apart.sort_unstable();
        apart.dedup();
        Self::new(count, edges.into_iter(), apart)
    }

    /// Modularity of a partition whose parts are numbered from 0.
    pub(super) fn quality(&self, parts: &[usize], resolution: f64) -> f64 {
        if self.total <= 0.0 {
            return 0.0;
        }
        let count = parts.iter().max().map_or(0, |most| most + 1);
        let mut inside = vec![0.0; count];
        let mut degrees = vec![0.0; count];
        for node in 0..self.size() {
            let part = parts[node];
            degrees[part] += self.degrees[node];
            inside[part] += 2.0 * self.loops[node];
            let own = self.around(node).iter().filter(|(to, _)| parts[*to] == part);
            inside[part] += own.map(|(_, weight)| weight).sum::<f64>();
        }
        let chance: f64 = degrees.iter().map(|degree: &f64| degree * degree / self.total).sum();
        (inside.iter().sum::<f64>() - resolution * chance) / self.total
    }

    /// The partition with every part that falls into pieces told as those pieces: it never lowers
    /// modularity.
    pub(super) fn connected(&self, parts: &[usize]) -> Vec<usize> {
        let mut pieces: Vec<Option<usize>> = vec![None; self.size()];
        let mut count = 0;
        for first in 0..self.size() {
            if pieces[first].is_some() {
                continue;
            }
            pieces[first] = Some(count);
            let mut open = vec![first];
            while let Some(node) = open.pop() {
                for &(to, _) in self.around(node) {
                    if pieces[to].is_none() && parts[to] == parts[node] {
                        pieces[to] = Some(count);
                        open.push(to);
                    }
                }
            }
            count += 1;
        }
        numbered(&pieces.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>())
    }
}
