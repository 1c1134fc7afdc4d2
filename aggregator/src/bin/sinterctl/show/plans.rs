//! Plans as people read them: the diff first, what is taken away before what is added.

use common::{
    units::{Bytes, Millicores, figure},
    wire::admin::v1,
};

use super::{left_alone, moment};
use crate::print::{Printer, safe, table};

pub(crate) fn plans(printer: &Printer, plans: &[v1::Plan]) -> String {
    if plans.is_empty() {
        return "no plan; `sinterctl findings` says why each machine is left alone\n".to_owned();
    }
    table(
        ["plan", "stage", "made", "goal", "summary"],
        plans.iter().map(|plan| {
            [
                plan.plan.clone(),
                stage(printer, &plan.stage),
                moment(plan.made_at_unix_ms),
                plan.goal.clone(),
                safe(&plan.summary),
            ]
        }),
    )
}

fn stage(printer: &Printer, stage: &str) -> String {
    match stage {
        "completed" => printer.good(stage),
        "stranded" | "rolled_back" | "rolling_back" => printer.bad(stage),
        _ => stage.to_owned(),
    }
}

fn amount(before: Option<u64>, after: Option<u64>, show: impl Fn(u64) -> String) -> String {
    let shown = |value: Option<u64>| value.map_or_else(|| "unknown".to_owned(), &show);
    if before == after { shown(before) } else { format!("{} -> {}", shown(before), shown(after)) }
}

fn diff(printer: &Printer, change: &v1::MachineChange) -> String {
    let mut text = printer.heading(&change.name) + "\n";
    for name in &change.removed {
        text += &format!("  {}\n", printer.bad(&format!("- {name}")));
    }
    for name in &change.added {
        text += &format!("  {}\n", printer.good(&format!("+ {name}")));
    }
    for name in &change.kept {
        text += &format!("    {}\n", safe(name));
    }
    let (before, after) =
        (change.allocation_before.unwrap_or_default(), change.allocation_after.unwrap_or_default());
    let cpu = |millicores| Millicores(millicores).to_string();
    let memory = |bytes| Bytes(bytes).to_string();
    text += &format!("    cpu    {}\n", amount(before.cpu_millicores, after.cpu_millicores, cpu));
    text += &format!("    memory {}\n", amount(before.memory_bytes, after.memory_bytes, memory));
    if change.retired {
        text += &format!("  {}\n", printer.bad("- the machine itself: it is stopped"));
    }
    text
}

pub(crate) fn plan(printer: &Printer, plan: &v1::Plan) -> String {
    let mut text = format!(
        "{}  {}\n{}\n",
        printer.heading(&plan.plan),
        stage(printer, &plan.stage),
        safe(&plan.summary)
    );
    text += &format!(
        "made {} from window {}, basis {}\n\n",
        moment(plan.made_at_unix_ms),
        plan.window,
        plan.basis
    );
    for change in &plan.changes {
        text += &diff(printer, change);
    }
    text += "\n";
    text += &table(
        ["foretold", "now", "then"],
        plan.effects.iter().map(|effect| {
            [
                safe(&effect.name),
                safe(&figure(effect.before, &effect.unit)),
                safe(&figure(effect.after, &effect.unit)),
            ]
        }),
    );
    text += &outlook(printer, plan.outlook);
    text += &reasons(printer, plan);
    text += &table(
        ["step", "phase", "state"],
        plan.steps.iter().map(|step| [safe(&step.text), step.phase.clone(), step.state.clone()]),
    );
    if !plan.measurements.is_empty() {
        text += "\n";
        text += &table(
            ["measured", "value", "threshold", "right"],
            plan.measurements.iter().map(|m| {
                let right = if m.passed { printer.good("yes") } else { printer.bad("no") };
                [
                    safe(&m.name),
                    m.value.map_or_else(
                        || "unknown".to_owned(),
                        |value| safe(&figure(value, &m.unit)),
                    ),
                    safe(&m.threshold),
                    right,
                ]
            }),
        );
    }
    if !plan.course.is_empty() {
        text += &format!("\n{}\n", printer.heading("course"));
        for entry in &plan.course {
            text += &format!("  {}  {}\n", moment(entry.at_unix_ms), safe(&entry.text));
        }
    }
    text
}

/// What planning came to when a plan was made.
fn outlook(printer: &Printer, outlook: Option<v1::Outlook>) -> String {
    let Some(fleet) = outlook else { return String::new() };
    format!(
        "\n{}\n  costs {:.2}, {:.2} after all plans of its window, {:.2} in the end; {}\n",
        printer.heading("the fleet, when it was made"),
        fleet.cost_before,
        fleet.cost_after,
        fleet.cost_of_target,
        bound(fleet.lower_bound, fleet.gap)
    )
}

/// What a plan was decided from.
fn reasons(printer: &Printer, plan: &v1::Plan) -> String {
    let mut text = format!("\n{}\n", printer.heading("evidence"));
    for evidence in &plan.evidence {
        text += &format!("  {} ({} records)\n", safe(&evidence.fact), evidence.records.len());
    }
    text += &format!("  not worth it if {}\n", safe(&plan.not_if));
    for rule in &plan.bound_by {
        text += &format!("  bound: {}\n", safe(rule));
    }
    text + "\n"
}

/// The least that any plan could bring the fleet to, and how far above it the target may be.
fn bound(least: f64, gap: Option<f64>) -> String {
    let gap =
        gap.map_or_else(String::new, |gap| format!(" (at most {:.1} % above it)", gap * 100.0));
    format!("lower bound {least:.2}{gap}")
}

/// How planning goes, in one line.
pub(crate) fn planning(progress: &v1::PlanningProgress) -> String {
    let seconds = std::time::Duration::from_millis(progress.elapsed_ms).as_secs_f64();
    let cost = progress.cost_of_target.zip(progress.lower_bound);
    let found = cost.map_or_else(String::new, |(cost, least)| {
        format!(": costs {cost:.2} in the end, {}", bound(least, progress.gap))
    });
    format!("{seconds:.1} s  {}{found}", safe(&progress.doing))
}

pub(crate) fn what_if(printer: &Printer, answer: &v1::CreatePlanResponse) -> String {
    let mut text = String::new();
    for one in &answer.plans {
        text += &plan(printer, one);
        text += "\n";
    }
    text += &left_alone(&answer.left_alone);
    if !answer.drained.is_empty() {
        let rows = answer.drained.iter().map(|of| [safe(&of.name), safe(&of.reason)]);
        text += &format!("\n{}", table(["to be emptied", "what comes of it"], rows));
    }
    for assumed in &answer.assumed {
        text += &format!("\nassumed: {}", safe(assumed));
    }
    text += "\n";
    let stands = answer.as_it_stands.unwrap_or_default();
    let asked = answer.as_asked.unwrap_or_default();
    let cost =
        |of: fn(&v1::Outlook) -> f64| [stands, asked].map(|side| format!("{:.2}", of(&side)));
    let count = |of: fn(&v1::Outlook) -> u32| [stands, asked].map(|side| of(&side).to_string());
    let rows = [
        ("plans that may run", count(|side| side.plans)),
        ("machines they stop", count(|side| side.retired)),
        ("cost now", cost(|side| side.cost_before)),
        ("cost after these plans", cost(|side| side.cost_after)),
        ("cost of the whole target", cost(|side| side.cost_of_target)),
        ("lower bound", cost(|side| side.lower_bound)),
        (
            "target above it, at most",
            [stands, asked].map(|side| {
                side.gap.map_or_else(|| "-".to_owned(), |gap| format!("{:.1} %", gap * 100.0))
            }),
        ),
    ];
    let rows = rows.map(|(name, [stands, asked])| [name.to_owned(), stands, asked]);
    text + &table(["", "as it stands", "as asked"], rows)
}
