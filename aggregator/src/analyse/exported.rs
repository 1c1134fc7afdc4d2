//! Tables as `sinterctl records export` writes them: windows of a fleet of ours, joined.
//!
//! They hold what was seen, not what the hypervisor listed or the operator said. So hosts are taken to
//! be as large as what is given on them, and every application that the catalogue listed to be one
//! that may move; both are told.

use std::path::Path;

use common::{
    id::HostId,
    units::{Bytes, Millicores},
};
use ipnet::IpNet;

use super::{
    Recording,
    read::{AnalyseError, BadLine, Format},
};
use crate::{
    catalogue::{Application, Catalogue, Class},
    hypervisor::{Host, Inventory, Machine, Nic, Power, Volume},
    join::{Joined, JoinedMachine},
    tables::{Limits, Reader, Table},
};

/// Whether the folder holds such tables.
pub(super) fn looks(path: &Path) -> bool {
    let windows = Table::Windows.name();
    ["csv", "parquet"].iter().any(|end| path.join(format!("{windows}.{end}")).is_file())
}

pub(super) fn read(path: &Path, take: &mut dyn FnMut(Joined)) -> Result<Recording, AnalyseError> {
    let mut reader = Reader::open(path, Limits { keep_good: true, ..Limits::default() })?;
    let (mut inventory, mut catalogue) = (Inventory::default(), Catalogue::default());
    while let Some(window) = reader.next_window()? {
        inventory = listed(&window);
        note_applications(&window, &mut catalogue);
        take(window);
    }
    let (_, bad, bad_lines) = reader.close();
    let bad = bad.into_iter().map(|bad| BadLine {
        file: bad.file.display().to_string(),
        line: bad.line,
        why: bad.what,
    });
    Ok(Recording {
        format: Format::Exported,
        inventory,
        catalogue,
        assumed: vec![
            "each host is as large as what its machines are given".to_owned(),
            "each application that the catalogue listed may move, if it keeps no data".to_owned(),
        ],
        bad: bad.collect(),
        bad_lines,
    })
}

/// The machines of a window as a hypervisor would list them.
fn listed(window: &Joined) -> Inventory {
    let mut inventory = Inventory { taken_at: window.to, ..Inventory::default() };
    let known = window
        .machines
        .iter()
        .filter_map(|(vm, machine)| Some((vm, machine, machine.host.clone()?, machine.power?)));
    for (vm, machine, host, power) in known {
        let on = inventory.hosts.entry(host.clone()).or_insert_with(|| empty(&host));
        if power == Power::On {
            let given = machine.allocation;
            on.cpu = Millicores(on.cpu.0.saturating_add(given.cpu.unwrap_or_default().0));
            on.memory = Bytes(on.memory.0.saturating_add(given.memory.unwrap_or_default().0));
        }
        inventory.machines.insert(
            vm.clone(),
            Machine {
                id: vm.clone(),
                name: machine.name.clone(),
                host,
                power,
                allocation: machine.allocation,
                nics: vec![nic(machine)],
                volumes: volumes(machine),
                cloned_from: None,
                plan: None,
                labels: machine.labels.clone(),
            },
        );
    }
    inventory
}

fn empty(host: &HostId) -> Host {
    Host {
        id: host.clone(),
        name: host.to_string(),
        addresses: Vec::new(),
        macs: Vec::new(),
        cpu: Millicores(0),
        memory: Bytes(0),
        pools: Vec::new(),
    }
}

fn nic(machine: &JoinedMachine) -> Nic {
    Nic {
        mac: String::new(),
        network: None,
        kind: "recorded".to_owned(),
        addresses: machine.addresses.iter().copied().map(IpNet::from).collect(),
        up: true,
    }
}

fn volumes(machine: &JoinedMachine) -> Vec<Volume> {
    let each = machine.pools.iter().map(|pool| Volume {
        id: pool.clone(),
        pool: pool.clone(),
        capacity: None,
        allocated: None,
    });
    each.collect()
}

fn note_applications(window: &Joined, catalogue: &mut Catalogue) {
    let used = window.machines.values().flat_map(|machine| &machine.applications);
    for (name, used) in used.filter(|(_, used)| used.listed) {
        let known = catalogue.0.entry(name.clone()).or_insert_with(|| Application {
            movable: true,
            class: Class::Batch,
            ..Application::default()
        });
        if !used.listens.is_empty() {
            known.class = Class::Custom;
        }
        // What writes to storage may find its data where it was and nowhere else.
        known.keeps_data |= used.written_per_second.is_some_and(|rate| rate > 0.0);
    }
}
