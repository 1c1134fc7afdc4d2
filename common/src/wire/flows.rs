//! Flows: what happened on each edge, and how much of it was seen.

use std::net::IpAddr;

use super::{
    BadMessage,
    connections::{LastNamed, direction, protocol},
    field::{Field, conversion},
    types::v1,
};
use crate::{
    sample::{ConnectionReader, Coverage, Direction, Flow, FlowKey, TableDelta},
    units::Bytes,
};

conversion! {
    v1::FlowKey => FlowKey, flow_key;
    v1::Flow => (FlowKey, Flow), flow;
    v1::Coverage => Coverage, coverage;
}

fn address(text: &str, field: &Field<'_>) -> Result<IpAddr, BadMessage> {
    let address: IpAddr = field.parsed(text, "send an address, such as 10.0.0.1 or fe80::1")?;
    // A v4 peer of a v6 socket is the same peer.
    Ok(address.to_canonical())
}

fn flow_key(wire: v1::FlowKey, field: &Field<'_>) -> Result<FlowKey, BadMessage> {
    key(&wire, field, &LastNamed::default())
}

fn key(wire: &v1::FlowKey, field: &Field<'_>, named: &LastNamed) -> Result<FlowKey, BadMessage> {
    let place = field.of("direction");
    let direction = match direction(wire.direction, &place)? {
        Direction::Listener => return Err(place.unusable("DIRECTION_LISTENER")),
        direction => direction,
    };
    Ok(FlowKey {
        protocol: protocol(wire.protocol, &field.of("protocol"))?,
        direction,
        local: address(&wire.local, &field.of("local"))?,
        remote: address(&wire.remote, &field.of("remote"))?,
        port: port(wire.port, &field.of("port"))?,
        application: named.read(&wire.application, &field.of("application"))?,
    })
}

/// Nought is a port here: an attempt that was refused, or a merged edge, may not tell one.
fn port(port: u32, field: &Field<'_>) -> Result<u16, BadMessage> {
    u16::try_from(port).map_err(|_| field.refuse(port, "send a port from 0 to 65535"))
}

impl From<&FlowKey> for v1::FlowKey {
    fn from(key: &FlowKey) -> Self {
        let application = key.application.as_ref();
        Self {
            protocol: v1::Protocol::from(key.protocol).into(),
            direction: v1::Direction::from(key.direction).into(),
            local: key.local.to_string(),
            remote: key.remote.to_string(),
            port: key.port.into(),
            application: application.map(|name| name.as_str().to_owned()).unwrap_or_default(),
        }
    }
}

fn flow(wire: v1::Flow, field: &Field<'_>) -> Result<(FlowKey, Flow), BadMessage> {
    row(&wire, field, &LastNamed::default())
}

fn row(
    wire: &v1::Flow,
    field: &Field<'_>,
    named: &LastNamed,
) -> Result<(FlowKey, Flow), BadMessage> {
    let place = field.of("key");
    let flow = Flow {
        opened: wire.opened,
        closed: wire.closed,
        reset: wire.reset,
        failed: wire.failed,
        sent: wire.bytes_sent.map(Bytes),
        received: wire.bytes_received.map(Bytes),
        data_segments_sent: wire.data_segments_sent,
        data_segments_received: wire.data_segments_received,
        retransmitted: wire.segments_retransmitted,
    };
    Ok((key(place.required(wire.key.as_ref())?, &place, named)?, flow))
}

impl From<(&FlowKey, &Flow)> for v1::Flow {
    fn from((key, flow): (&FlowKey, &Flow)) -> Self {
        Self {
            key: Some(key.into()),
            opened: flow.opened,
            closed: flow.closed,
            reset: flow.reset,
            failed: flow.failed,
            bytes_sent: flow.sent.map(|bytes| bytes.0),
            bytes_received: flow.received.map(|bytes| bytes.0),
            data_segments_sent: flow.data_segments_sent,
            data_segments_received: flow.data_segments_received,
            segments_retransmitted: flow.retransmitted,
        }
    }
}

pub(super) fn flows(
    wire: v1::FlowTable,
    field: &Field<'_>,
) -> Result<TableDelta<FlowKey, Flow>, BadMessage> {
    let named = LastNamed::default();
    let read = |wire: v1::Flow, field: &Field<'_>| row(&wire, field, &named);
    let read_key = |wire: v1::FlowKey, field: &Field<'_>| key(&wire, field, &named);
    Ok(TableDelta {
        upserted: field.of("upserted").rows(wire.upserted, read)?,
        removed: field.of("removed").rows(wire.removed, read_key)?,
    })
}

pub(super) fn coverage(wire: v1::Coverage, field: &Field<'_>) -> Result<Coverage, BadMessage> {
    let reader = match field.of("reader").kind(wire.reader)? {
        v1::ConnectionReader::Unspecified => ConnectionReader::Unknown,
        v1::ConnectionReader::SocketDiagnosis => ConnectionReader::SocketDiagnosis,
        v1::ConnectionReader::Netstat => ConnectionReader::Netstat,
    };
    Ok(Coverage {
        reader,
        ends_are_told: wire.ends_are_told,
        opens_are_told: wire.opens_are_told,
        due: wire.due,
        seen: wire.seen,
        attributed: wire.attributed,
        overruns: wire.overruns,
        restarts: wire.restarts,
        merged_edges: wire.merged_edges,
    })
}

impl From<&Coverage> for v1::Coverage {
    fn from(coverage: &Coverage) -> Self {
        let reader = match coverage.reader {
            ConnectionReader::Unknown => v1::ConnectionReader::Unspecified,
            ConnectionReader::SocketDiagnosis => v1::ConnectionReader::SocketDiagnosis,
            ConnectionReader::Netstat => v1::ConnectionReader::Netstat,
        };
        Self {
            reader: reader.into(),
            ends_are_told: coverage.ends_are_told,
            opens_are_told: coverage.opens_are_told,
            due: coverage.due,
            seen: coverage.seen,
            attributed: coverage.attributed,
            overruns: coverage.overruns,
            restarts: coverage.restarts,
            merged_edges: coverage.merged_edges,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Protocol;

    fn wire_flow() -> v1::Flow {
        let key = FlowKey {
            protocol: Protocol::Tcp,
            direction: Direction::Outbound,
            local: "10.0.0.1".parse().unwrap(),
            remote: "2001:db8::1".parse().unwrap(),
            port: 443,
            application: Some("web".parse().unwrap()),
        };
        let flow = Flow { opened: 1, failed: 2, sent: Some(Bytes(0)), ..Flow::default() };
        (&key, &flow).into()
    }

    fn refusal(change: impl FnOnce(&mut v1::FlowKey)) -> String {
        let mut wire = wire_flow();
        change(wire.key.as_mut().unwrap());
        <(FlowKey, Flow)>::try_from(wire).unwrap_err().to_string()
    }

    #[test]
    fn a_flow_comes_back_and_what_was_not_counted_stays_unknown() {
        let (key, flow) = <(FlowKey, Flow)>::try_from(wire_flow()).unwrap();
        assert_eq!((flow.sent, flow.received), (Some(Bytes(0)), None));
        assert_eq!(v1::Flow::from((&key, &flow)), wire_flow());
    }

    #[test]
    fn a_bad_key_is_named_with_what_it_has() {
        assert!(refusal(|key| key.local = "nowhere".into()).starts_with("key.local is nowhere;"));
        assert!(refusal(|key| key.remote.clear()).starts_with("key.remote is empty;"));
        assert!(refusal(|key| key.port = 65_536).starts_with("key.port is 65536;"));
        assert!(refusal(|key| key.protocol = 0).starts_with("key.protocol is PROTOCOL_UNSPEC"));
        assert!(refusal(|key| key.direction = 0).starts_with("key.direction is DIRECTION_UNSPEC"));
        assert!(refusal(|key| key.direction = 3).starts_with("key.direction is DIRECTION_LIST"));
        assert!(refusal(|key| key.application = "a b".into()).starts_with("key.application is"));
        let told = <(FlowKey, Flow)>::try_from(v1::Flow::default()).unwrap_err();
        assert_eq!(told.field, "key");
    }

    #[test]
    fn a_mapped_address_is_the_address_it_maps() {
        let mut wire = wire_flow();
        wire.key.as_mut().unwrap().remote = "::ffff:10.0.0.2".into();
        let (key, _) = <(FlowKey, Flow)>::try_from(wire).unwrap();
        assert_eq!(key.remote, "10.0.0.2".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn every_reader_comes_back_and_another_is_refused() {
        for reader in 0..=2 {
            let wire = v1::Coverage { reader, due: Some(0), seen: 7, ..Default::default() };
            let coverage = Coverage::try_from(wire).unwrap();
            assert_eq!(v1::Coverage::from(&coverage), wire);
        }
        let wire = v1::Coverage { reader: 3, ..Default::default() };
        assert_eq!(Coverage::try_from(wire).unwrap_err().field, "reader");
    }
}
