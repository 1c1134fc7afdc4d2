//! Rows of the connection table, each with the key it stands under.

use std::{cell::RefCell, net::SocketAddr};

use super::{
    BadMessage,
    field::{Field, conversion, cut, millis},
    types::v1,
};
use crate::{
    clock::Timestamp,
    id::AppName,
    sample::{
        Connection, ConnectionKey, ConnectionState, Direction, Holder, ProcessKey, Protocol,
        TableDelta, Transport,
    },
    units::Bytes,
};

conversion! {
    v1::ConnectionKey => ConnectionKey, connection_key;
    v1::Connection => (ConnectionKey, Connection), connection;
}

const ADDRESS: &str = "send ADDRESS:PORT, such as 10.0.0.1:443 or [fe80::1]:443";

fn address(field: &Field<'_>, text: &str) -> Result<Option<SocketAddr>, BadMessage> {
    let address: Option<SocketAddr> = field.parsed_if_any(text, ADDRESS)?;
    // A v4 peer of a v6 socket is the same peer: one name for one thing.
    Ok(address.map(|address| match address.ip().to_canonical() {
        ip if ip == address.ip() => address,
        ip => SocketAddr::new(ip, address.port()),
    }))
}

pub(super) fn protocol(value: i32, field: &Field<'_>) -> Result<Protocol, BadMessage> {
    match field.kind(value)? {
        v1::Protocol::Tcp => Ok(Protocol::Tcp),
        v1::Protocol::Udp => Ok(Protocol::Udp),
        // A unix socket never leaves its machine: it is no edge between machines, and its names
        // are no addresses.
        other @ (v1::Protocol::Unspecified | v1::Protocol::Unix) => {
            Err(field.refuse(other.as_str_name(), "send PROTOCOL_TCP or PROTOCOL_UDP"))
        }
    }
}

impl From<Protocol> for v1::Protocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
        }
    }
}

pub(super) fn connection_key(
    wire: v1::ConnectionKey,
    field: &Field<'_>,
) -> Result<ConnectionKey, BadMessage> {
    let place = field.of("local");
    let local = address(&place, &wire.local)?;
    Ok(ConnectionKey {
        protocol: protocol(wire.protocol, &field.of("protocol"))?,
        local: local.ok_or_else(|| place.refuse("", ADDRESS))?,
        remote: address(&field.of("remote"), &wire.remote)?,
    })
}

impl From<&ConnectionKey> for v1::ConnectionKey {
    fn from(key: &ConnectionKey) -> Self {
        Self {
            protocol: v1::Protocol::from(key.protocol).into(),
            local: key.local.to_string(),
            remote: key.remote.map(|remote| remote.to_string()).unwrap_or_default(),
        }
    }
}

fn state(value: i32, field: &Field<'_>) -> Result<ConnectionState, BadMessage> {
    Ok(match field.kind(value)? {
        v1::ConnectionState::Established => ConnectionState::Established,
        v1::ConnectionState::SynSent => ConnectionState::SynSent,
        v1::ConnectionState::SynReceived => ConnectionState::SynReceived,
        v1::ConnectionState::FinWait1 => ConnectionState::FinWait1,
        v1::ConnectionState::FinWait2 => ConnectionState::FinWait2,
        v1::ConnectionState::TimeWait => ConnectionState::TimeWait,
        v1::ConnectionState::Closed => ConnectionState::Closed,
        v1::ConnectionState::CloseWait => ConnectionState::CloseWait,
        v1::ConnectionState::LastAck => ConnectionState::LastAck,
        v1::ConnectionState::Listen => ConnectionState::Listen,
        v1::ConnectionState::Closing => ConnectionState::Closing,
        v1::ConnectionState::Stateless => ConnectionState::Stateless,
        other @ v1::ConnectionState::Unspecified => {
            return Err(field.unusable(other.as_str_name()));
        }
    })
}

impl From<ConnectionState> for v1::ConnectionState {
    fn from(state: ConnectionState) -> Self {
        match state {
            ConnectionState::Established => Self::Established,
            ConnectionState::SynSent => Self::SynSent,
            ConnectionState::SynReceived => Self::SynReceived,
            ConnectionState::FinWait1 => Self::FinWait1,
            ConnectionState::FinWait2 => Self::FinWait2,
            ConnectionState::TimeWait => Self::TimeWait,
            ConnectionState::Closed => Self::Closed,
            ConnectionState::CloseWait => Self::CloseWait,
            ConnectionState::LastAck => Self::LastAck,
            ConnectionState::Listen => Self::Listen,
            ConnectionState::Closing => Self::Closing,
            ConnectionState::Stateless => Self::Stateless,
        }
    }
}

pub(super) fn direction(value: i32, field: &Field<'_>) -> Result<Direction, BadMessage> {
    Ok(match field.kind(value)? {
        v1::Direction::Inbound => Direction::Inbound,
        v1::Direction::Outbound => Direction::Outbound,
        v1::Direction::Listener => Direction::Listener,
        v1::Direction::Unknown => Direction::Unknown,
        other @ v1::Direction::Unspecified => return Err(field.unusable(other.as_str_name())),
    })
}

impl From<Direction> for v1::Direction {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Inbound => Self::Inbound,
            Direction::Outbound => Self::Outbound,
            Direction::Listener => Self::Listener,
            Direction::Unknown => Self::Unknown,
        }
    }
}

/// The application that the row before named: its neighbours are mostly of the same one, and then
/// share its name.
#[derive(Debug, Default)]
pub(super) struct LastNamed(RefCell<Option<AppName>>);

impl LastNamed {
    pub(super) fn read(
        &self,
        text: &str,
        field: &Field<'_>,
    ) -> Result<Option<AppName>, BadMessage> {
        let mut last = self.0.borrow_mut();
        if last.as_ref().is_none_or(|last| last.as_str() != text) {
            let Some(name) = field.id_if_any(text)? else { return Ok(None) };
            *last = Some(name);
        }
        Ok(last.clone())
    }
}

fn connection(
    wire: v1::Connection,
    field: &Field<'_>,
) -> Result<(ConnectionKey, Connection), BadMessage> {
    row(wire, field, &LastNamed::default())
}

fn row(
    mut wire: v1::Connection,
    field: &Field<'_>,
    named: &LastNamed,
) -> Result<(ConnectionKey, Connection), BadMessage> {
    let place = field.of("key");
    let key = connection_key(place.required(wire.key.take())?, &place)?;
    let first_seen = field.of("first_seen_at_unix_ms").time(wire.first_seen_at_unix_ms)?;
    let counted =
        wire.transport.take().map(|wire| transport(&wire, first_seen, &field.of("transport")));
    let row = Connection {
        state: state(wire.state, &field.of("state"))?,
        direction: direction(wire.direction, &field.of("direction"))?,
        translated: address(&field.of("translated"), &wire.translated)?,
        first_seen,
        sent: wire.bytes_sent.map(Bytes),
        received: wire.bytes_received.map(Bytes),
        user: wire.user_id,
        inode: wire.inode,
        transport: counted.transpose()?,
        holder: holder(wire, field, named)?,
    };
    Ok((key, row))
}

fn holder(
    wire: v1::Connection,
    field: &Field<'_>,
    named: &LastNamed,
) -> Result<Holder, BadMessage> {
    let application = named.read(&wire.application, &field.of("application"))?;
    let (is_group, is_process) = (!wire.group.is_empty(), wire.process_id != 0);
    match (is_group, is_process) {
        (true, true) => {
            let remedy = "send the process or the group, not both";
            Err(field.of("process_id").refuse(wire.process_id, remedy))
        }
        (true, false) => {
            Ok(Holder::Group { group: field.of("group").text(wire.group)?, application })
        }
        (false, true) => {
            let started_at =
                field.of("process_started_at_unix_ms").time(wire.process_started_at_unix_ms)?;
            let process = ProcessKey { pid: wire.process_id, started_at };
            Ok(Holder::Process { process, application })
        }
        (false, false) => {
            let reason = field.of("unknown_reason").text(wire.unknown_reason)?;
            Ok(Holder::Unknown { reason, application })
        }
    }
}

/// Times stand as their distance from when the row was first seen: most are small, and small
/// numbers are short.
fn transport(
    wire: &v1::Transport,
    first_seen: Timestamp,
    field: &Field<'_>,
) -> Result<Transport, BadMessage> {
    let moment = |name, after: Option<i64>| {
        let at = |after| field.of(name).time(millis(first_seen).saturating_add(after));
        after.map(at).transpose()
    };
    Ok(Transport {
        acknowledged: Bytes(wire.bytes_acknowledged),
        segments_sent: wire.segments_sent,
        segments_received: wire.segments_received,
        data_segments_sent: wire.data_segments_sent,
        data_segments_received: wire.data_segments_received,
        retransmitted: wire.segments_retransmitted,
        round_trip_us: wire.round_trip_us,
        last_sent: moment("last_sent_after_first_seen_ms", wire.last_sent_after_first_seen_ms)?,
        last_received: moment(
            "last_received_after_first_seen_ms",
            wire.last_received_after_first_seen_ms,
        )?,
    })
}

fn wire_transport(counted: &Transport, first_seen: Timestamp) -> v1::Transport {
    let after = |at: Option<Timestamp>| at.map(|at| millis(at).saturating_sub(millis(first_seen)));
    v1::Transport {
        bytes_acknowledged: counted.acknowledged.0,
        segments_sent: counted.segments_sent,
        segments_received: counted.segments_received,
        data_segments_sent: counted.data_segments_sent,
        data_segments_received: counted.data_segments_received,
        segments_retransmitted: counted.retransmitted,
        round_trip_us: counted.round_trip_us,
        last_sent_after_first_seen_ms: after(counted.last_sent),
        last_received_after_first_seen_ms: after(counted.last_received),
    }
}

impl From<(&ConnectionKey, &Connection)> for v1::Connection {
    fn from((key, row): (&ConnectionKey, &Connection)) -> Self {
        let (process, group, unknown_reason) = match &row.holder {
            Holder::Process { process, .. } => (Some(process), String::new(), String::new()),
            Holder::Group { group, .. } => (None, cut(group), String::new()),
            Holder::Unknown { reason, .. } => (None, String::new(), cut(reason)),
        };
        let application = row.holder.application();
        Self {
            key: Some(key.into()),
            state: v1::ConnectionState::from(row.state).into(),
            direction: v1::Direction::from(row.direction).into(),
            application: application.map(|name| name.as_str().to_owned()).unwrap_or_default(),
            process_id: process.map_or(0, |process| process.pid),
            process_started_at_unix_ms: process.map_or(0, |process| millis(process.started_at)),
            unknown_reason,
            first_seen_at_unix_ms: millis(row.first_seen),
            bytes_sent: row.sent.map(|bytes| bytes.0),
            bytes_received: row.received.map(|bytes| bytes.0),
            group,
            user_id: row.user,
            inode: row.inode,
            translated: row.translated.map(|address| address.to_string()).unwrap_or_default(),
            transport: row.transport.map(|counted| wire_transport(&counted, row.first_seen)),
        }
    }
}

pub(super) fn connections(
    wire: v1::ConnectionTable,
    field: &Field<'_>,
) -> Result<TableDelta<ConnectionKey, Connection>, BadMessage> {
    let named = LastNamed::default();
    let read = |wire, field: &Field<'_>| row(wire, field, &named);
    Ok(TableDelta {
        upserted: field.of("upserted").rows(wire.upserted, read)?,
        removed: field.of("removed").rows(wire.removed, connection_key)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire_connection() -> v1::Connection {
        let key = ConnectionKey {
            protocol: Protocol::Tcp,
            local: "10.0.0.1:80".parse().unwrap(),
            remote: Some("[2001:db8::1]:40000".parse().unwrap()),
        };
        let row = Connection {
            state: ConnectionState::Established,
            direction: Direction::Inbound,
            holder: Holder::Process {
                process: ProcessKey { pid: 7, started_at: Timestamp::from_millis(5) },
                application: Some("web".parse().unwrap()),
            },
            first_seen: Timestamp::from_millis(9),
            sent: Some(Bytes(0)),
            received: None,
            user: Some(0),
            inode: Some(31_337),
            translated: Some("10.1.0.7:8080".parse().unwrap()),
            transport: Some(Transport {
                acknowledged: Bytes(1),
                round_trip_us: Some(250),
                last_sent: Some(Timestamp::from_millis(4)),
                last_received: Some(Timestamp::from_millis(9)),
                ..Transport::default()
            }),
        };
        (&key, &row).into()
    }

    fn refusal(change: impl FnOnce(&mut v1::Connection)) -> String {
        let mut wire = wire_connection();
        change(&mut wire);
        <(ConnectionKey, Connection)>::try_from(wire).unwrap_err().to_string()
    }

    fn refused_key(change: impl FnOnce(&mut v1::ConnectionKey)) -> String {
        refusal(|wire| change(wire.key.as_mut().unwrap()))
    }

    #[test]
    fn every_state_and_direction_comes_back() {
        for value in 1..=12 {
            let back = v1::ConnectionState::from(state(value, &Field::Message).unwrap());
            assert_eq!(i32::from(back), value);
        }
        for value in 1..=4 {
            let back = v1::Direction::from(direction(value, &Field::Message).unwrap());
            assert_eq!(i32::from(back), value);
        }
    }

    #[test]
    fn a_holder_nobody_knows_keeps_its_reason() {
        let wire = v1::Connection {
            process_id: 0,
            unknown_reason: "no process any more".into(),
            ..wire_connection()
        };
        let (key, row) = <(ConnectionKey, Connection)>::try_from(wire.clone()).unwrap();
        assert!(
            matches!(&row.holder, Holder::Unknown { reason, .. } if reason.contains("any more"))
        );
        let back = v1::Connection::from((&key, &row));
        assert_eq!(back, v1::Connection { process_started_at_unix_ms: 0, ..wire });
    }

    #[test]
    fn a_group_that_holds_comes_back_and_names_no_process() {
        let wire = v1::Connection {
            process_id: 0,
            process_started_at_unix_ms: 0,
            group: "web.service".into(),
            ..wire_connection()
        };
        let (key, row) = <(ConnectionKey, Connection)>::try_from(wire.clone()).unwrap();
        let application = Some("web".parse().unwrap());
        assert_eq!(row.holder, Holder::Group { group: "web.service".into(), application });
        assert_eq!(v1::Connection::from((&key, &row)), wire);
        let told = refusal(|wire| wire.group = "web.service".into());
        assert_eq!(told, "process_id is 7; send the process or the group, not both");
    }

    #[test]
    fn what_the_transport_counted_comes_back_to_the_millisecond() {
        let wire = wire_connection();
        let counted = wire.transport.as_ref().unwrap();
        assert_eq!(counted.last_sent_after_first_seen_ms, Some(-5));
        assert_eq!(counted.last_received_after_first_seen_ms, Some(0));
        let (key, row) = <(ConnectionKey, Connection)>::try_from(wire.clone()).unwrap();
        assert_eq!(row.transport.unwrap().last_sent, Some(Timestamp::from_millis(4)));
        assert_eq!(v1::Connection::from((&key, &row)), wire);
        let told = refusal(|wire| {
            let counted = wire.transport.as_mut().unwrap();
            counted.last_sent_after_first_seen_ms = Some(i64::MIN);
        });
        assert!(told.starts_with("transport.last_sent_after_first_seen_ms is -"), "{told}");
    }

    #[test]
    fn a_mapped_address_is_the_address_it_maps() {
        let mut wire = wire_connection();
        wire.key.as_mut().unwrap().remote = "[::ffff:10.0.0.2]:5".into();
        let (key, _) = <(ConnectionKey, Connection)>::try_from(wire).unwrap();
        assert_eq!(key.remote, Some("10.0.0.2:5".parse().unwrap()));
    }

    #[test]
    fn a_bad_field_is_named_with_what_it_has() {
        assert_eq!(
            refused_key(|key| key.protocol = v1::Protocol::Unix.into()),
            "key.protocol is PROTOCOL_UNIX; send PROTOCOL_TCP or PROTOCOL_UDP"
        );
        let told = refused_key(|key| key.local = "\u{1b}[2J".into());
        assert!(told.starts_with("key.local is \\u{1b}[2J; send ADDRESS:PORT"), "{told}");
        assert!(refused_key(|key| key.local.clear()).starts_with("key.local is empty;"));
        assert!(refusal(|wire| wire.key = None).starts_with("key is missing"));
        assert!(refusal(|wire| wire.state = 99).starts_with("state is 99;"));
        let unsaid = "state is CONNECTION_STATE_UNSPECIFIED;";
        assert!(refusal(|wire| wire.state = 0).starts_with(unsaid));
        assert!(refusal(|wire| wire.direction = -1).starts_with("direction is -1;"));
        let told = refusal(|wire| wire.first_seen_at_unix_ms = -1);
        assert!(told.starts_with("first_seen_at_unix_ms is -1;"), "{told}");
        let told = refusal(|wire| wire.process_started_at_unix_ms = i64::MAX);
        assert!(told.starts_with("process_started_at_unix_ms is 9223372036854775807;"), "{told}");
        assert!(refusal(|wire| wire.translated = "x".into()).starts_with("translated is x;"));
        assert!(refusal(|wire| wire.application = "a b".into()).starts_with("application is a b;"));
    }
}
