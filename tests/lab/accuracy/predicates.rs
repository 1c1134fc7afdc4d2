//! The claims about machines, held against a fleet of which is known who is idle, who works with
//! others, who lies and who lost samples.

use aggregator::inference::{Opportunity, Standing};

use super::{fleet, policy, score::Score};
use crate::{
    figure::{Row, Target},
    fleet::{Lie, Machine, Shape, found::findings, samples::watch},
};

/// A fleet with the idle, liars and loss.
pub(super) fn measure(machines: usize) -> Vec<Row> {
    let shape = |shape| Shape { noisy: 0.2, lossy: (0.05, 0.15), liars: 0.08, idle: 0.03, ..shape };
    let fleet = fleet(machines, shape);
    let policy = policy();
    let watched = watch(&fleet, &policy, 3);
    let found = findings(&watched.windows, &fleet.catalogue(), &policy);
    let participating = fleet.participating();
    let mut scores = [Score::default(); 4];
    let mut false_candidates = Score::default();
    let mut lies = [Score::default(); Lie::ALL.len()];
    for (index, machine) in fleet.machines.iter().enumerate() {
        let Some(standing) = found.machines.get(&machine.vm) else { continue };
        let is_active = !machine.applications.is_empty();
        let is_honest = machine.lie.is_none();
        let may_change = is_honest && machine.loses == 0.0;
        scores[0].count(standing.active.holds, is_active);
        scores[1].count(standing.participating.holds, participating.contains(&index));
        scores[2].count(standing.trusted.holds, is_honest);
        scores[3].count(can_carry_more(standing), may_change && has_room(machine));
        false_candidates.count(standing.candidate.holds, may_change);
        for ((lie, _), score) in Lie::ALL.iter().zip(&mut lies) {
            if machine.lie == Some(*lie) {
                score.count(!standing.trusted.holds, true);
            }
        }
    }
    let what = |name: &str| format!("predicates, {machines} machines, {name}");
    let mut rows = Vec::new();
    for (name, score) in ["active", "participating", "trusted"].iter().zip(scores) {
        rows.extend(score.rows(&what(name), None, Some(0.95)));
        rows.extend(score.confusion(&what(name)));
    }
    rows.extend(scores[3].rows(&what("candidate that can carry more"), Some(1.0), Some(0.95)));
    rows.extend(scores[3].confusion(&what("candidate that can carry more")));
    let wrong = false_candidates.wrong as f64;
    let row = Row::new(format!("{}: liars and losers among them", what("candidates")), wrong, "-");
    rows.push(row.held_to(Target::AtMost(0.0)));
    for ((_, name), score) in Lie::ALL.iter().zip(lies) {
        let count = score.right + score.missed;
        if count > 0 {
            let name = what(&format!("{count} that {name}"));
            rows.push(Row::new(format!("{name}: found out"), score.recall(), "share"));
        }
    }
    rows
}

fn can_carry_more(standing: &Standing) -> bool {
    let is_more = |found: &Opportunity| matches!(found, Opportunity::MixUp { .. });
    standing.candidate.holds && standing.opportunities.iter().any(is_more)
}

/// Whether of CPU and memory more is free at its peak than the policy leaves free.
pub(super) fn has_room(machine: &Machine) -> bool {
    let at = crate::fleet::BEGIN;
    let used = machine.applications.iter().map(|application| {
        let peak = application.cpu.0 as f64 * crate::fleet::joined::swing(application, at);
        (peak, application.memory.0 as f64)
    });
    let (cpu, memory) = used.fold((0.0, 0.0), |sum, used| (sum.0 + used.0, sum.1 + used.1));
    let free = 1.0 - policy().headroom;
    let given = machine.given;
    let most = |given: Option<u64>| given.unwrap_or(0) as f64 * free;
    cpu <= most(given.cpu.map(|cpu| cpu.0)) && memory <= most(given.memory.map(|memory| memory.0))
}
