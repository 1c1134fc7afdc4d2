//! What one machine's agent counts on its edges, how much of it it sees, and what it leaves out.

use common::wire::types::v1::{
    AgentUse, ApplicationUse, ConnectionReader, Coverage, Direction, Flow,
};

use super::{bytes, cpu, guest::word};
use crate::print::{safe, table};

/// Edges that are shown; JSON has them all.
const SHOWN: usize = 20;

/// The edges with most connections and exchanges.
pub(super) fn flows(flows: &[Flow]) -> String {
    let mut busiest: Vec<&Flow> = flows.iter().collect();
    busiest.sort_by_key(|flow| {
        std::cmp::Reverse((flow.opened.max(exchanges(flow).unwrap_or(0)), flow.failed))
    });
    let mut text = table(
        [
            "direction",
            "far end",
            "port",
            "application",
            "opened",
            "failed",
            "reset",
            "open now",
            "exchanges",
            "sent",
            "received",
        ],
        busiest.iter().take(SHOWN).map(|flow| {
            let key = flow.key.clone().unwrap_or_default();
            let direction = Direction::try_from(key.direction).unwrap_or_default();
            [
                word(direction.as_str_name(), "DIRECTION_"),
                key.remote,
                key.port.to_string(),
                if key.application.is_empty() {
                    "unknown".to_owned()
                } else {
                    safe(&key.application)
                },
                flow.opened.to_string(),
                flow.failed.to_string(),
                flow.reset.to_string(),
                flow.opened.saturating_sub(flow.closed).to_string(),
                exchanges(flow).map_or_else(|| "unknown".to_owned(), |count| count.to_string()),
                bytes(flow.bytes_sent),
                bytes(flow.bytes_received),
            ]
        }),
    );
    if flows.len() > SHOWN {
        text += &format!("and {} more\n", flows.len() - SHOWN);
    }
    text
}

/// Requests and answers: segments with data, of the direction that had fewer.
fn exchanges(flow: &Flow) -> Option<u64> {
    Some(flow.data_segments_sent?.min(flow.data_segments_received?))
}

/// How much of what happened is in the flows.
pub(super) fn coverage(coverage: &Coverage) -> String {
    let reader = ConnectionReader::try_from(coverage.reader).unwrap_or_default();
    let share = match coverage.due {
        Some(due) if due > 0 => {
            // In hundredths and rounded down: what is not all of it never reads 100 %.
            let hundredths = u128::from(coverage.seen.min(due)) * 10_000 / u128::from(due);
            format!(
                "{}.{:02} % of {due} connections since the agent began",
                hundredths / 100,
                hundredths % 100
            )
        }
        Some(_) => "nothing was due yet".to_owned(),
        None => format!("{} connections; the kernel does not say how many were due", coverage.seen),
    };
    let yes = |holds: bool| if holds { "yes" } else { "no" };
    let lines = [
        ("seen", share),
        ("attributed", format!("{} of {}", coverage.attributed, coverage.seen)),
        ("read by", word(reader.as_str_name(), "CONNECTION_READER_")),
        ("ends told", yes(coverage.ends_are_told).to_owned()),
        ("opens told", yes(coverage.opens_are_told).to_owned()),
        ("overruns", coverage.overruns.to_string()),
        ("edges merged", coverage.merged_edges.to_string()),
    ];
    lines.iter().map(|(name, value)| format!("  {name:14}{value}\n")).collect()
}

/// What the agent may cost, and what it leaves out for that.
pub(super) fn agent(agent: &AgentUse) -> String {
    let left_out: Vec<_> = agent.left_out.iter().map(|measure| safe(measure)).collect();
    let left_out = if left_out.is_empty() { "nothing".to_owned() } else { left_out.join(", ") };
    let lines = [
        ("cpu limit", cpu(agent.cpu_limit_millicores)),
        ("memory limit", bytes(agent.memory_limit_bytes)),
        ("leaves out", left_out),
    ];
    lines.iter().map(|(name, value)| format!("  {name:14}{value}\n")).collect()
}

/// What applications used so far.
pub(super) fn applications(applications: &[ApplicationUse]) -> String {
    table(
        [
            "application",
            "cpu time",
            "memory",
            "working set",
            "read",
            "written",
            "killed",
            "account",
        ],
        applications.iter().map(|used| {
            let seconds = std::time::Duration::from_millis(used.cpu_time_ms).as_secs_f64();
            let kills = used.out_of_memory_kills;
            [
                safe(&used.application),
                format!("{seconds:.1} s"),
                bytes(Some(used.resident_bytes)),
                bytes(used.working_set_bytes),
                bytes(used.read_bytes),
                bytes(used.written_bytes),
                kills.map_or_else(|| "unknown".to_owned(), |kills| kills.to_string()),
                word(used.accounting().as_str_name(), "ACCOUNTING_"),
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_that_is_not_all_never_reads_so() {
        let told = Coverage { due: Some(100_000), seen: 99_999, ..Coverage::default() };
        assert!(coverage(&told).contains("99.99 % of 100000"), "{}", coverage(&told));
        assert!(coverage(&Coverage::default()).contains("does not say"));
    }

    #[test]
    fn the_busiest_edges_come_first_and_the_rest_is_counted() {
        let all: Vec<_> = (0..SHOWN as u64 + 2)
            .map(|opened| Flow { opened, closed: opened / 2, ..Flow::default() })
            .collect();
        let text = flows(&all);
        let first = text.lines().nth(1).unwrap();
        assert!(first.contains(" 21 ") && first.contains(" 11 "), "{first}");
        assert!(text.ends_with("and 2 more\n"), "{text}");
    }
}
