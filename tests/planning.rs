//! The figure of planning at its two small sizes, by its own code: that plans are as good as it says,
//! not how long they take.

use lab::plan::ladder::of_size;

#[test]
fn plans_are_near_the_bound_and_never_worse_than_best_fit_decreasing() {
    for machines in [100, 1_000] {
        let took = of_size(machines).unwrap();
        let planned = &took.planned;
        assert!(took.applications > 4 * machines, "{}", took.applications);
        assert!(planned.cost_of_target < planned.cost_before);
        let best_fit = took.best_fit.unwrap();
        assert!(planned.cost_of_target <= best_fit, "{} of {best_fit}", planned.cost_of_target);
        let again = of_size(machines).unwrap();
        assert!(again.planned == *planned, "the same fleet gets other plans");
    }
}
