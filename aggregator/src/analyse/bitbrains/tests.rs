//! Texts of the archive, and values that hold for longer than one window.

use std::fs;

use super::*;
use crate::{analyse::analyse, policy::Policy};

const HEAD: &str = "Timestamp [ms];\tCPU cores;\tCPU capacity provisioned [MHZ];\tCPU usage [MHZ];\tCPU \
                    usage [%];\tMemory capacity provisioned [KB];\tMemory usage [KB];\tDisk read \
                    throughput [KB/s];\tDisk write throughput [KB/s];\tNetwork received throughput \
                    [KB/s];\tNetwork transmitted throughput [KB/s]";

fn wanted() -> Wanted {
    Wanted { format: None, policy: Policy::default(), memory: None }
}

/// A day of a machine of two cores that is at work in one hour of four.
fn day(folder: &Path, name: &str, more: &str) {
    let mut text = format!("{HEAD}\n");
    for slot in 1..=288_u64 {
        let mhz = if slot / 12 % 4 == 0 { 2_600 } else { 52 };
        let at = 1_376_314_800 + slot * 300;
        text += &format!("{at};\t2;\t5200;\t{mhz};\t1;\t4194304;\t1048576;\t0;\t8;\t16;\t32\n");
    }
    fs::write(folder.join(name), text + more).unwrap();
}

#[test]
fn machines_of_the_archive_have_their_profiles_and_a_plan() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["1.csv", "2.csv", "3.csv"] {
        day(folder.path(), name, "");
    }
    day(folder.path(), "4.csv", "17;2\n1376401500;2;5200;-1;1;1;1;0;0;0;0\n");
    let analysis = analyse(folder.path(), &wanted()).unwrap();
    assert_eq!((analysis.format, analysis.figures.windows), (Format::Bitbrains, 288));
    assert_eq!((analysis.figures.machines, analysis.bad_lines), (4, 2));
    let machine = &analysis.findings.machines[&"1".parse().unwrap()];
    assert_eq!(machine.allocation.cpu, Some(Millicores(2_000)));
    assert_eq!(machine.allocation.memory, Some(Bytes::mebi(4_096)));
    assert_eq!(machine.memory_peak, Some(Bytes::mebi(1_024)));
    let (_, need) = machine.needs.first_key_value().unwrap();
    assert_eq!(need.written_per_second, Some(8.0 * 1024.0));
    assert!(!analysis.hours.is_empty() && !analysis.planned.plans.is_empty(), "{analysis:?}");
}

#[test]
fn a_value_holds_for_as_long_as_it_says_and_no_machine_uses_more_than_it_has() {
    let mut series = Series { cores: 4, capacity_mhz: Some(8_000.0), ..Series::default() };
    series.take((300_000, 1_200_000), Value { cpu_mhz: 2_000.0, ..Value::default() }).unwrap();
    assert_eq!(series.values.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((series.cpu(2_000.0), series.cpu(1e9)), (Millicores(1_000), Millicores(4_000)));
}

#[test]
fn memory_that_is_not_told_is_not_known() {
    let fleet: Fleet = [("1".parse().unwrap(), Series::default())].into();
    let mut told = fleet.clone();
    told.values_mut().for_each(|series| series.take((0, 1), Value::default()).unwrap());
    let names = [(told.keys().next().unwrap(), "work-0".parse().unwrap())].into();
    let machine = &window(&told, &names, 0, None).machines[&"1".parse().unwrap()];
    assert_eq!((machine.guest.memory_peak, machine.out_of_memory), (None, None));
    assert_eq!(machine.guest.received_per_second, None);
    let assumed_memory = MemoryAssumed { given: Bytes::mebi(9), used: Bytes::mebi(3) };
    let peak = |fleet: &Fleet| {
        let window = window(fleet, &names, 0, Some(assumed_memory));
        window.machines[&"1".parse().unwrap()].guest.memory_peak
    };
    assert_eq!(peak(&told), Some(Bytes::mebi(3)));
    let mut given = told.clone();
    given.values_mut().for_each(|series| series.memory_kib = Some(512.0 * 1024.0));
    assert_eq!(peak(&given), Some(Bytes::mebi(512)), "what may be in use is not free");
    assert!(assumed(&told, None).iter().any(|told| told.contains("nothing can be planned")));
}
