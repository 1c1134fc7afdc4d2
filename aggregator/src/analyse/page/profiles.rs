//! Demand by hour of the day: a small picture for each machine, all on the scale of what it is given.

use super::text::{escaped, more};
use crate::analyse::{Analysis, hours::Hours};

/// Machines that are drawn: those that use most.
const DRAWN: usize = 48;
const WIDTH: f64 = 168.0;
const HEIGHT: f64 = 56.0;

pub(super) fn drawn(analysis: &Analysis) -> String {
    let peak = |hours: &Hours| hours.most.iter().flatten().map(|cpu| cpu.0).max().unwrap_or(0);
    let mut busiest: Vec<_> = analysis.hours.iter().collect();
    if busiest.is_empty() {
        return String::new();
    }
    busiest.sort_by_key(|(_, hours)| std::cmp::Reverse(peak(hours)));
    let mut text = String::from(
        "<p>CPU by hour, midnight to midnight UTC: dark the mean, light the most of one window. The \
         frame's height is what the machine is given, or its own peak where that is not known.</p><div \
         class=\"grid\">",
    );
    for (vm, hours) in busiest.iter().take(DRAWN) {
        let standing = analysis.findings.machines.get(*vm);
        let name = escaped(standing.map_or(vm.as_str(), |standing| &standing.name));
        let given = standing.and_then(|standing| standing.allocation.cpu).map(|cpu| cpu.0);
        let full = given.unwrap_or_else(|| peak(hours)).max(1);
        text.push_str("<figure>");
        bars(&mut text, hours, full);
        text.push_str(&format!("<figcaption title=\"{name}\">{name}</figcaption></figure>"));
    }
    text.push_str("</div>");
    text + &more(busiest.len(), DRAWN, "machines")
}

fn bars(text: &mut String, hours: &Hours, full: u64) {
    text.push_str(&format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" role=\"img\">"
    ));
    let each = WIDTH / 24.0;
    for (values, colour) in [(&hours.most, "#c9d8ea"), (&hours.mean, "#2f6db3")] {
        let mut x = 0.0;
        for value in values {
            if let Some(cpu) = value {
                let high = (share(cpu.0, full) * HEIGHT).min(HEIGHT);
                text.push_str(&format!(
                    "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{high:.1}\" \
                     fill=\"{colour}\"><title>{cpu}</title></rect>",
                    x + 0.5,
                    HEIGHT - high,
                    each - 1.0
                ));
            }
            x += each;
        }
    }
    text.push_str("</svg>");
}

#[expect(clippy::cast_precision_loss, reason = "a picture has three digits")]
pub(super) fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}
