//! Connections, flows, and how much of them was seen.

use std::{cmp::Reverse, collections::BTreeMap};

use common::{
    clock::Timestamp,
    id::AppName,
    sample::{
        Connection, ConnectionKey, ConnectionReader, ConnectionState, Coverage, Direction, Flow,
        FlowKey, Holder, Protocol,
    },
    units::Bytes,
};

use crate::show::paper::{Cell, Paper, Tone};

pub(super) fn connections(
    paper: &Paper,
    connections: &BTreeMap<ConnectionKey, Connection>,
    now: Timestamp,
) -> String {
    let mut rows: Vec<_> = connections.iter().collect();
    rows.sort_by_key(|(key, row)| (rank(row.state), **key));
    let head = [
        "proto",
        "local",
        "remote",
        "state",
        "direction",
        "application",
        "holder",
        "sent",
        "received",
        "rtt",
        "seen",
    ];
    paper.table(
        head,
        rows.into_iter().map(|(key, row)| {
            let rtt = row.transport.and_then(|transport| transport.round_trip_us);
            [
                protocol(key.protocol).into(),
                key.local.into(),
                remote(key, row),
                state(row.state),
                direction(row.direction).into(),
                application(row.holder.application()),
                holder(&row.holder),
                amount(row.sent),
                amount(row.received),
                Cell::maybe(rtt.map(milliseconds)),
                age(now.since(row.first_seen)).into(),
            ]
        }),
    )
}

pub(super) fn flows(paper: &Paper, flows: &BTreeMap<FlowKey, Flow>) -> String {
    let mut rows: Vec<_> = flows.iter().collect();
    rows.sort_by_key(|(key, flow)| (Reverse(flow.opened + flow.failed), *key));
    let head = [
        "proto",
        "direction",
        "application",
        "local",
        "remote",
        "port",
        "opened",
        "closed",
        "reset",
        "failed",
        "sent",
        "received",
        "resent",
    ];
    paper.table(
        head,
        rows.into_iter().map(|(key, flow)| {
            [
                protocol(key.protocol).into(),
                direction(key.direction).into(),
                application(key.application.as_ref()),
                key.local.into(),
                key.remote.into(),
                key.port.into(),
                flow.opened.into(),
                flow.closed.into(),
                trouble(flow.reset),
                trouble(flow.failed),
                amount(flow.sent),
                amount(flow.received),
                Cell::maybe(flow.retransmitted),
            ]
        }),
    )
}

pub(super) fn coverage(paper: &Paper, coverage: Option<&Coverage>) -> String {
    let Some(coverage) = coverage else {
        return paper.pairs([("seen".into(), "not counted".into())]);
    };
    let reader = match coverage.reader {
        ConnectionReader::SocketDiagnosis => "socket diagnosis",
        ConnectionReader::Netstat => "netstat",
        ConnectionReader::Unknown => "not said",
    };
    let due = coverage.due.map_or_else(|| "unknown".to_owned(), |due| due.to_string());
    let percent = |share: u32| format!(" ({}.{:02} %)", share / 100, share % 100);
    let share = coverage.share().map(percent).unwrap_or_default();
    let told = |it: bool| if it { "told by the kernel" } else { "not told" }.to_owned();
    paper.pairs([
        ("read by".into(), reader.into()),
        ("ends".into(), told(coverage.ends_are_told)),
        ("openings".into(), told(coverage.opens_are_told)),
        ("TCP connections seen".into(), format!("{} of {due}{share}", coverage.seen)),
        ("with an application".into(), format!("{} of {}", coverage.attributed, coverage.seen)),
        ("lost by the kernel".into(), coverage.overruns.to_string()),
        ("tables read again".into(), coverage.restarts.to_string()),
        ("edges merged".into(), coverage.merged_edges.to_string()),
    ])
}

/// Listeners first, then what is at work, then what is ending.
const fn rank(state: ConnectionState) -> u8 {
    match state {
        ConnectionState::Listen => 0,
        ConnectionState::Established | ConnectionState::Stateless => 1,
        ConnectionState::SynSent | ConnectionState::SynReceived => 2,
        ConnectionState::CloseWait => 3,
        _ => 4,
    }
}

const fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

const fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
        Direction::Listener => "listener",
        Direction::Unknown => "unknown",
    }
}

fn state(state: ConnectionState) -> Cell {
    let (word, tone) = match state {
        ConnectionState::Established => ("established", Tone::Good),
        ConnectionState::SynSent => ("syn-sent", Tone::Doubtful),
        ConnectionState::SynReceived => ("syn-received", Tone::Doubtful),
        ConnectionState::FinWait1 => ("fin-wait-1", Tone::Faint),
        ConnectionState::FinWait2 => ("fin-wait-2", Tone::Faint),
        ConnectionState::TimeWait => ("time-wait", Tone::Faint),
        ConnectionState::Closed => ("closed", Tone::Faint),
        ConnectionState::CloseWait => ("close-wait", Tone::Doubtful),
        ConnectionState::LastAck => ("last-ack", Tone::Faint),
        ConnectionState::Listen => ("listen", Tone::Plain),
        ConnectionState::Closing => ("closing", Tone::Faint),
        ConnectionState::Stateless => ("stateless", Tone::Plain),
    };
    Cell::toned(word, tone)
}

fn remote(key: &ConnectionKey, row: &Connection) -> Cell {
    match (key.remote, row.translated) {
        (Some(remote), Some(translated)) => Cell::from(format!("{remote} = {translated}")),
        (remote, _) => Cell::maybe(remote),
    }
}

fn application(application: Option<&AppName>) -> Cell {
    Cell::maybe(application)
}

fn holder(holder: &Holder) -> Cell {
    match holder {
        Holder::Process { process, .. } => Cell::from(process.pid),
        Holder::Group { group, .. } => Cell::from(group),
        Holder::Unknown { reason, .. } => Cell::toned(reason, Tone::Faint),
    }
}

fn amount(bytes: Option<Bytes>) -> Cell {
    Cell::maybe(bytes)
}

fn trouble(count: u64) -> Cell {
    if count == 0 { Cell::from(0) } else { Cell::toned(count, Tone::Bad) }
}

fn milliseconds(microseconds: u32) -> String {
    format!("{:.1} ms", f64::from(microseconds) / 1000.0)
}

/// A span as people say it: its largest unit only.
fn age(span: std::time::Duration) -> String {
    match span.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        seconds @ 3600..86_400 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAPER: Paper = Paper { columns: None, coloured: false };

    #[test]
    fn the_busiest_edge_stands_first() {
        let key = |port| FlowKey {
            protocol: Protocol::Tcp,
            direction: Direction::Outbound,
            local: [10, 0, 0, 1].into(),
            remote: [10, 0, 0, 2].into(),
            port,
            application: None,
        };
        let flow = |opened| Flow { opened, ..Flow::default() };
        let shown = flows(&PAPER, &[(key(80), flow(1)), (key(443), flow(9))].into());
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[1].contains("443") && lines[2].contains(" 80 "), "{shown}");
    }

    #[test]
    fn a_share_is_told_only_where_the_kernel_counts() {
        let seen = Coverage { due: Some(8), seen: 6, ..Coverage::default() };
        assert!(coverage(&PAPER, Some(&seen)).contains("6 of 8 (75.00 %)"));
        let uncounted = Coverage { due: None, ..seen };
        assert!(coverage(&PAPER, Some(&uncounted)).contains("6 of unknown\n"));
        assert!(coverage(&PAPER, None).contains("not counted"));
    }
}
