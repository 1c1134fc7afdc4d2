//! The figure of inference at its two small sizes, by its own code: what it counts and what it leaves
//! resident, not how long it takes. One test, for what another leaves resident would be counted too.

use lab::inference::{APPLICATIONS, EDGES, WINDOWS, of_size};

#[test]
fn a_window_of_a_thousand_machines_is_found_whole_in_2_kib_per_edge_and_always_the_same() {
    for machines in [100, 1_000] {
        let took = of_size(machines, WINDOWS).unwrap();
        let found = &took.findings;
        assert_eq!(found.machines.len(), machines);
        assert_eq!(found.edges.len() as f64, took.edges);
        assert!(took.edges / machines as f64 > 0.9 * EDGES as f64, "{}", took.edges);
        let applications: usize = found.machines.values().map(|machine| machine.needs.len()).sum();
        // The three that serve all have one each, the others one by which they are watched besides.
        assert_eq!(applications, (machines - 3) * (APPLICATIONS + 1) + 3);
        assert!(found.groups.len() >= machines / 20, "{}", found.groups.len());
        assert!(!found.dependencies.is_empty());
        let again = of_size(machines, WINDOWS).unwrap();
        assert!(again.findings == *found, "the same windows say something else");
        // What a process needs anyhow outweighs the edges of the smaller fleet.
        let each = took.history / took.edges;
        assert!(machines < 1_000 || each <= 2048.0, "{each} bytes are resident per edge");
    }
}
