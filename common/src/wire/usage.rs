//! What applications used, and what the agent itself costs.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    BadMessage,
    field::{Field, by_name, conversion, cut},
    types::v1,
};
use crate::{
    id::AppName,
    sample::{Accounting, AgentUse, ApplicationUse, DeviceUse, Stalls},
    sketch::{LARGEST_BIN, Sketch},
    units::{Bytes, Millicores},
};

conversion! {
    v1::ApplicationUse => (AppName, ApplicationUse), application_use;
    v1::AgentUse => AgentUse, agent_use;
    v1::Sketch => Sketch, sketch;
}

fn application_use(
    wire: v1::ApplicationUse,
    field: &Field<'_>,
) -> Result<(AppName, ApplicationUse), BadMessage> {
    let port = |port: u32, place: &Field<'_>| place.port(port);
    let ports = field.of("listening_ports").rows(wire.listening_ports, port)?;
    let ports: BTreeSet<u16> = ports.into_iter().collect();
    let devices = field.of("devices");
    let row = ApplicationUse {
        listed: wire.listed,
        processes: wire.processes,
        cpu_ms: wire.cpu_time_ms,
        peak_cpu: Millicores(wire.peak_cpu_millicores),
        resident: Bytes(wire.resident_bytes),
        peak_resident: Bytes(wire.peak_resident_bytes),
        read: wire.read_bytes.map(Bytes),
        written: wire.written_bytes.map(Bytes),
        listening_ports: ports.into_iter().collect(),
        accounting: accounting(wire.accounting, &field.of("accounting"))?,
        working_set: wire.working_set_bytes.map(Bytes),
        memory_high_water: wire.memory_high_water_bytes.map(Bytes),
        devices: by_name(devices.rows(wire.devices, device_use)?, &devices)?,
        stalls: stalls(wire.stalls.unwrap_or_default()),
        throttled_us: wire.throttled_us,
        out_of_memory_kills: wire.out_of_memory_kills,
        cpu_quantiles: sketch_if_any(wire.cpu_quantiles, &field.of("cpu_quantiles"))?,
        memory_quantiles: sketch_if_any(wire.memory_quantiles, &field.of("memory_quantiles"))?,
    };
    Ok((field.of("application").id(&wire.application)?, row))
}

impl From<(&AppName, &ApplicationUse)> for v1::ApplicationUse {
    fn from((name, row): (&AppName, &ApplicationUse)) -> Self {
        let is_stalled = row.stalls != Stalls::default();
        Self {
            application: name.as_str().to_owned(),
            listed: row.listed,
            processes: row.processes,
            cpu_time_ms: row.cpu_ms,
            peak_cpu_millicores: row.peak_cpu.0,
            resident_bytes: row.resident.0,
            peak_resident_bytes: row.peak_resident.0,
            read_bytes: row.read.map(|bytes| bytes.0),
            written_bytes: row.written.map(|bytes| bytes.0),
            listening_ports: row.listening_ports.iter().map(|port| u32::from(*port)).collect(),
            accounting: wire_accounting(row.accounting).into(),
            working_set_bytes: row.working_set.map(|bytes| bytes.0),
            memory_high_water_bytes: row.memory_high_water.map(|bytes| bytes.0),
            devices: row.devices.iter().map(wire_device_use).collect(),
            stalls: is_stalled.then_some(v1::Stalls {
                cpu_us: row.stalls.cpu_us,
                memory_us: row.stalls.memory_us,
                storage_us: row.stalls.storage_us,
            }),
            throttled_us: row.throttled_us,
            out_of_memory_kills: row.out_of_memory_kills,
            cpu_quantiles: wire_sketch(&row.cpu_quantiles),
            memory_quantiles: wire_sketch(&row.memory_quantiles),
        }
    }
}

pub(super) fn applications(
    wire: Vec<v1::ApplicationUse>,
    field: &Field<'_>,
) -> Result<BTreeMap<AppName, ApplicationUse>, BadMessage> {
    by_name(field.rows(wire, application_use)?, field)
}

/// Who says nothing sums up over processes: the first version knew no other way.
fn accounting(value: i32, field: &Field<'_>) -> Result<Accounting, BadMessage> {
    Ok(match field.kind(value)? {
        v1::Accounting::Cgroup2 => Accounting::Cgroup2,
        v1::Accounting::Cgroup1 => Accounting::Cgroup1,
        v1::Accounting::Unspecified | v1::Accounting::Processes => Accounting::Processes,
    })
}

const fn wire_accounting(accounting: Accounting) -> v1::Accounting {
    match accounting {
        Accounting::Cgroup2 => v1::Accounting::Cgroup2,
        Accounting::Cgroup1 => v1::Accounting::Cgroup1,
        Accounting::Processes => v1::Accounting::Processes,
    }
}

const fn stalls(wire: v1::Stalls) -> Stalls {
    Stalls { cpu_us: wire.cpu_us, memory_us: wire.memory_us, storage_us: wire.storage_us }
}

fn device_use(wire: v1::DeviceUse, field: &Field<'_>) -> Result<(String, DeviceUse), BadMessage> {
    let used = DeviceUse {
        reads: wire.reads,
        writes: wire.writes,
        discards: wire.discards,
        read: Bytes(wire.read_bytes),
        written: Bytes(wire.written_bytes),
    };
    Ok((field.of("device").text(wire.device)?, used))
}

fn wire_device_use((device, used): (&String, &DeviceUse)) -> v1::DeviceUse {
    v1::DeviceUse {
        device: cut(device),
        reads: used.reads,
        writes: used.writes,
        discards: used.discards,
        read_bytes: used.read.0,
        written_bytes: used.written.0,
    }
}

fn sketch_if_any(wire: Option<v1::Sketch>, field: &Field<'_>) -> Result<Sketch, BadMessage> {
    wire.map_or_else(|| Ok(Sketch::default()), |wire| sketch(wire, field))
}

fn sketch(wire: v1::Sketch, field: &Field<'_>) -> Result<Sketch, BadMessage> {
    let (steps, counts) = (field.of("bin_steps"), field.of("counts"));
    if wire.bin_steps.len() != wire.counts.len() {
        let told = format_args!("{} counts long", wire.counts.len());
        return Err(counts.refuse(told, "send one count for every bin"));
    }
    // Bins ascend, so that there are never more of them than can be.
    let (mut bins, mut last) = (Vec::new(), None);
    for (row, (step, count)) in wire.bin_steps.into_iter().zip(wire.counts).enumerate() {
        let is_ascending = step > 0 || last.is_none();
        let bin = last.unwrap_or(0_u32).saturating_add(step);
        if !is_ascending || bin > LARGEST_BIN {
            let remedy = "send ascending bins, none beyond 1420";
            return Err(Field::Row(&steps, row).refuse(step, remedy));
        }
        bins.push((bin, count));
        last = Some(bin);
    }
    Sketch::from_parts(wire.zeros, bins).map_err(|none| field.refuse(none, "send bins up to 1420"))
}

/// A sketch of nothing is not sent.
fn wire_sketch(sketch: &Sketch) -> Option<v1::Sketch> {
    let mut last = 0;
    let step = |(bin, count): (u32, u64)| {
        let step = bin - last;
        last = bin;
        (step, count)
    };
    let (bin_steps, counts) = sketch.bins().map(step).unzip();
    (!sketch.is_empty()).then_some(v1::Sketch { zeros: sketch.zeros(), bin_steps, counts })
}

pub(super) fn agent_use(wire: v1::AgentUse, field: &Field<'_>) -> Result<AgentUse, BadMessage> {
    let text = |text: String, place: &Field<'_>| place.text(text);
    Ok(AgentUse {
        cpu_limit: wire.cpu_limit_millicores.map(Millicores),
        memory_limit: wire.memory_limit_bytes.map(Bytes),
        left_out: field.of("left_out").rows(wire.left_out, text)?,
    })
}

impl From<&AgentUse> for v1::AgentUse {
    fn from(used: &AgentUse) -> Self {
        Self {
            cpu_limit_millicores: used.cpu_limit.map(|cpu| cpu.0),
            memory_limit_bytes: used.memory_limit.map(|memory| memory.0),
            left_out: used.left_out.iter().map(|measure| cut(measure)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn a_port_that_is_none_is_refused() {
        for port in [0, 65_536, u32::MAX] {
            let wire = v1::ApplicationUse {
                application: "web".into(),
                listening_ports: vec![80, port],
                ..Default::default()
            };
            let told = <(AppName, ApplicationUse)>::try_from(wire).unwrap_err();
            assert_eq!(told.field, "listening_ports[1]");
        }
    }

    #[test]
    fn a_device_used_twice_is_refused() {
        let vda = v1::DeviceUse { device: "vda".into(), ..Default::default() };
        let wire = v1::ApplicationUse {
            application: "web".into(),
            devices: vec![vda.clone(), vda],
            ..Default::default()
        };
        let told = <(AppName, ApplicationUse)>::try_from(wire).unwrap_err();
        assert_eq!(told.to_string(), "devices is naming vda twice; name each once");
    }

    #[test]
    fn a_sketch_comes_back_and_is_short() {
        let mut sketch = Sketch::default();
        (0..15).for_each(|second| sketch.insert(second % 2 * (250 + second)));
        let wire = wire_sketch(&sketch).unwrap();
        assert!(wire.encoded_len() < 25, "{} bytes", wire.encoded_len());
        assert_eq!(Sketch::try_from(wire), Ok(sketch));
        assert_eq!(wire_sketch(&Sketch::default()), None);
        let mut widest = Sketch::default();
        [0, 1, u64::MAX].into_iter().for_each(|value| widest.insert(value));
        assert_eq!(Sketch::try_from(wire_sketch(&widest).unwrap()), Ok(widest));
    }

    #[test]
    fn a_sketch_that_is_none_is_refused() {
        let told = |bin_steps: &[u32], counts: &[u64]| {
            let wire = v1::Sketch { zeros: 0, bin_steps: bin_steps.into(), counts: counts.into() };
            Sketch::try_from(wire).unwrap_err().field
        };
        assert_eq!(told(&[1], &[]), "counts");
        assert_eq!(told(&[], &[1]), "counts");
        assert_eq!(told(&[1, 0], &[1, 1]), "bin_steps[1]");
        assert_eq!(told(&[1_421], &[1]), "bin_steps[0]");
        assert_eq!(told(&[7, u32::MAX], &[1, 1]), "bin_steps[1]");
    }

    #[test]
    fn every_account_comes_back_and_who_says_nothing_sums_up_processes() {
        for value in 1..=3 {
            let read = accounting(value, &Field::Message).unwrap();
            assert_eq!(i32::from(wire_accounting(read)), value);
        }
        assert_eq!(accounting(0, &Field::Message), Ok(Accounting::Processes));
        assert!(accounting(4, &Field::Message).is_err());
    }
}
