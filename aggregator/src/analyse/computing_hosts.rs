//! Who talks to whom in networks of computing hosts, hour by hour, as "A Dataset of Networks of
//! Computing Hosts" (Madani, Averineni, Gandham, IWSPA 2022) writes it: network, client, server, and
//! `PORTpPROTOCOL-PACKETS` with commas, parted by tabs.
//!
//! Packets are told, requests are not: of so many packets both ways half at most are requests, and
//! that is what is taken for them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use common::{clock::Timestamp, id::VmId};

use super::{
    Recording, lines,
    read::{AnalyseError, Bad, Format},
};
use crate::{
    catalogue::Catalogue,
    hypervisor::{Inventory, Power},
    join::{EdgeKey, Joined, JoinedMachine, Party, Traffic, Use},
};

const HOUR: Duration = Duration::from_secs(3_600);
const MOST_EDGES: usize = 4_000_000;

/// One line: the ends, and packets by port.
type Line<'a> = (&'a str, &'a str, &'a str, Vec<(u16, u64)>);

/// Whether a line is of this format.
pub(super) fn looks(text: &str) -> bool {
    line(text).is_ok()
}

/// Reads the files, an hour each.
pub(super) fn read(
    files: &[PathBuf],
    take: &mut dyn FnMut(Joined),
) -> Result<Recording, AnalyseError> {
    let mut bad = Bad::default();
    let mut from = Timestamp::from_millis(0);
    for path in files {
        let to = from + HOUR;
        let edges = edges(path, &mut bad)?;
        if !edges.is_empty() {
            take(window(edges, (from, to)));
            from = to;
        }
    }
    let assumed = [
        "each file is one hour, in the order of their names, from midnight on",
        "half of the packets of an edge are requests: the recording tells packets only",
        "a host that talks is a machine that runs; neither CPU nor memory is known, so nothing can be \
         planned",
    ];
    Ok(Recording {
        format: Format::ComputingHosts,
        inventory: Inventory::default(),
        catalogue: Catalogue::default(),
        assumed: assumed.map(str::to_owned).into(),
        bad: bad.named,
        bad_lines: bad.count,
    })
}

fn edges(path: &Path, bad: &mut Bad) -> Result<BTreeMap<EdgeKey, u64>, AnalyseError> {
    let mut edges: BTreeMap<EdgeKey, u64> = BTreeMap::new();
    lines::each(path, &mut |number, text| {
        let read = match text {
            Ok("") => return Ok(()),
            Ok(text) => line(text).and_then(|line| keys(&line)),
            Err(why) => Err(why),
        };
        match read {
            Ok(keys) => {
                for (key, packets) in keys {
                    let known = edges.entry(key).or_default();
                    *known = known.saturating_add(packets);
                }
            }
            Err(why) => bad.note(path, number, why),
        }
        if edges.len() > MOST_EDGES {
            return Err(AnalyseError::TooLarge { path: path.to_owned(), what: "4,000,000 edges" });
        }
        Ok(())
    })?;
    Ok(edges)
}

fn line(text: &str) -> Result<Line<'_>, String> {
    let mut fields = text.split('\t');
    let mut field = |name: &str| {
        let given = fields.next().filter(|given| !given.is_empty());
        given.ok_or_else(|| {
            format!("has no {name}; write network, client, server and ports with tabs")
        })
    };
    let (network, client, server) = (field("network")?, field("client")?, field("server")?);
    let ports = field("ports")?.split(',').map(|port| {
        let wrong = || format!("field 4 has {port:?}; write PORTpPROTOCOL-PACKETS");
        let (number, rest) = port.split_once('p').ok_or_else(wrong)?;
        let (protocol, packets) = rest.split_once('-').ok_or_else(wrong)?;
        let protocol: u16 = protocol.parse().map_err(|_| wrong())?;
        // Anonymous ports are small numbers; those of other protocols must not meet those of TCP.
        let number: u16 = number.parse().map_err(|_| wrong())?;
        let number =
            if protocol == TCP { number } else { number.checked_add(OTHERS).ok_or_else(wrong)? };
        Ok((number, packets.parse().map_err(|_| wrong())?))
    });
    Ok((network, client, server, ports.collect::<Result<_, String>>()?))
}

const TCP: u16 = 6;
/// Added to the ports of other protocols than TCP.
const OTHERS: u16 = 32_768;

fn keys((network, client, server, ports): &Line<'_>) -> Result<Vec<(EdgeKey, u64)>, String> {
    let party = |node: &str| -> Result<Party, String> {
        let id = format!("{network}-{node}");
        let vm: VmId = id.parse().map_err(|cause| format!("names a host {id:?}: {cause}"))?;
        Ok(Party::Machine { vm, application: None })
    };
    let (client, server) = (party(client)?, party(server)?);
    let keys = ports.iter().map(|(port, packets)| {
        (EdgeKey { client: client.clone(), server: server.clone(), port: *port }, *packets)
    });
    Ok(keys.collect())
}

fn window(edges: BTreeMap<EdgeKey, u64>, (from, to): (Timestamp, Timestamp)) -> Joined {
    let mut machines = BTreeMap::new();
    for vm in edges.keys().flat_map(|key| [key.client.vm(), key.server.vm()]).flatten() {
        machines.entry(vm.clone()).or_insert_with(|| JoinedMachine {
            name: vm.to_string(),
            power: Some(Power::On),
            coverage: 1.0,
            guest: Use { watched: HOUR, ..Use::default() },
            ..JoinedMachine::default()
        });
    }
    let edges = edges.into_iter().map(|(key, packets)| {
        let traffic = Traffic {
            exchanges: Some(packets / 2),
            seen: 1,
            alive: 1,
            coverage: 1.0,
            watched: HOUR,
            ..Traffic::default()
        };
        (key, traffic)
    });
    Joined {
        window: super::read::window_id(from),
        from,
        to,
        sampled_every: HOUR,
        machines,
        edges: edges.collect(),
        records: Vec::new(),
        remarks: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_network_two_hosts_and_ports() {
        let read = line("g21\t32\t40\t3p17-1,1p6-7");
        assert_eq!(read, Ok(("g21", "32", "40", vec![(32_771, 1), (1, 7)])));
    }

    #[test]
    fn what_is_missing_or_no_port_is_named() {
        assert!(line("g21\t32").unwrap_err().starts_with("has no server"));
        assert!(line("g21\t32\t40\t3x").unwrap_err().contains("field 4 has \"3x\""));
        assert!(line("a,1,2").is_err());
    }
}
