//! Who talks to whom, how often and how regularly, and who reads and writes which volume.

use common::{units::Bytes, wire::admin::v1};

use super::percent;
use crate::print::{Printer, safe, table};

/// A figure nobody knows, or that is not there.
const NONE: &str = "-";

pub(crate) fn graph(printer: &Printer, answer: &v1::GetGraphResponse) -> String {
    if answer.window.is_empty() {
        return "no window has closed yet\n".to_owned();
    }
    let mut text = edges(printer, &answer.edges);
    if !answer.storage.is_empty() {
        text += &format!("\n{}", storage(&answer.storage));
    }
    text
}

fn edges(printer: &Printer, edges: &[v1::Edge]) -> String {
    let head = [
        "client",
        "server",
        "port",
        "connections/s",
        "95 % interval",
        "exchanges/s",
        "bursts",
        "peak/s",
        "period",
        "by chance",
        "open",
        "seen",
        "both ends",
        "coverage",
    ];
    table(
        head,
        edges.iter().map(|edge| {
            let rate = edge.connections.unwrap_or_default();
            [
                party(edge.client.as_ref()),
                party(edge.server.as_ref()),
                edge.port.to_string(),
                figure(rate.per_second),
                interval(&rate),
                edge.exchanges.map_or_else(|| NONE.to_owned(), |rate| figure(rate.per_second)),
                edge.burstiness.map_or_else(|| NONE.to_owned(), |index| figure(index.value)),
                edge.peak.map_or_else(|| NONE.to_owned(), |peak| figure(peak.per_second_95)),
                both(edge, period),
                both(edge, by_chance),
                format!("{:.1}", edge.open_mean),
                edge.seen.to_string(),
                backed(printer, edge),
                percent(edge.coverage),
            ]
        }),
    )
}

/// Whether both ends tell of an edge, and where they do not agree.
fn backed(printer: &Printer, edge: &v1::Edge) -> String {
    match edge.backing.as_str() {
        doubt @ ("claimed" | "apart") => doubt.to_owned(),
        _ => printer.claim(edge.both_ends),
    }
}

fn storage(edges: &[v1::StorageEdge]) -> String {
    let head = [
        "machine",
        "volume",
        "operation",
        "size",
        "operations/s",
        "95 % interval",
        "went well",
        "bytes/s",
        "coverage",
        "source",
    ];
    table(
        head,
        edges.iter().map(|edge| {
            let rate = edge.operations.unwrap_or_default();
            let machine = if edge.application.is_empty() {
                edge.name.clone()
            } else {
                format!("{}/{}", edge.name, edge.application)
            };
            [
                safe(&machine),
                safe(&edge.volume),
                edge.operation.clone(),
                edge.size_class.map_or_else(|| NONE.to_owned(), size),
                figure(rate.per_second),
                interval(&rate),
                edge.succeeded.map_or_else(|| NONE.to_owned(), |share| well(&share)),
                edge.bytes_per_second.map_or_else(|| NONE.to_owned(), per_second),
                percent(edge.coverage),
                edge.source.clone(),
            ]
        }),
    )
}

pub(super) fn party(party: Option<&v1::Party>) -> String {
    let Some(party) = party else { return "unknown".to_owned() };
    let application = if party.application.is_empty() { "?" } else { &party.application };
    if party.vm.is_empty() {
        safe(&party.name)
    } else {
        safe(&format!("{}/{application}", party.name))
    }
}

/// Two digits behind the point, and for what is too small for them two that count.
fn figure(value: f64) -> String {
    if value > 0.0 && value < 0.01 { format!("{value:.1e}") } else { format!("{value:.2}") }
}

fn interval(rate: &v1::Rate) -> String {
    if rate.upper >= f64::MAX {
        return format!("{} and more", figure(rate.lower));
    }
    format!("{} to {}", figure(rate.lower), figure(rate.upper))
}

/// The smallest size of a class of sizes.
fn size(class: u32) -> String {
    1_u64.checked_shl(class).map_or_else(|| NONE.to_owned(), |bytes| Bytes(bytes).to_string())
}

/// A share and the least it is; never rounded up to all of it.
fn well(share: &v1::Estimate) -> String {
    let floor = |share: f64| (share * 10_000.0).floor() / 100.0;
    format!("{:.2} %, at least {:.2} %", floor(share.value), floor(share.lower))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is none below zero, and a float to u64 saturates"
)]
fn per_second(bytes: f64) -> String {
    Bytes(bytes.round() as u64).to_string()
}

/// What is told of an edge's period and of its cycle of the calendar.
fn both(edge: &v1::Edge, told: fn(&v1::Regularity) -> String) -> String {
    let told: Vec<String> = edge.period.iter().chain(&edge.calendar).map(told).collect();
    if told.is_empty() { NONE.to_owned() } else { told.join(", ") }
}

/// A period with half its interval; what is too short against how often was looked has a question mark.
fn period(period: &v1::Regularity) -> String {
    let calendar = match period.by.as_str() {
        "hour_of_day" => Some("daily"),
        "day_of_week" => Some("weekly"),
        "day_of_month" => Some("monthly"),
        _ => None,
    };
    if let Some(calendar) = calendar {
        return calendar.to_owned();
    }
    let half = (period.upper - period.lower) / 2.0;
    let doubt = if period.trusted { "" } else { " ?" };
    format!("{} \u{b1} {}{doubt}", time(period.seconds), time(half))
}

fn by_chance(period: &v1::Regularity) -> String {
    if period.false_alarm < 1e-9 {
        "< 1e-9".to_owned()
    } else {
        format!("{:.0e}", period.false_alarm)
    }
}

/// Time in the unit that leaves it between 1 and a few hundred.
fn time(seconds: f64) -> String {
    let units = [(86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s")];
    let fitting = units.into_iter().find(|(length, _)| seconds >= 1.5 * length);
    let (length, unit) = fitting.unwrap_or((0.001, "ms"));
    let value = seconds / length;
    if value >= 100.0 || (value - value.round()).abs() < 0.005 {
        format!("{value:.0} {unit}")
    } else {
        format!("{value:.1} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_the_unit_that_fits() {
        let told = [0.25, 1.6, 59.9, 90.0, 300.0, 3700.0, 86_400.0, 604_800.0].map(time);
        assert_eq!(
            told,
            ["250 ms", "1.6 s", "59.9 s", "1.5 min", "5 min", "61.7 min", "24 h", "7 d"]
        );
    }

    #[test]
    fn a_period_that_is_not_to_be_trusted_says_so_and_one_of_the_calendar_has_its_name() {
        let told = |by: &str, trusted| {
            period(&v1::Regularity {
                seconds: 300.0,
                lower: 298.0,
                upper: 302.0,
                trusted,
                by: by.to_owned(),
                ..v1::Regularity::default()
            })
        };
        assert_eq!(told("gaps", true), "5 min \u{b1} 2 s");
        assert_eq!(told("coherence", false), "5 min \u{b1} 2 s ?");
        assert_eq!(told("hour_of_day", true), "daily");
    }

    #[test]
    fn a_share_that_is_not_all_never_reads_so() {
        let share = v1::Estimate { value: 0.999_999, lower: 0.999_9, upper: 1.0 };
        assert_eq!(well(&share), "99.99 %, at least 99.99 %");
    }

    #[test]
    fn a_rate_without_bound_is_not_a_number_of_300_digits() {
        let rate = v1::Rate { per_second: 0.0, lower: 0.0, upper: f64::MAX };
        assert_eq!(interval(&rate), "0.00 and more");
        assert_eq!(figure(0.004_21), "4.2e-3");
    }
}
