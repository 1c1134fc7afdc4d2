//! Random lives of connections, simulated as the kernel counts them, after which the flows must be the truth.

use super::*;

mod world;

use world::{EVERYTHING, Kernel, World};

/// Without rows of nothing, which are not told.
fn that_moved(flows: BTreeMap<FlowKey, Flow>) -> BTreeMap<FlowKey, Flow> {
    let moves = |flow: &Flow| {
        let bytes = flow.sent.unwrap_or_default().0 + flow.received.unwrap_or_default().0;
        flow.opened + flow.closed + flow.failed + bytes > 0
    };
    flows.into_iter().filter(|(_, flow)| moves(flow)).collect()
}

fn bytes_unset(mut flow: Flow) -> Flow {
    if flow.opened == 0 && flow.failed > 0 {
        flow = Flow { failed: flow.failed, ..Flow::default() };
    }
    flow
}

/// Failed attempts under no near end: whether it is known depends on what was seen before.
fn failed_apart(flows: &BTreeMap<FlowKey, Flow>) -> BTreeMap<FlowKey, Flow> {
    let mut apart: BTreeMap<FlowKey, Flow> = BTreeMap::new();
    for (key, flow) in flows {
        let failed = Flow { failed: flow.failed, ..Flow::default() };
        let nowhere = FlowKey { local: "0.0.0.0".parse().unwrap(), ..key.clone() };
        apart.entry(nowhere).or_default().add(&failed);
        let rest = Flow { failed: 0, ..*flow };
        apart.entry(key.clone()).or_default().add(&rest);
    }
    that_moved(apart)
}

fn assert_same(found: &BTreeMap<FlowKey, Flow>, truth: &BTreeMap<FlowKey, Flow>, seed: u64) {
    let (found, truth) = (failed_apart(found), failed_apart(truth));
    for (key, flow) in &truth {
        assert_eq!(found.get(key), Some(flow), "seed {seed}, {key:?}");
    }
    assert_eq!(found.len(), truth.len(), "seed {seed}");
}

#[test]
fn with_ends_and_openings_told_the_flows_are_the_truth() {
    for seed in 0..60 {
        let mut world = World::new(seed, EVERYTHING);
        world.live(25);
        let found = that_moved(world.flows());
        let truth = that_moved(world.truth.clone());
        assert_same(&found, &truth, seed);
        let coverage = world.coverage();
        assert_eq!(coverage.attributed, coverage.seen);
    }
}

#[test]
fn every_connection_due_is_seen_when_ends_are_told() {
    for seed in 0..20 {
        let mut world = World::new(seed, EVERYTHING);
        for _ in 0..30 {
            world.step();
        }
        world.look(0);
        world.coverage();
        world.live(10);
        let coverage = world.coverage();
        assert_eq!(Some(coverage.seen), coverage.due, "seed {seed}");
        assert_eq!(coverage.share(), Some(10_000));
    }
}

/// By edge without application, and refused attempts by address.
fn whosever(flows: BTreeMap<FlowKey, Flow>) -> BTreeMap<FlowKey, Flow> {
    let mut sums: BTreeMap<FlowKey, Flow> = BTreeMap::new();
    for (key, flow) in flows {
        let key = FlowKey { application: None, ..key };
        sums.entry(key).or_default().add(&flow);
    }
    sums.into_iter().map(|(key, flow)| (key, bytes_unset(flow))).collect()
}

#[test]
fn of_shared_far_ends_no_application_gets_more_than_it_opened_and_nearly_all_of_it() {
    let (mut named, mut due) = (0, 0);
    for seed in 0..40 {
        let mut world = World::new(seed, Kernel { shared: true, ..EVERYTHING });
        world.live(25);
        let found = that_moved(world.flows());
        let truth = that_moved(world.truth.clone());
        for (key, flow) in found.iter().filter(|(key, _)| key.application.is_some()) {
            let most = truth[key];
            assert!(flow.opened <= most.opened, "seed {seed}, {key:?}");
            assert!(flow.sent <= most.sent && flow.received <= most.received);
            named += flow.opened;
        }
        due += truth.values().map(|flow| flow.opened).sum::<u64>();
        assert_same(&whosever(found), &whosever(truth), seed);
    }
    assert!(named * 1000 >= due * 995, "{named} of {due}");
}

#[test]
fn without_openings_every_count_is_the_truth_and_nobody_is_named_wrongly() {
    for seed in 0..40 {
        let mut world = World::new(seed, Kernel { openings: false, ..EVERYTHING });
        world.live(25);
        let found = that_moved(world.flows());
        let truth = that_moved(world.truth.clone());
        for key in found.keys().filter(|key| key.application.is_some()) {
            assert!(truth.contains_key(key), "seed {seed}: {key:?} is somebody else's");
        }
        assert_same(&whosever(found), &whosever(truth), seed);
    }
}

/// Connections counted of those that some look could see.
fn without_ends(names: bool) -> (u64, u64) {
    let (mut seen, mut visible) = (0, 0);
    for seed in 0..20 {
        let kernel = Kernel { ends: false, openings: false, names, shared: false };
        let mut world = World::new(seed, kernel);
        world.live(25);
        let (found, truth) = (whosever(world.flows()), whosever(world.truth.clone()));
        for (key, flow) in &found {
            assert!(flow.opened <= truth[key].opened, "seed {seed}: {key:?}");
            assert!(flow.closed <= truth[key].closed, "seed {seed}: {key:?}");
            assert_eq!(flow.sent.is_some(), names && flow.data_segments_sent.is_some());
        }
        seen += found.values().map(|flow| flow.opened).sum::<u64>();
        visible += u64::try_from(world.visible.len()).unwrap();
    }
    (seen, visible)
}

#[test]
fn without_ends_all_that_a_look_could_see_is_counted_once() {
    let (seen, visible) = without_ends(true);
    assert_eq!(seen, visible);
}

#[test]
fn without_names_only_ends_used_again_within_a_look_are_missed() {
    let (seen, visible) = without_ends(false);
    assert!(seen <= visible && seen * 100 >= visible * 99, "{seen} of {visible}");
}
