//! How good what was said is.

use std::collections::{BTreeMap, BTreeSet};

use common::sample::{Flow, Protocol};

use super::{Edge, Link, Said, Side, Totals, True};

/// How good what was said is. Shares are from 0 to 1; a share of nothing is 1.
#[derive(Debug, Clone, Default)]
pub struct Score {
    /// Share of the true edges that were said, with both applications.
    pub recall: f64,
    /// Share of the true links (edges without applications) that were said.
    pub links: f64,
    /// Share of what was said that is not false.
    pub precision: f64,
    /// Share of the connections that were given to the application that opened them.
    pub attributed: f64,
    /// Connections that were given to another application.
    pub misattributed: u64,
    /// Share of the connections that were counted, both sides together.
    pub counted: f64,
    /// Share of what was due that the agents say they saw; `None` if they do not say.
    pub coverage: Option<f64>,
    /// Share of the links whose opened, closed and reset are exactly right on both sides.
    pub counts_exact: f64,
    /// Share of the links of TCP whose bytes are exactly right, both ways on both sides; of links
    /// with resets on the side that did not reset.
    pub bytes_exact: f64,
    /// Failed attempts that were said, and that were true.
    pub failed: (u64, u64),
    /// Edges that were not said.
    pub missed: Vec<Edge>,
    /// Edges that were said and are not true.
    pub false_edges: Vec<Edge>,
    /// Links whose counts or bytes are not right, in words.
    pub inexact: Vec<String>,
}

#[expect(clippy::cast_precision_loss, reason = "counts of one run")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

/// Holds what was said to what was true.
#[must_use]
pub fn score(truth: &True, said: &Said) -> Score {
    let edges = said.edges();
    let is_said = |edge: &&Edge| edges.contains(edge);
    let missed: Vec<Edge> = truth.edges.keys().filter(|edge| !is_said(edge)).cloned().collect();
    let true_links: BTreeSet<&Link> = truth.edges.keys().map(|edge| &edge.link).collect();
    let said_links: BTreeSet<&Link> = edges.iter().map(|edge| &edge.link).collect();
    let is_true = |edge: &&Edge| truth.edges.keys().any(|truth| agree(edge, truth));
    let false_edges: Vec<Edge> = edges.iter().filter(|edge| !is_true(edge)).cloned().collect();
    let found = truth.edges.len() - missed.len();
    let mut score = Score {
        recall: share(found as u64, truth.edges.len() as u64),
        links: share(true_links.intersection(&said_links).count() as u64, true_links.len() as u64),
        precision: share((edges.len() - false_edges.len()) as u64, edges.len() as u64),
        failed: (said.failed.values().sum(), truth.failed.values().sum()),
        missed,
        false_edges,
        ..Score::default()
    };
    attribute(&mut score, truth, said);
    count(&mut score, truth, said);
    score.coverage = coverage(said);
    score
}

/// What is said may say less than what is true, but nothing else.
fn agree(said: &Edge, truth: &Edge) -> bool {
    let fits = |said: &Option<String>, truth: &Option<String>| said.is_none() || said == truth;
    said.link == truth.link
        && fits(&said.client, &truth.client)
        && fits(&said.server, &truth.server)
}

fn attribute(score: &mut Score, truth: &True, said: &Said) {
    let (mut right, mut all) = (0, 0);
    let tcp = |edge: &&Edge| edge.link.protocol == Protocol::Tcp;
    let opened = |edge: &Edge| {
        let side = said.clients.get(&edge.link).and_then(|side| side.get(&edge.client));
        side.map_or(0, |flow| flow.opened)
    };
    for edge in truth.edges.keys().filter(tcp) {
        right += opened(edge).min(truth.edges[edge].opened);
        all += truth.edges[edge].opened;
    }
    score.attributed = share(right, all);
    for (link, side) in &said.clients {
        for (client, flow) in side.iter().filter(|(client, _)| client.is_some()) {
            let of_it = |edge: &&Edge| edge.link == *link && edge.client == *client;
            let due: u64 =
                truth.edges.keys().filter(of_it).map(|edge| truth.edges[edge].opened).sum();
            score.misattributed += flow.opened.saturating_sub(due);
        }
    }
}

/// What all applications of one side did on a link.
fn sum(side: &Side, link: &Link) -> Flow {
    let mut sum = Flow::default();
    for flow in side.get(link).into_iter().flat_map(BTreeMap::values) {
        super::said::add(&mut sum, flow);
    }
    sum
}

fn count(score: &mut Score, truth: &True, said: &Said) {
    let mut links: BTreeMap<&Link, Totals> = BTreeMap::new();
    for (edge, totals) in &truth.edges {
        let all = links.entry(&edge.link).or_default();
        all.opened += totals.opened;
        all.closed += totals.closed;
        all.reset += totals.reset;
        all.sent += totals.sent;
        all.received += totals.received;
    }
    links.retain(|link, _| link.protocol == Protocol::Tcp);
    let (mut counted, mut due, mut counts, mut bytes) = (0, 0, 0, 0);
    for (link, truth) in &links {
        let (client, server) = (sum(&said.clients, link), sum(&said.servers, link));
        counted += client.opened.min(truth.opened) + server.opened.min(truth.opened);
        due += 2 * truth.opened;
        let counted_right = |flow: &Flow| {
            (flow.opened, flow.closed, flow.reset) == (truth.opened, truth.closed, truth.reset)
        };
        let carried = |flow: &Flow| (flow.sent.map(|b| b.0), flow.received.map(|b| b.0));
        let counts_are = counted_right(&client) && counted_right(&server);
        // The kernel clears what a socket counted when its own process resets it; the courses let
        // clients reset, and then only the other end knows.
        let client_knows = truth.reset == 0;
        let bytes_are = (!client_knows
            || carried(&client) == (Some(truth.sent), Some(truth.received)))
            && carried(&server) == (Some(truth.received), Some(truth.sent));
        counts += u64::from(counts_are);
        bytes += u64::from(bytes_are);
        if !counts_are || !bytes_are {
            score.inexact.push(format!(
                "{}:{} of {} from {}: true {truth:?}, client says {}, server says {}",
                link.server.address,
                link.port,
                link.server.machine,
                link.client.machine,
                words(&client),
                words(&server),
            ));
        }
    }
    score.counted = share(counted, due);
    score.counts_exact = share(counts, links.len() as u64);
    score.bytes_exact = share(bytes, links.len() as u64);
}

fn words(flow: &Flow) -> String {
    let bytes =
        |bytes: Option<common::units::Bytes>| bytes.map_or(-1, |bytes| bytes.0.cast_signed());
    format!(
        "{}/{}/{} opened/closed/reset, {} sent, {} received",
        flow.opened,
        flow.closed,
        flow.reset,
        bytes(flow.sent),
        bytes(flow.received)
    )
}

fn coverage(said: &Said) -> Option<f64> {
    let due: Option<u64> = said.coverage.values().map(|coverage| coverage.due).sum();
    let seen: u64 = said.coverage.values().map(|coverage| coverage.seen).sum();
    due.filter(|due| *due > 0).map(|due| share(seen.min(due), due))
}
