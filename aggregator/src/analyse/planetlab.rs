//! CPU use of machines as the CoMon project recorded it on PlanetLab: a line for each machine, its
//! name and whole percents of its CPU, one for each five minutes.
//!
//! Of what runs on a machine such a trace says nothing. All of it is taken for one application that
//! may move, and the trace for what both guest and hypervisor say.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use common::{
    clock::Timestamp,
    id::{AppName, HostId, VmId},
    mix::{ApplicationMix, EffectiveMix, Setup},
    units::{Bytes, Millicores},
};

use super::{
    Recording, Wanted, lines,
    read::{AnalyseError, Bad, Format, MemoryAssumed},
};
use crate::{
    catalogue::{Application, Catalogue, Class, Rule},
    hypervisor::{Allocation, Host, Inventory, Machine, Power},
    join::{Joined, JoinedMachine, Use, Used},
};

const STEP: Duration = Duration::from_secs(300);
/// Most values of a machine: a month of five minutes.
const MOST_VALUES: usize = 31 * 288;
const MOST_MACHINES: usize = 200_000;
/// What each machine is given: percents are of it, so one core of each is as good as any.
const CORE: Millicores = Millicores(1000);
/// Machines on one host.
const ON_A_HOST: usize = 50;

/// One machine's line.
struct Series {
    vm: VmId,
    application: AppName,
    percents: Vec<u8>,
}

/// Whether a line is a name and percents.
pub(super) fn looks(line: &str) -> bool {
    series(line, 0).is_ok()
}

/// Reads the files, one day after another.
pub(super) fn read(
    files: &[PathBuf],
    wanted: &Wanted,
    take: &mut dyn FnMut(Joined),
) -> Result<Recording, AnalyseError> {
    let mut bad = Bad::default();
    let mut inventory = Inventory::default();
    let mut catalogue = Catalogue::default();
    let mut from = Timestamp::from_millis(0);
    for path in files {
        let machines = machines(path, &mut bad)?;
        let values = machines.iter().map(|series| series.percents.len()).max().unwrap_or(0);
        for at in 0..values {
            let to = from + STEP;
            take(window(&machines, at, (from, to), wanted.memory));
            from = to;
        }
        for series in &machines {
            note(series, wanted.memory, &mut inventory, &mut catalogue);
        }
    }
    Ok(Recording {
        format: Format::Planetlab,
        inventory,
        catalogue,
        assumed: assumed(wanted.memory),
        bad: bad.named,
        bad_lines: bad.count,
    })
}

fn assumed(memory: Option<MemoryAssumed>) -> Vec<String> {
    let memory = match memory {
        Some(MemoryAssumed { given, used }) => {
            format!("each machine is given {given} of memory and uses {used}: the trace tells none")
        }
        None => "memory is not known, so nothing can be planned".to_owned(),
    };
    vec![
        "each machine is given one core, of which the trace tells percents".to_owned(),
        "all that runs on a machine is one application that may move".to_owned(),
        "guest and hypervisor say the same: the trace has one voice".to_owned(),
        "the first day is the first of January 1970".to_owned(),
        memory,
    ]
}

fn machines(path: &Path, bad: &mut Bad) -> Result<Vec<Series>, AnalyseError> {
    let mut machines = Vec::new();
    let mut known = BTreeSet::new();
    lines::each(path, &mut |number, line| {
        let line = match line {
            Ok("") => return Ok(()),
            Ok(line) => line,
            Err(why) => {
                bad.note(path, number, why);
                return Ok(());
            }
        };
        match series(line, machines.len()) {
            Ok(series) if known.insert(series.vm.clone()) => machines.push(series),
            Ok(series) => bad.note(path, number, format!("names {} once more", series.vm)),
            Err(why) => bad.note(path, number, why),
        }
        if machines.len() > MOST_MACHINES {
            return Err(AnalyseError::TooLarge { path: path.to_owned(), what: "200,000 machines" });
        }
        Ok(())
    })?;
    Ok(machines)
}

fn series(line: &str, place: usize) -> Result<Series, String> {
    let (name, values) =
        line.split_once(',').ok_or_else(|| "has no comma; write a name and percents".to_owned())?;
    let vm: VmId = name.parse().map_err(|cause| format!("field 1 is {name:?}: {cause}"))?;
    let mut percents = Vec::new();
    for (field, value) in values.split(',').enumerate() {
        let percent = value.trim().parse().ok().filter(|percent| *percent <= 100);
        let percent: u8 = percent.ok_or_else(|| {
            format!("field {} is {value:?}; write whole percents from 0 to 100", field + 2)
        })?;
        percents.push(percent);
        if percents.len() > MOST_VALUES {
            return Err(format!("has more than {MOST_VALUES} values; write a file for each day"));
        }
    }
    let application = format!("work-{place}").parse().map_err(|_| "has no place".to_owned())?;
    Ok(Series { vm, application, percents })
}

fn window(
    machines: &[Series],
    at: usize,
    (from, to): (Timestamp, Timestamp),
    memory: Option<MemoryAssumed>,
) -> Joined {
    let joined = machines.iter().filter_map(|series| {
        let percent = series.percents.get(at)?;
        let cpu = Millicores(CORE.0 * u64::from(*percent) / 100);
        Some((series.vm.clone(), machine(series, cpu, memory)))
    });
    Joined {
        window: super::read::window_id(from),
        from,
        to,
        sampled_every: STEP,
        machines: joined.collect(),
        edges: BTreeMap::new(),
        records: Vec::new(),
        remarks: Vec::new(),
    }
}

fn given(memory: Option<MemoryAssumed>) -> Allocation {
    Allocation { cpu: Some(CORE), memory: memory.map(|memory| memory.given), storage: None }
}

fn machine(series: &Series, cpu: Millicores, memory: Option<MemoryAssumed>) -> JoinedMachine {
    let used = memory.map(|memory| memory.used);
    let side = Use {
        watched: STEP,
        cpu_mean: Some(cpu),
        cpu_peak: Some(cpu),
        memory_peak: used,
        ..Use::default()
    };
    let application = Used {
        listed: true,
        seen: 1,
        cpu_mean: Some(cpu),
        cpu_peak: cpu,
        memory_peak: used.unwrap_or(Bytes(0)),
        ..Used::default()
    };
    JoinedMachine {
        name: series.vm.to_string(),
        power: Some(Power::On),
        allocation: given(memory),
        has_agent: true,
        coverage: 1.0,
        guest: side,
        outside: side,
        out_of_memory: memory.map(|_| 0),
        mix: Some(EffectiveMix {
            applications: ApplicationMix([(series.application.clone(), Setup::default())].into()),
            healthy: [series.application.clone()].into(),
            ..EffectiveMix::default()
        }),
        applications: [(series.application.clone(), application)].into(),
        ..JoinedMachine::default()
    }
}

/// What is there, and what may move.
fn note(
    series: &Series,
    memory: Option<MemoryAssumed>,
    inventory: &mut Inventory,
    catalogue: &mut Catalogue,
) {
    let number = inventory.machines.len() / ON_A_HOST;
    let Ok(id) = format!("host-{number}").parse::<HostId>() else { return };
    let host = Host {
        id: id.clone(),
        name: id.to_string(),
        addresses: Vec::new(),
        macs: Vec::new(),
        cpu: Millicores(CORE.0 * ON_A_HOST as u64 * 2),
        memory: Bytes(memory.map_or(0, |memory| memory.given.0 * ON_A_HOST as u64 * 2)),
        pools: Vec::new(),
    };
    let machine = Machine {
        id: series.vm.clone(),
        name: series.vm.to_string(),
        host: id,
        power: Power::On,
        allocation: given(memory),
        nics: Vec::new(),
        volumes: Vec::new(),
        cloned_from: None,
        plan: None,
        labels: BTreeSet::new(),
    };
    inventory.hosts.entry(host.id.clone()).or_insert(host);
    inventory.machines.entry(series.vm.clone()).or_insert(machine);
    catalogue.0.entry(series.application.clone()).or_insert_with(|| Application {
        class: Class::Batch,
        movable: true,
        rules: vec![Rule { unit: Some(series.application.to_string()), ..Rule::default() }],
        ..Application::default()
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_name_and_percents() {
        let read = series("a_b_com,0,55,100", 3).map(|series| series.percents);
        assert_eq!(read, Ok(vec![0, 55, 100]));
    }

    #[test]
    fn what_is_no_percent_is_named_with_its_field() {
        let why = series("a,1,101", 0).map(|_| ()).unwrap_err();
        assert_eq!(why, "field 3 is \"101\"; write whole percents from 0 to 100");
        assert!(series("\u{1b}[2J,1", 0).is_err());
        assert!(series("a", 0).is_err());
    }
}
