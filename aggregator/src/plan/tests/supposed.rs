//! What is planned for fleets that are not there.

use std::cell::RefCell;

use super::*;
use crate::policy::Policy;

fn supposed(around: &Around, fleet: &Fleet, supposition: &Supposition) -> Planned {
    tried(around, fleet, supposition).unwrap()
}

fn tried(
    around: &Around,
    fleet: &Fleet,
    supposition: &Supposition,
) -> Result<Planned, BadSupposition> {
    with(around, fleet, |now| plan_supposed(now, supposition, &Limits::usual(now)))
}

fn spare() -> Addition {
    Addition {
        name: "spare".to_owned(),
        cpu: Millicores(4_000),
        memory: Bytes::mebi(512),
        host: None,
        labels: BTreeSet::new(),
    }
}

fn adding(added: impl IntoIterator<Item = Addition>) -> Supposition {
    Supposition { added: added.into_iter().collect(), ..Supposition::default() }
}

fn to(planned: &Planned) -> &VmId {
    &planned.plans[0].moves[0].to
}

#[test]
fn without_a_machine_another_carries_what_it_would_have() {
    let (around, fleet) = (moves_only(), demonstration());
    let present = planned(&around, &fleet);
    let gone = to(&present).clone();
    let supposition = Supposition { without: [gone.clone()].into(), ..Supposition::default() };
    let without = supposed(&around, &fleet, &supposition);
    assert_ne!(to(&without), &gone);
    assert!(!without.left_alone.contains_key(&gone) && without.cost_before < present.cost_before);
    let as_it_is = supposed(&around, &fleet, &Supposition::default());
    assert_eq!(as_it_is, present);
}

/// A fleet in which nothing has room for the report.
fn crowded() -> (Around, Fleet) {
    let (mut around, fleet) = (moves_only(), demonstration());
    around.policy.headroom = 0.95;
    (around, fleet)
}

#[test]
fn what_fits_nowhere_fits_a_machine_that_is_added() {
    let (around, fleet) = crowded();
    assert!(planned(&around, &fleet).plans.is_empty());

    let with_spare = supposed(&around, &fleet, &adding([spare()]));

    assert_eq!(with_spare.plans.len(), 1, "{:#?}", with_spare.left_alone);
    assert_eq!(to(&with_spare), &spare().vm().unwrap());
    let price = with_spare.cost_before - planned(&around, &fleet).cost_before;
    let Policy { cost_per_machine, cost_per_core, cost_per_gib, .. } = around.policy;
    assert!((price - cost_per_machine - 4.0 * cost_per_core - 0.5 * cost_per_gib).abs() < 1e-9);
}

#[test]
fn a_machine_that_is_added_is_bound_by_the_rules() {
    let (mut around, fleet) = crowded();
    around.policy.needs_labels = [(name("report"), ["rack=3".to_owned()].into())].into();
    assert!(supposed(&around, &fleet, &adding([spare()])).plans.is_empty());

    let labelled = Addition { labels: ["rack=3".to_owned()].into(), ..spare() };
    assert_eq!(supposed(&around, &fleet, &adding([labelled])).plans.len(), 1);
    let small = Addition { cpu: Millicores(10), ..spare() };
    around.policy.needs_labels.clear();
    assert!(supposed(&around, &fleet, &adding([small])).plans.is_empty());
}

#[test]
fn what_is_not_known_of_a_machine_that_is_added_is_told() {
    let told = with(&around(), &demonstration(), |now| assumed(now, &adding([spare()])));
    assert!(told[0].contains("uses nothing by itself"), "{told:?}");
    assert_eq!(told[1], "spare has a host of its own");
    let nothing = with(&around(), &demonstration(), |now| assumed(now, &adding([])));
    assert!(nothing.is_empty());
}

#[test]
fn a_machine_that_cannot_be_added_is_refused_with_a_remedy() {
    let on = |host: &str| Some(host.parse().unwrap());
    let cases = [
        (Addition { name: "a b".to_owned(), ..spare() }, "name \"a b\" cannot be one"),
        (Addition { name: "api-1".to_owned(), ..spare() }, "give it another name"),
        (Addition { cpu: Millicores(0), ..spare() }, "give it some of both"),
        (
            Addition { host: on("host-9"), ..spare() },
            "there is no host host-9; write one of host-1",
        ),
        (
            Addition { host: on("host-1"), memory: Bytes::mebi(1 << 20), ..spare() },
            "give it less, or name another host",
        ),
    ];
    for (addition, part) in cases {
        let refused = tried(&around(), &demonstration(), &adding([addition])).unwrap_err();
        assert!(refused.to_string().contains(part), "{refused}");
    }
    let twice = tried(&around(), &demonstration(), &adding([spare(), spare()])).unwrap_err();
    assert!(twice.to_string().contains("already"), "{twice}");
}

/// Jobs that all may go anywhere: too many ways for all to be tried.
fn jobs() -> (Around, Fleet) {
    const JOBS: [(&str, &str); 7] = [
        ("m-0", "a-0"),
        ("m-1", "a-1"),
        ("m-2", "a-2"),
        ("m-3", "a-3"),
        ("m-4", "a-4"),
        ("m-5", "a-5"),
        ("m-6", "a-6"),
    ];
    let mut around = moves_only();
    for (_, job) in JOBS {
        let job_class = Application { class: Class::Batch, movable: true, ..Default::default() };
        around.catalogue.0.insert(name(job), job_class);
    }
    (around, Fleet::of(&JOBS.map(|(guest, job)| (guest, vec![app(job, 20, 40, &[])]))))
}

#[test]
fn who_watches_hears_of_ever_better_targets_and_changes_none() {
    let (around, fleet) = jobs();
    let told: RefCell<Vec<Progress>> = RefCell::default();
    let hear = |better: &Progress| told.borrow_mut().push(*better);

    let watched = with(&around, &fleet, |now| {
        plan_within(now, &Limits { progress: Some(&hear), ..Limits::usual(now) })
    });

    let told = told.into_inner();
    let last = told.last().unwrap();
    assert!(told.iter().all(|better| better.lower_bound <= better.cost_of_target));
    assert!((last.cost_of_target - watched.cost_of_target).abs() < 1e-9, "{last:?}");
    assert!(last.cost_of_target < watched.cost_before);
    assert_eq!(watched, planned(&around, &fleet));
}
