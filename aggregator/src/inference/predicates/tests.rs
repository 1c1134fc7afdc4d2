//! Claims that rest on single looks, and on volumes.

use common::sketch::Sketch;

use crate::{
    inference::tests::around,
    join::{
        Outcome, Record,
        tests::fleet::{demonstration, vm},
    },
};

#[test]
fn one_busy_look_of_many_makes_no_active_machine() {
    let mut joined = demonstration().joined(3);
    let looks = |values: [u64; 4]| {
        let mut looks = Sketch::default();
        values.into_iter().for_each(|value| looks.insert(value));
        looks
    };
    let mut told = |values| {
        for window in &mut joined {
            window.machines.get_mut(&vm("report-1")).unwrap().cpu_looks = looks(values);
        }
        around().infer(&joined).machines.remove(&vm("report-1")).unwrap().active
    };
    let seldom = told([1, 1, 1, 400]);
    assert!(!seldom.holds && seldom.reason.contains("in 2 of 8 looks"), "{}", seldom.reason);
    assert!(told([1, 1, 400, 400]).holds);
}

#[test]
fn a_machine_takes_part_through_a_volume_and_its_standing_names_it() {
    let mut joined = demonstration().joined(3);
    let on_volume = |of: &str| Record {
        key: format!("volume/{of}"),
        vm: vm(of),
        application: None,
        operation: "write".to_owned(),
        target: "array-1/lun-7".to_owned(),
        size_class: None,
        outcome: Outcome::Ok,
        count: 9,
        bytes: None,
        source: "array".to_owned(),
    };
    let records = ["report-1", "store-1"].map(on_volume);
    joined.last_mut().unwrap().records.extend(records);
    let found = around().infer(&joined);
    let standing = &found.machines[&vm("report-1")];
    assert_eq!(standing.volumes, ["array-1/lun-7".to_owned()].into());
    let told = &standing.participating;
    assert!(told.holds && told.reason.contains("uses the volume array-1/lun-7"), "{}", told.reason);
}
