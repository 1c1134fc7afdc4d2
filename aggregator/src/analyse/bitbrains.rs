//! Business machines of a data centre as Bitbrains recorded them (Shen, van Beek, Iosup, CCGrid 2015):
//! CPU, memory, disk and network of each machine every five minutes, either as the archive has them, a
//! text for each machine, or as tables of columns, `trace.parquet` beside `meta.parquet`.
//!
//! ```text
//!  trace.parquet, meta.parquet ─┐
//!                               ├─> Series of each machine ─> windows of five minutes
//!  1.csv, 2.csv, ... ───────────┘
//! ```
//!
//! What runs on a machine is taken for one application that may move, and the recording for what both
//! guest and hypervisor say.

mod columns;
mod text;

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
    Recording, Wanted,
    read::{AnalyseError, Bad, Format, MemoryAssumed},
};
use crate::{
    catalogue::{Application, Catalogue, Class, Rule},
    hypervisor::{Allocation, Host, Inventory, Machine, Power},
    join::{Joined, JoinedMachine, Use, Used},
};

const STEP: Duration = Duration::from_secs(300);
const STEP_MS: u64 = 300_000;
/// Most values of a machine: a year of five minutes.
const MOST_VALUES: usize = 366 * 288;
const MOST_MACHINES: usize = 20_000;
/// Machines on one host.
const ON_A_HOST: usize = 25;
/// Megahertz of a core where a recording does not tell what a machine is given.
const CORE_MHZ: f64 = 2_600.0;
const KIB: f64 = 1024.0;

/// What one machine used in five minutes; what is not told is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Value {
    /// Megahertz.
    cpu_mhz: f32,
    memory_kib: Option<f32>,
    written_kib: Option<f32>,
    received_kib: Option<f32>,
    sent_kib: Option<f32>,
}

/// One machine.
#[derive(Debug, Clone, Default)]
struct Series {
    cores: u32,
    /// Of all its cores together; `None` if it is not told.
    capacity_mhz: Option<f64>,
    memory_kib: Option<f64>,
    /// By number of the five minutes since 1970.
    values: BTreeMap<u64, Value>,
}

/// The machines, in order.
type Fleet = BTreeMap<VmId, Series>;

impl Series {
    /// Thousandths of a core of so many megahertz; never more than it has.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a float to u64 saturates, and no machine has 2^52 cores"
    )]
    fn cpu(&self, mhz: f32) -> Millicores {
        let given = self.given_cpu().0 as f64;
        let capacity = self.capacity_mhz.unwrap_or(f64::from(self.cores.max(1)) * CORE_MHZ);
        Millicores((f64::from(mhz) / capacity * given).clamp(0.0, given).round() as u64)
    }

    fn given_cpu(&self) -> Millicores {
        Millicores(u64::from(self.cores.max(1)) * 1000)
    }

    fn given(&self, assumed: Option<MemoryAssumed>) -> Allocation {
        let memory = self.memory_kib.map(bytes).or(assumed.map(|memory| memory.given));
        Allocation { cpu: Some(self.given_cpu()), memory, storage: None }
    }

    /// Takes a value in that holds from the one moment to the other.
    fn take(&mut self, (from_ms, to_ms): (u64, u64), value: Value) -> Result<(), String> {
        let number = |ms: u64| (ms + STEP_MS / 2) / STEP_MS;
        let (first, end) = (number(from_ms), number(to_ms));
        for slot in first..end.max(first + 1) {
            if self.values.len() >= MOST_VALUES && !self.values.contains_key(&slot) {
                return Err(format!("is the value number {MOST_VALUES} of its machine; split it"));
            }
            self.values.insert(slot, value);
        }
        Ok(())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float to u64 saturates, and what is below zero is refused where it is read"
)]
fn bytes(kib: f64) -> Bytes {
    Bytes((kib * KIB).round() as u64)
}

/// Whether a folder holds the tables of columns.
pub(super) fn is_folder(path: &Path) -> bool {
    path.join(columns::TRACE).is_file()
}

/// Whether a line is the head of a machine's text.
pub(super) fn looks(line: &str) -> bool {
    text::is_head(line)
}

/// Reads a folder of tables, or the texts of machines.
pub(super) fn read(
    path: &Path,
    files: &[PathBuf],
    wanted: &Wanted,
    take: &mut dyn FnMut(Joined),
) -> Result<Recording, AnalyseError> {
    let mut bad = Bad::default();
    let fleet =
        if is_folder(path) { columns::read(path, &mut bad)? } else { text::read(files, &mut bad)? };
    let names: BTreeMap<&VmId, AppName> = fleet
        .keys()
        .enumerate()
        .filter_map(|(place, vm)| Some((vm, format!("work-{place}").parse().ok()?)))
        .collect();
    let slots: BTreeSet<u64> =
        fleet.values().flat_map(|series| series.values.keys().copied()).collect();
    for slot in slots {
        take(window(&fleet, &names, slot, wanted.memory));
    }
    let (inventory, catalogue) = around(&fleet, &names, wanted.memory);
    Ok(Recording {
        format: Format::Bitbrains,
        inventory,
        catalogue,
        assumed: assumed(&fleet, wanted.memory),
        bad: bad.named,
        bad_lines: bad.count,
    })
}

fn assumed(fleet: &Fleet, memory: Option<MemoryAssumed>) -> Vec<String> {
    let is_told = |value: &Value| value.memory_kib.is_some();
    let tells_memory = fleet.values().any(|series| series.values.values().any(is_told));
    let memory = match memory {
        _ if tells_memory => None,
        Some(MemoryAssumed { used, .. }) => Some(format!(
            "each machine uses all memory it is given, or {used} where not even that is told: the \
             recording does not tell what is used"
        )),
        None => Some("what memory is used is not known, so nothing can be planned".to_owned()),
    };
    let always = [
        "all that runs on a machine is one application that may move",
        "guest and hypervisor say the same: the recording has one voice",
        "machines stand on hosts of twice what 25 of them are given",
    ];
    always.map(str::to_owned).into_iter().chain(memory).collect()
}

fn window(
    fleet: &Fleet,
    names: &BTreeMap<&VmId, AppName>,
    slot: u64,
    memory: Option<MemoryAssumed>,
) -> Joined {
    let from = Timestamp::from_millis(slot * STEP_MS);
    let machines = fleet.iter().filter_map(|(vm, series)| {
        let value = series.values.get(&slot)?;
        Some((vm.clone(), machine((vm, names.get(vm)?), series, value, memory)))
    });
    Joined {
        window: super::read::window_id(from),
        from,
        to: from + STEP,
        sampled_every: STEP,
        machines: machines.collect(),
        edges: BTreeMap::new(),
        records: Vec::new(),
        remarks: Vec::new(),
    }
}

fn machine(
    (vm, name): (&VmId, &AppName),
    series: &Series,
    value: &Value,
    assumed: Option<MemoryAssumed>,
) -> JoinedMachine {
    let cpu = series.cpu(value.cpu_mhz);
    let told = value.memory_kib.map(|kib| bytes(kib.into()));
    let used = told.or(assumed.map(|memory| series.memory_kib.map_or(memory.used, bytes)));
    let per_second = |kib: Option<f32>| kib.map(|kib| f64::from(kib) * KIB);
    let side = Use {
        watched: STEP,
        cpu_mean: Some(cpu),
        cpu_peak: Some(cpu),
        memory_peak: used,
        received_per_second: per_second(value.received_kib),
        sent_per_second: per_second(value.sent_kib),
        written_per_second: per_second(value.written_kib),
    };
    let application = Used {
        listed: true,
        seen: 1,
        cpu_mean: Some(cpu),
        cpu_peak: cpu,
        memory_peak: used.unwrap_or_default(),
        written_per_second: side.written_per_second,
        ..Used::default()
    };
    JoinedMachine {
        name: vm.to_string(),
        power: Some(Power::On),
        allocation: series.given(assumed),
        has_agent: true,
        coverage: 1.0,
        guest: side,
        outside: side,
        out_of_memory: used.map(|_| 0),
        mix: Some(EffectiveMix {
            applications: ApplicationMix([(name.clone(), Setup::default())].into()),
            healthy: [name.clone()].into(),
            ..EffectiveMix::default()
        }),
        applications: [(name.clone(), application)].into(),
        ..JoinedMachine::default()
    }
}

/// The hosts and machines there are, and the applications that may move.
fn around(
    fleet: &Fleet,
    names: &BTreeMap<&VmId, AppName>,
    assumed: Option<MemoryAssumed>,
) -> (Inventory, Catalogue) {
    let (mut inventory, mut catalogue) = (Inventory::default(), Catalogue::default());
    for (place, (vm, series)) in fleet.iter().enumerate() {
        let Ok(id) = format!("host-{}", place / ON_A_HOST).parse::<HostId>() else { continue };
        let given = series.given(assumed);
        let host = inventory.hosts.entry(id.clone()).or_insert_with(|| Host {
            id: id.clone(),
            name: id.to_string(),
            addresses: Vec::new(),
            macs: Vec::new(),
            cpu: Millicores(0),
            memory: Bytes(0),
            pools: Vec::new(),
        });
        host.cpu.0 += 2 * given.cpu.map_or(0, |cpu| cpu.0);
        host.memory.0 += 2 * given.memory.map_or(0, |memory| memory.0);
        let machine = Machine {
            id: vm.clone(),
            name: vm.to_string(),
            host: id,
            power: Power::On,
            allocation: given,
            nics: Vec::new(),
            volumes: Vec::new(),
            cloned_from: None,
            plan: None,
            labels: BTreeSet::new(),
        };
        inventory.machines.insert(vm.clone(), machine);
        let Some(name) = names.get(vm) else { continue };
        let rules = vec![Rule { unit: Some(name.to_string()), ..Rule::default() }];
        let application =
            Application { class: Class::Batch, movable: true, rules, ..Application::default() };
        catalogue.0.insert(name.clone(), application);
    }
    (inventory, catalogue)
}

#[cfg(test)]
mod tests;
