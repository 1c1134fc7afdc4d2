//! What each application of a machine needs, and what it gave most with.

use common::wire::admin::v1;

use super::{bytes, cpu};
use crate::print::{Printer, safe, table};

/// What was measured, then what follows from it.
pub(super) fn needs(printer: &Printer, needs: &[v1::Need]) -> String {
    let head =
        ["application", "in mix", "healthy", "cpu mean", "cpu peak", "memory peak", "listens on"];
    let measured = table(head, needs.iter().map(|need| measured(printer, need)));
    let heading = printer.heading("to run nominally");
    let head = ["application", "cpu", "95 %", "memory", "95 %", "day", "optimum record"];
    format!("{measured}\n{heading}\n{}", table(head, needs.iter().map(nominal)))
}

fn measured(printer: &Printer, need: &v1::Need) -> [String; 7] {
    let ports: Vec<_> = need.listening_ports.iter().map(u32::to_string).collect();
    let healthy = match need.healthy {
        Some(true) => printer.good("yes"),
        Some(false) => printer.bad("no"),
        None => "-".to_owned(),
    };
    let shared_out =
        need.cpu_shared_out.map_or_else(String::new, |v1::Bounded { lower, upper, .. }| {
            format!(", shared out, {} to {}", cpu(Some(lower)), cpu(Some(upper)))
        });
    let mean = cpu(Some(need.cpu_mean_millicores));
    let told = need.cpu_told_millicores.map(|told| cpu(Some(told)));
    // What is cut by less than a digit is shown as one figure.
    let told = told.filter(|told| *told != mean);
    let cut = told.map_or_else(String::new, |told| format!(", by the hypervisor; {told} as told"));
    [
        safe(&need.application),
        printer.claim(need.in_mix),
        healthy,
        mean + &shared_out + &cut,
        cpu(Some(need.cpu_peak_millicores)),
        bytes(Some(need.memory_peak_bytes)),
        if ports.is_empty() { "-".to_owned() } else { ports.join(" ") },
    ]
}

fn nominal(need: &v1::Need) -> [String; 7] {
    let mix = need.configuration_mix.unwrap_or_default();
    let value = |bounded: Option<v1::Bounded>| bounded.map(|bounded| bounded.value);
    let range = |bounded: Option<v1::Bounded>, shown: fn(Option<u64>) -> String| {
        bounded.map_or_else(
            || "unknown".to_owned(),
            |bounded| format!("{} to {}", shown(Some(bounded.lower)), shown(Some(bounded.upper))),
        )
    };
    let by_trials = |corrected: Option<v1::Corrected>| {
        corrected.map_or_else(String::new, |v1::Corrected { trials, factor }| {
            let s = if trials == 1 { "" } else { "s" };
            format!(", x {factor:.2} by {trials} trial{s}")
        })
    };
    let floor = mix.memory_floor_bytes.map(|floor| format!(", never below {}", bytes(Some(floor))));
    [
        safe(&need.application),
        cpu(value(mix.cpu_millicores)) + &by_trials(mix.cpu_corrected),
        range(mix.cpu_millicores, cpu),
        bytes(value(mix.memory_bytes))
            + &by_trials(mix.memory_corrected)
            + &floor.unwrap_or_default(),
        range(mix.memory_bytes, bytes),
        day(&need.profile),
        need.optimum.as_ref().map_or_else(|| "none yet".to_owned(), optimum),
    ]
}

/// CPU by hour of the day, as bars between nothing and the busiest hour.
fn day(profile: &[v1::Demand]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let Some(most) = profile.iter().map(|demand| demand.cpu_millicores).max() else {
        return "not known yet".to_owned();
    };
    let bar = |demand: &v1::Demand| {
        let step = demand.cpu_millicores.saturating_mul(7).checked_div(most).unwrap_or(0);
        usize::try_from(step).ok().and_then(|step| BARS.get(step)).copied().unwrap_or('▁')
    };
    profile.iter().map(bar).collect()
}

fn optimum(optimum: &v1::Optimum) -> String {
    let size = optimum.size_class.map(|class| format!(" of 2^{class} bytes")).unwrap_or_default();
    format!(
        "{}{size}: {} done, {} failed, {:.3} per s, utility {:.3}",
        safe(&optimum.operation),
        optimum.succeeded,
        optimum.failed,
        optimum.per_second,
        optimum.utility
    )
}
