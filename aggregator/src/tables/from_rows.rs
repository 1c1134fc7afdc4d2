//! Rows as a window again.

use std::{collections::BTreeMap, time::Duration};

use common::{
    id::{AppName, VmId, WindowId},
    sketch::Sketch,
    units::{Bytes, Millicores},
};

use super::{
    Table,
    cell::{BadCell, Fields},
};
use crate::{
    hypervisor::{Allocation, Power},
    join::{EdgeKey, Joined, JoinedMachine, Outcome, Party, Record, Traffic, Use, Used},
};

/// A window that is being put together, and how many rows of each table it should have.
#[derive(Debug)]
pub(super) struct Building {
    pub(super) joined: Joined,
    pub(super) due: BTreeMap<Table, u64>,
}

/// The window of a row of the table of windows.
pub(super) fn window(fields: &mut Fields) -> Result<Building, BadCell> {
    let window: WindowId = fields.parsed()?;
    let (from, to) = (fields.time()?, fields.time()?);
    if to <= from {
        let value = format!("{} ms", to.as_millis());
        return Err(BadCell::new("closed_at", &value, "write a time after opened_at"));
    }
    let sampled_every = Duration::from_nanos(fields.count()?);
    let mut due = BTreeMap::new();
    for table in [Table::Machines, Table::Applications, Table::Edges, Table::Records] {
        due.insert(table, fields.count()?);
    }
    let joined = Joined {
        window,
        from,
        to,
        sampled_every,
        machines: BTreeMap::new(),
        edges: BTreeMap::new(),
        records: Vec::new(),
        remarks: fields.json()?,
    };
    Ok(Building { joined, due })
}

/// Takes a row of another table in; the window's id is read already.
pub(super) fn take(table: Table, fields: &mut Fields, joined: &mut Joined) -> Result<(), BadCell> {
    match table {
        Table::Windows => Ok(()),
        Table::Machines => {
            let vm: VmId = fields.parsed()?;
            let machine = machine(fields)?;
            let former = joined.machines.insert(vm.clone(), machine);
            once(former.is_none(), "vm", vm.as_str())
        }
        Table::Applications => {
            let (vm, name): (VmId, AppName) = (fields.parsed()?, fields.parsed()?);
            let used = application(fields)?;
            let remedy = "write a machine that machines has for this window";
            let machine = joined.machines.get_mut(&vm);
            let machine = machine.ok_or_else(|| BadCell::new("vm", vm.as_str(), remedy))?;
            let former = machine.applications.insert(name.clone(), used);
            once(former.is_none(), "application", name.as_str())
        }
        Table::Edges => {
            let (key, traffic) = edge(fields)?;
            let shown = format!("{key:?}");
            once(joined.edges.insert(key, traffic).is_none(), "port", &shown)
        }
        Table::Records => {
            joined.records.push(record(fields)?);
            Ok(())
        }
    }
}

fn once(is_new: bool, column: &'static str, value: &str) -> Result<(), BadCell> {
    if is_new { Ok(()) } else { Err(BadCell::new(column, value, "write each key once per window")) }
}

fn machine(fields: &mut Fields) -> Result<JoinedMachine, BadCell> {
    Ok(JoinedMachine {
        name: fields.text()?,
        host: fields.maybe_parsed()?,
        power: fields.maybe_parsed::<Word>()?.map(|word| word.power()).transpose()?,
        allocation: Allocation {
            cpu: fields.maybe_count()?.map(Millicores),
            memory: fields.maybe_count()?.map(Bytes),
            storage: fields.maybe_count()?.map(Bytes),
        },
        pools: fields.json()?,
        labels: fields.json()?,
        addresses: fields.json()?,
        on_trial: fields.flag()?,
        has_agent: fields.flag()?,
        coverage: fields.real()?,
        guest: side(fields)?,
        outside: side(fields)?,
        out_of_memory: fields.maybe_count()?,
        mix: fields.maybe_json()?,
        applications: BTreeMap::new(),
        half_closed: fields.count()?,
        contradictions: fields.json()?,
        records: fields.maybe_json()?.unwrap_or_default(),
        counted: fields.maybe_json()?,
        cpu_looks: match fields.maybe_parsed::<Word>()? {
            Some(text) => sketch("cpu_looks", &text.0)?,
            None => Sketch::default(),
        },
        operating_system: fields.maybe_parsed()?,
        architecture: fields.maybe_parsed()?,
    })
}

fn side(fields: &mut Fields) -> Result<Use, BadCell> {
    Ok(Use {
        watched: Duration::from_nanos(fields.count()?),
        cpu_mean: fields.maybe_count()?.map(Millicores),
        cpu_peak: fields.maybe_count()?.map(Millicores),
        memory_peak: fields.maybe_count()?.map(Bytes),
        received_per_second: fields.maybe_real()?,
        sent_per_second: fields.maybe_real()?,
        written_per_second: fields.maybe_real()?,
    })
}

fn application(fields: &mut Fields) -> Result<Used, BadCell> {
    Ok(Used {
        listed: fields.flag()?,
        seen: fields.count()?,
        cpu_mean: fields.maybe_count()?.map(Millicores),
        cpu_peak: Millicores(fields.count()?),
        memory_peak: Bytes(fields.count()?),
        cpu_quantiles: sketch("cpu_quantiles", &fields.text()?)?,
        memory_quantiles: sketch("memory_quantiles", &fields.text()?)?,
        written_per_second: fields.maybe_real()?,
        listens: fields.json()?,
        records: fields.json()?,
    })
}

fn edge(fields: &mut Fields) -> Result<(EdgeKey, Traffic), BadCell> {
    let client = party(fields, ["client_vm", "client_application"])?;
    let server = party(fields, ["server_vm", "server_application"])?;
    let key = EdgeKey { client, server, port: fields.narrow()? };
    let traffic = Traffic {
        opened: fields.count()?,
        failed: fields.count()?,
        reset: fields.count()?,
        exchanges: fields.maybe_count()?,
        starts: fields.json()?,
        starts_missing: fields.count()?,
        detected: fields.maybe_real()?,
        seen: fields.count()?,
        alive: fields.count()?,
        open_mean: fields.real()?,
        both_ends: fields.flag()?,
        coverage: fields.real()?,
        watched: Duration::from_nanos(fields.count()?),
        bytes: fields.maybe_count()?,
        answered_at: fields.json()?,
        records: fields.json()?,
        told: fields.maybe_json()?.unwrap_or_default(),
    };
    Ok((key, traffic))
}

fn party(
    fields: &mut Fields,
    [vm_column, application_column]: [&'static str; 2],
) -> Result<Party, BadCell> {
    let vm: Option<VmId> = fields.maybe_parsed()?;
    let application: Option<AppName> = fields.maybe_parsed()?;
    match (vm, fields.maybe_parsed()?) {
        (Some(vm), None) => Ok(Party::Machine { vm, application }),
        (None, Some(address)) => match application {
            None => Ok(Party::External { address }),
            Some(name) => {
                let remedy = "leave it empty where no machine is named";
                Err(BadCell::new(application_column, name.as_str(), remedy))
            }
        },
        (vm, _) => {
            let value = vm.as_ref().map_or("", VmId::as_str);
            Err(BadCell::new(vm_column, value, "write either a machine or an address"))
        }
    }
}

fn record(fields: &mut Fields) -> Result<Record, BadCell> {
    Ok(Record {
        key: fields.text()?,
        vm: fields.parsed()?,
        application: fields.maybe_parsed()?,
        operation: fields.text()?,
        target: fields.text()?,
        size_class: fields.maybe_narrow()?,
        outcome: fields.parsed::<Word>()?.outcome()?,
        count: fields.count()?,
        bytes: fields.maybe_count()?,
        source: fields.text()?,
    })
}

fn sketch(column: &'static str, text: &str) -> Result<Sketch, BadCell> {
    let wrong = || BadCell::new(column, text, "write a count, then bin:count for each bin");
    let mut parts = text.split(' ');
    let zeros = parts.next().and_then(|zeros| zeros.parse().ok()).ok_or_else(wrong)?;
    let bin = |part: &str| {
        let (bin, count) = part.split_once(':')?;
        Some((bin.parse().ok()?, count.parse().ok()?))
    };
    let bins: Option<Vec<(u32, u64)>> = parts.map(bin).collect();
    Sketch::from_parts(zeros, bins.ok_or_else(wrong)?).map_err(|_| wrong())
}

/// One of a few words.
struct Word(String);

impl std::str::FromStr for Word {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl Word {
    fn power(&self) -> Result<Power, BadCell> {
        match self.0.as_str() {
            "on" => Ok(Power::On),
            "off" => Ok(Power::Off),
            other => Err(BadCell::new("power", other, "write on, off, or nothing")),
        }
    }

    fn outcome(&self) -> Result<Outcome, BadCell> {
        match self.0.as_str() {
            "ok" => Ok(Outcome::Ok),
            "failed" => Ok(Outcome::Failed),
            "unknown" => Ok(Outcome::Unknown),
            other => Err(BadCell::new("outcome", other, "write ok, failed or unknown")),
        }
    }
}
