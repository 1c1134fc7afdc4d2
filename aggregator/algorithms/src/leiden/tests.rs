use super::*;

type Edges = Vec<(usize, usize, f64)>;

fn found(nodes: usize, edges: &Edges) -> Vec<usize> {
    communities(nodes, edges, &Wishes::default(), &Settings::default()).unwrap()
}

/// The best modularity of all partitions of a few nodes.
fn best(nodes: usize, edges: &Edges) -> f64 {
    fn grow(labels: &mut Vec<usize>, nodes: usize, edges: &Edges, best: &mut f64) {
        if labels.len() == nodes {
            *best = best.max(modularity(labels, edges, 1.0).unwrap());
            return;
        }
        for label in 0..=labels.iter().max().map_or(0, |most| most + 1) {
            labels.push(label);
            grow(labels, nodes, edges, best);
            labels.pop();
        }
    }
    let mut best_so_far = f64::MIN;
    grow(&mut Vec::new(), nodes, edges, &mut best_so_far);
    best_so_far
}

fn chance(random: &mut Random, nodes: usize, share: f64) -> Edges {
    let mut edges = Vec::new();
    for one in 0..nodes {
        for other in one + 1..nodes {
            if random.share() < share {
                edges.push((one, other, 0.1 + random.share()));
            }
        }
    }
    edges
}

/// Zachary, Journal of Anthropological Research 1977.
fn karate() -> Edges {
    const FRIENDS: [&[usize]; 33] = [
        &[1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 17, 19, 21, 31],
        &[2, 3, 7, 13, 17, 19, 21, 30],
        &[3, 7, 8, 9, 13, 27, 28, 32],
        &[7, 12, 13],
        &[6, 10],
        &[6, 10, 16],
        &[16],
        &[],
        &[30, 32, 33],
        &[33],
        &[],
        &[],
        &[],
        &[33],
        &[32, 33],
        &[32, 33],
        &[],
        &[],
        &[32, 33],
        &[33],
        &[32, 33],
        &[],
        &[32, 33],
        &[25, 27, 29, 32, 33],
        &[25, 27, 31],
        &[31],
        &[29, 33],
        &[33],
        &[31, 33],
        &[32, 33],
        &[32, 33],
        &[32, 33],
        &[33],
    ];
    let rows = FRIENDS.iter().enumerate();
    rows.flat_map(|(one, friends)| friends.iter().map(move |other| (one, *other, 1.0))).collect()
}

#[test]
fn small_graphs_get_the_best_of_all_partitions() {
    let mut random = Random::new(11);
    let (mut exact, mut short) = (0, 0.0_f64);
    for _ in 0..40 {
        let edges = chance(&mut random, 8, 0.4);
        let reached = modularity(&found(8, &edges), &edges, 1.0).unwrap();
        let most = best(8, &edges);
        short = short.max(most - reached);
        exact += usize::from(most - reached < 1e-9);
    }
    assert!(exact >= 36, "{exact} of 40");
    assert!(short < 0.03, "{short}");
}

#[test]
fn the_karate_club_reaches_its_known_optimum() {
    let edges = karate();
    assert_eq!(edges.len(), 78);
    let reached = modularity(&found(34, &edges), &edges, 1.0).unwrap();
    // Proven optimum 0.4198 (Brandes and others, 2008).
    assert!((0.4188..0.41980).contains(&reached), "{reached}");
}

#[test]
fn a_ring_of_cliques_falls_into_its_cliques() {
    let mut edges = Vec::new();
    for clique in 0..6 {
        for one in 0..5 {
            edges.extend((one + 1..5).map(|other| (clique * 5 + one, clique * 5 + other, 1.0)));
        }
        edges.push((clique * 5, (clique * 5 + 7) % 30, 1.0));
    }
    let labels = found(30, &edges);
    let wanted: Vec<usize> = (0..30).map(|node| node / 5).collect();
    assert_eq!(labels, wanted);
}

#[test]
fn every_community_is_joined_by_edges() {
    let mut random = Random::new(5);
    for _ in 0..20 {
        let edges = chance(&mut random, 60, 0.05);
        let labels = found(60, &edges);
        let inside: Edges =
            edges.iter().copied().filter(|(a, b, _)| labels[*a] == labels[*b]).collect();
        let joined: Vec<_> = inside.iter().map(|(a, b, _)| (*a, *b)).collect();
        assert_eq!(contracted(60, &joined), labels);
    }
}

#[test]
fn the_unit_of_weight_is_of_no_matter_and_neither_is_the_day() {
    let edges = karate();
    let scaled = edges.iter().map(|(a, b, weight)| (*a, *b, weight * 1024.0)).collect();
    assert_eq!(found(34, &edges), found(34, &scaled));
    assert_eq!(found(34, &edges), found(34, &edges));
}

#[test]
fn wishes_hold_whatever_the_edges_say() {
    let edges = karate();
    let wishes = Wishes { together: vec![(0, 33), (33, 9)], apart: vec![(0, 1), (4, 10)] };
    let labels = communities(34, &edges, &wishes, &Settings::default()).unwrap();
    assert!(labels[0] == labels[33] && labels[33] == labels[9]);
    assert!(labels[0] != labels[1] && labels[4] != labels[10]);
}

#[test]
fn wishes_that_contradict_each_other_are_named() {
    let wishes = Wishes { together: vec![(0, 1), (1, 2)], apart: vec![(2, 0)] };
    let refused = communities(3, &[], &wishes, &Settings::default()).unwrap_err();
    assert_eq!(refused.to_string(), "2 and 0 are wanted together and apart; drop one wish");
}

#[test]
fn nodes_that_are_not_there_and_weights_that_are_none_are_refused() {
    let no_wish = Wishes::default();
    let with = |edge| communities(2, &[edge], &no_wish, &Settings::default());
    assert_eq!(with((0, 2, 1.0)), Err(Unworkable::NoNode { node: 2, nodes: 2 }));
    assert!(matches!(with((0, 1, f64::NAN)), Err(Unworkable::Weight { .. })));
    assert!(matches!(with((0, 1, -1.0)), Err(Unworkable::Weight { .. })));
}

#[test]
fn a_graph_without_edges_is_as_many_communities() {
    assert_eq!(found(3, &Vec::new()), [0, 1, 2]);
    assert_eq!(found(0, &Vec::new()), Vec::<usize>::new());
}

#[test]
fn a_hundred_thousand_nodes_and_two_million_edges_are_told_apart() {
    let mut random = Random::new(3);
    let (nodes, of_each) = (100_000, 500);
    let mut edges = Vec::with_capacity(2_000_000);
    while edges.len() < 2_000_000 {
        let one = random.below(nodes);
        let near = random.share() < 0.8;
        let other = if near {
            one / of_each * of_each + random.below(of_each)
        } else {
            random.below(nodes)
        };
        edges.push((one, other, 1.0));
    }
    let labels = found(nodes, &edges);
    let wanted: Vec<usize> = (0..nodes).map(|node| node / of_each).collect();
    let alike = crate::partition::adjusted_rand(&labels, &wanted).unwrap();
    assert!(alike > 0.95, "{alike}");
}
