//! The whole loop in a simulated world whose clock is turned: plans are promoted or led back,
//! whatever is refused, lost or silent, and wherever the aggregator dies.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aggregator::{
    catalogue::Application,
    cycle::{At, Ground, SteeringError, WhatIf},
    hypervisor::Power,
    journal::{Event, Stage},
    plan::{Plan, Supposition},
    policy::{Approval, Policy, Verdict},
};
use common::{
    clock::Clock as _,
    id::{PlanId, VmId},
};
use lab::sim::{Aggregator, Death, Fault, How, Rig, app, consolidation, swap, vm};
use tokio::time;

/// So often a hypervisor stays silent that patience with it is over.
const ALL_PATIENCE: u32 = 7;

fn in_place() -> Plan {
    consolidation("p-1", "report", "api")
}

fn by_swap() -> Plan {
    swap("p-1", "report", "api")
}

/// A rig with a plan filed, and how its world looked before.
async fn filed(plan: Plan) -> (Rig, Plan, String) {
    let rig = Rig::new();
    let plan = rig.file(plan).await;
    let before = rig.world.picture();
    (rig, plan, before)
}

async fn approve(aggregator: &Aggregator, plan: &PlanId) {
    aggregator.steering.approve(plan, None, "ann", false).await.unwrap();
}

/// Runs a plan to its end in a world where that goes wrong.
async fn run_with(plan: Plan, faults: impl FnOnce(&Rig, &Plan)) -> (Rig, Plan, String, Stage) {
    let (rig, plan, before) = filed(plan).await;
    faults(&rig, &plan);
    let aggregator = rig.start().await;
    approve(&aggregator, &plan.id).await;
    let stage = rig.until_final(&plan.id).await;
    aggregator.stop().await;
    (rig, plan, before, stage)
}

fn assert_restored(rig: &Rig, before: &str, stage: Stage, what: &str) {
    assert_eq!(stage, Stage::RolledBack, "{what}");
    assert_eq!(rig.world.picture(), before, "{what}");
}

/// How a world looks once the plan is completed.
async fn promoted_picture(plan: Plan) -> String {
    let (rig, _, _, stage) = run_with(plan, |_, _| {}).await;
    assert_eq!(stage, Stage::Completed);
    rig.world.picture()
}

async fn verdicts(rig: &Rig, plan: &PlanId) -> Vec<Verdict> {
    let entries = rig.entries(plan).await;
    let verdicts = entries.into_iter().filter_map(|entry| match entry.event {
        Event::Judged { verdict, .. } => Some(verdict),
        _ => None,
    });
    verdicts.collect()
}

async fn cause(rig: &Rig, plan: &PlanId) -> String {
    let entries = rig.entries(plan).await;
    let cause = entries.into_iter().find_map(|entry| match entry.event {
        Event::Abandoned { cause } => Some(cause),
        _ => None,
    });
    cause.expect("the plan was abandoned")
}

/// No machine of production was touched.
fn assert_production_untouched(rig: &Rig, plan: &Plan) {
    let deeds = rig.world.deeds();
    let live = deeds.iter().find(|deed| deed.vm != plan.clone);
    assert_eq!(live, None, "a machine of production was changed");
}

#[tokio::test(start_paused = true)]
async fn an_approved_plan_is_promoted_in_place_and_kept() {
    let (rig, plan, _, stage) = run_with(in_place(), |_, _| {}).await;

    assert_eq!(stage, Stage::Completed);
    let api = rig.world.machine(&vm("api")).unwrap();
    assert_eq!(api.mix.applications, plan.changes[&vm("api")].mix_after);
    assert_eq!(api.allocation, plan.changes[&vm("api")].allocation_after);
    assert_eq!(rig.world.machine(&vm("report")).unwrap().power, Power::Off);
    assert!(rig.world.clones().is_empty());
    assert!(rig.world.forgotten().contains(&plan.clone));
    assert_eq!(verdicts(&rig, &plan.id).await, [Verdict::Passed, Verdict::Passed]);
}

#[tokio::test(start_paused = true)]
async fn an_approved_plan_is_promoted_by_swap_and_kept() {
    let (rig, plan, _, stage) = run_with(by_swap(), |_, _| {}).await;

    assert_eq!(stage, Stage::Completed);
    let clone = rig.world.machine(&plan.clone).unwrap();
    assert_eq!(clone.mix.applications, plan.changes[&vm("api")].mix_after);
    assert_eq!((clone.power, clone.isolated_in), (Power::On, None));
    assert_eq!(rig.world.machine(&vm("api")).unwrap().power, Power::Off);
}

#[tokio::test(start_paused = true)]
async fn what_was_served_before_the_first_step_is_written_down_and_held_against() {
    let (rig, plan, _, _) = run_with(in_place(), |_, _| {}).await;

    let entries = rig.entries(&plan.id).await;
    let served = entries.iter().find_map(|entry| match &entry.event {
        Event::Baselined { served, .. } => Some(served.clone()),
        _ => None,
    });
    let served = served.unwrap();
    assert_eq!((served.len(), &served[0].application, served[0].port), (1, &app("api"), 8080));
    assert!((served[0].per_second - 2.0).abs() < 0.3, "{served:?}");
    let held = entries.iter().rev().find_map(|entry| match &entry.event {
        Event::Judged { measurements, .. } => Some(measurements.clone()),
        _ => None,
    });
    assert!(held.unwrap().iter().any(|each| each.name.contains("connections to api")));
}

/// Each call that a step of the plan makes, and for which machine.
fn calls(plan: &Plan) -> Vec<(&'static str, Option<VmId>)> {
    let (clone, api, report) = (Some(plan.clone.clone()), Some(vm("api")), Some(vm("report")));
    let swaps = plan.steps.len() == 9;
    let mut calls = vec![
        ("clone_vm", clone.clone()),
        ("isolate", clone.clone()),
        ("start", clone.clone()),
        ("apply", clone.clone()),
        ("probe", None),
    ];
    if swaps {
        calls.push(("promote", clone));
    } else {
        calls.extend([("apply", api.clone()), ("configure", api)]);
    }
    calls.extend([("apply", report.clone()), ("stop", report)]);
    calls
}

#[tokio::test(start_paused = true)]
async fn every_step_that_is_refused_is_undone_to_the_exact_former_world() {
    for make in [in_place, by_swap] {
        for (call, of) in calls(&make()) {
            let what = format!("{call} of {of:?}");
            let (rig, plan, before, stage) = run_with(make(), |rig, _| {
                rig.world.fail_for(call, of.clone(), How::Refuse, 1);
            })
            .await;
            assert_restored(&rig, &before, stage, &what);
            let cause = cause(&rig, &plan.id).await;
            assert!(cause.contains("could not") && cause.contains("not today"), "{cause}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_step_that_is_not_answered_is_undone_to_the_exact_former_world() {
    for make in [in_place, by_swap] {
        for (call, of) in calls(&make()) {
            for how in [How::Silence, How::LoseReply] {
                let what = format!("{how:?} at {call} of {of:?}");
                let times = if call == "apply" { 1 } else { ALL_PATIENCE };
                let (rig, _, before, stage) = run_with(make(), |rig, _| {
                    rig.world.fail_for(call, of.clone(), how, times);
                })
                .await;
                assert_restored(&rig, &before, stage, &what);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_lost_once_costs_nothing() {
    for make in [in_place, by_swap] {
        let promoted = promoted_picture(make()).await;
        for (call, of) in calls(&make()) {
            if call == "apply" {
                continue;
            }
            let (rig, _, _, stage) = run_with(make(), |rig, _| {
                rig.world.fail_for(call, of.clone(), How::LoseReply, 1);
            })
            .await;
            assert_eq!(
                (stage, rig.world.picture()),
                (Stage::Completed, promoted.clone()),
                "{call}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_taken_when_nobody_waits_any_more_is_led_back_too() {
    for late in [5, 35, 50, 58] {
        let (rig, _, before, stage) = run_with(in_place(), |rig, _| {
            let how = How::TakeLate(Duration::from_secs(late));
            rig.world.fail_for("apply", Some(vm("api")), how, 1);
        })
        .await;
        // Whatever is on its way has expired long ago.
        time::sleep(Duration::from_secs(600)).await;
        rig.world.settle(rig.clock.now());
        assert_restored(&rig, &before, stage, &format!("taken after {late} s"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_fails_its_trial_is_never_promoted() {
    let (rig, plan, before, stage) =
        run_with(in_place(), |rig, _| rig.world.set_probe(50, 20)).await;

    assert_restored(&rig, &before, stage, "20 of 50 requests answered");
    assert_production_untouched(&rig, &plan);
    assert_eq!(verdicts(&rig, &plan.id).await, [Verdict::Failed]);
    let cause = cause(&rig, &plan.id).await;
    assert!(
        cause.contains("requests answered at 10.0.0.12:8080: 40 %, must be at least 99"),
        "{cause}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_application_that_falls_ill_on_the_clone_fails_the_trial() {
    let (rig, plan, before) = filed(in_place()).await;
    let aggregator = rig.start().await;
    approve(&aggregator, &plan.id).await;
    rig.until_stage(&plan.id, Stage::Trying).await;
    rig.world.sicken("report", common::clock::Timestamp::default());

    rig.until_stage(&plan.id, Stage::RollingBack).await;
    rig.world.heal();
    let stage = rig.until_final(&plan.id).await;

    assert_restored(&rig, &before, stage, "report is ill");
    assert_eq!(verdicts(&rig, &plan.id).await, [Verdict::Failed]);
    assert_production_untouched(&rig, &plan);
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_saw_too_little_promotes_nothing() {
    let (rig, plan, before, stage) = run_with(in_place(), |rig, _| rig.world.set_probe(0, 0)).await;
    assert_restored(&rig, &before, stage, "no request was made");
    assert_eq!(verdicts(&rig, &plan.id).await, [Verdict::Unproven]);
    assert_production_untouched(&rig, &plan);

    let (rig, plan, before) = filed(in_place()).await;
    let aggregator = rig.start().await;
    approve(&aggregator, &plan.id).await;
    rig.until_stage(&plan.id, Stage::Trying).await;
    rig.world.silence(&plan.clone, true);
    let stage = rig.until_final(&plan.id).await;
    assert_restored(&rig, &before, stage, "the clone's agent fell silent");
    assert_eq!(verdicts(&rig, &plan.id).await, [Verdict::Unproven]);
    assert_production_untouched(&rig, &plan);
}

#[tokio::test(start_paused = true)]
async fn a_mix_that_regresses_while_it_is_audited_is_led_back() {
    type Harm = fn(&Rig);
    let harms: [(&str, Harm); 3] = [
        ("report runs", |rig| rig.world.sicken("report", common::clock::Timestamp::default())),
        ("connections to api", |rig| rig.world.still("api")),
        ("killed for want of memory", |rig| rig.world.kill_in(&vm("api"))),
    ];
    for (what, harm) in harms {
        let (rig, plan, before) = filed(in_place()).await;
        let aggregator = rig.start().await;
        approve(&aggregator, &plan.id).await;
        rig.until_stage(&plan.id, Stage::Auditing).await;
        // Into the first window that is wholly after the promotion.
        time::sleep(Duration::from_secs(12)).await;
        harm(&rig);

        rig.until_stage(&plan.id, Stage::RollingBack).await;
        rig.world.heal();
        let stage = rig.until_final(&plan.id).await;

        assert_restored(&rig, &before, stage, what);
        assert_eq!(verdicts(&rig, &plan.id).await, [Verdict::Passed, Verdict::Failed], "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_mix_that_nobody_can_see_working_is_led_back() {
    let (rig, plan, before) = filed(in_place()).await;
    let aggregator = rig.start().await;
    approve(&aggregator, &plan.id).await;
    rig.until_stage(&plan.id, Stage::Auditing).await;
    rig.world.silence(&vm("api"), true);

    rig.until_stage(&plan.id, Stage::RollingBack).await;
    rig.world.silence(&vm("api"), false);
    let stage = rig.until_final(&plan.id).await;

    assert_restored(&rig, &before, stage, "the agent of api fell silent");
    assert_eq!(verdicts(&rig, &plan.id).await, [Verdict::Passed, Verdict::Unproven]);
}

/// Runs a plan through a death and a new start, and says whether there was a death.
async fn survives(plan: Plan, death: Death, harm: fn(&Rig)) -> (Rig, Plan, String, Stage, bool) {
    let (rig, plan, before) = filed(plan).await;
    harm(&rig);
    let mortal = rig.start_to_die(death).await;
    let line = mortal.line.clone();
    let (steering, id) = (mortal.steering.clone(), plan.id.clone());
    let mut asks = tokio::task::JoinSet::new();
    // Whoever asks a dead aggregator never hears from it.
    asks.spawn(async move { steering.approve(&id, None, "ann", false).await });
    rig.until("it is dead, or the plan is over", async || {
        (line.is_cut() || rig.stage(&plan.id).await.is_final()).then_some(())
    })
    .await;
    let has_died = line.is_cut();
    mortal.kill().await;
    asks.shutdown().await;

    let heir = rig.start().await;
    if rig.stage(&plan.id).await == Stage::Proposed {
        approve(&heir, &plan.id).await;
    }
    let stage = rig.until_final(&plan.id).await;
    heir.stop().await;
    (rig, plan, before, stage, has_died)
}

/// Kills the aggregator at every place there is, and looks at what is left of the plan.
async fn kill_everywhere(
    make: fn() -> Plan,
    deaths: fn(usize) -> Death,
    harm: fn(&Rig),
    ends: Stage,
) {
    let promoted = promoted_picture(make()).await;
    for place in 1.. {
        let death = deaths(place);
        let (rig, plan, before, stage, has_died) = survives(make(), death, harm).await;
        assert_eq!(stage, ends, "{death:?}");
        let expected = if stage == Stage::Completed { &promoted } else { &before };
        assert_eq!(rig.world.picture(), *expected, "{death:?}");
        let mut done = BTreeMap::new();
        for deed in rig.world.deeds() {
            let is_promotion = deed.call == "promote" || deed.call == "apply";
            *done.entry((deed.call, deed.vm, deed.generation)).or_insert(0) +=
                u32::from(is_promotion);
        }
        let twice: Vec<_> = done.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "{death:?} did {twice:?} of {} more than once", plan.id);
        if !has_died {
            assert!(place > 7, "it was killed at {place} places only");
            return;
        }
    }
}

fn after_events(place: usize) -> Death {
    Death::AfterEvents(place as u64)
}

#[tokio::test(start_paused = true)]
async fn a_death_after_any_entry_of_the_journal_ends_in_a_promotion_made_once() {
    kill_everywhere(in_place, after_events, |_| {}, Stage::Completed).await;
    kill_everywhere(by_swap, after_events, |_| {}, Stage::Completed).await;
}

#[tokio::test(start_paused = true)]
async fn a_death_after_any_deed_before_its_reply_ends_in_a_promotion_made_once() {
    kill_everywhere(in_place, Death::AfterDeeds, |_| {}, Stage::Completed).await;
    kill_everywhere(by_swap, Death::AfterDeeds, |_| {}, Stage::Completed).await;
}

#[tokio::test(start_paused = true)]
async fn a_death_anywhere_on_the_way_back_still_leads_back() {
    fn refuse_the_last(rig: &Rig) {
        rig.world.fail_for("stop", Some(vm("report")), How::Refuse, u32::MAX);
    }
    kill_everywhere(in_place, after_events, refuse_the_last, Stage::RolledBack).await;
    kill_everywhere(by_swap, after_events, refuse_the_last, Stage::RolledBack).await;
    kill_everywhere(in_place, Death::AfterDeeds, refuse_the_last, Stage::RolledBack).await;
}

#[tokio::test(start_paused = true)]
async fn an_aggregator_that_is_stopped_amid_a_trial_goes_on_after_the_next_start() {
    for stop_in in [Stage::Assembling, Stage::Trying, Stage::Promoting, Stage::Auditing] {
        let (rig, plan, _) = filed(in_place()).await;
        let first = rig.start().await;
        approve(&first, &plan.id).await;
        rig.until_stage(&plan.id, stop_in).await;
        let asked_to_stop = time::Instant::now();
        first.stop().await;
        let took = asked_to_stop.elapsed();
        assert!(took < Duration::from_secs(10), "{stop_in:?} kept it for {took:?}");

        let second = rig.start().await;
        assert_eq!(rig.until_final(&plan.id).await, Stage::Completed, "{stop_in:?}");
        second.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_whose_basis_changed_before_it_began_is_superseded() {
    for is_approved in [false, true] {
        let (rig, plan, _) = filed(in_place()).await;
        let aggregator = rig.start().await;
        if is_approved {
            approve(&aggregator, &plan.id).await;
        }
        rig.world.meddle(&vm("api"), |api| {
            api.labels.insert("sinter:never-touch".into());
        });

        rig.until_stage(&plan.id, Stage::Superseded).await;

        let refused = aggregator.steering.approve(&plan.id, None, "ann", false).await;
        assert!(matches!(refused, Err(SteeringError::Stage { stage: Stage::Superseded, .. })));
        assert!(rig.world.deeds().is_empty());
        aggregator.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_is_approved_only_as_it_was_looked_at() {
    let (rig, plan, _) = filed(in_place()).await;
    let aggregator = rig.start().await;
    let steering = &aggregator.steering;

    let other = steering.approve(&plan.id, Some("00ff00ff00ff00ff"), "ann", false).await;
    assert!(matches!(other, Err(SteeringError::Basis { .. })));
    let whole = common::mix::MixHash([7; 32]);
    let other = steering.approve(&plan.id, Some(&whole.to_string()), "ann", true).await;
    assert!(matches!(other, Err(SteeringError::Basis { .. })));
    let nobody = steering.approve(&"p-9".parse().unwrap(), None, "ann", false).await;
    assert!(matches!(nobody, Err(SteeringError::NoPlan(_))));
    steering.approve(&plan.id, Some(&plan.basis.to_string()), "ann", true).await.unwrap();
    assert_eq!(rig.stage(&plan.id).await, Stage::Proposed, "it was only asked whether");

    steering.approve(&plan.id, Some(&plan.basis.to_string()), "ann", false).await.unwrap();
    assert_eq!(rig.stage(&plan.id).await, Stage::Approved);
    let again = steering.approve(&plan.id, None, "ann", false).await;
    assert!(matches!(again, Err(SteeringError::Stage { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_is_refused_or_cancelled_before_a_decision_is_rejected() {
    let (rig, plan, before) = filed(in_place()).await;
    let aggregator = rig.start().await;
    aggregator.steering.reject(&plan.id, "not now", "ann", true).await.unwrap();
    assert_eq!(rig.stage(&plan.id).await, Stage::Proposed);
    aggregator.steering.reject(&plan.id, "not now", "ann", false).await.unwrap();
    assert_eq!(rig.stage(&plan.id).await, Stage::Rejected);
    let again = aggregator.steering.cancel(&plan.id, "twice", "ann", false).await;
    assert!(matches!(again, Err(SteeringError::Stage { .. })));
    assert_eq!(rig.world.picture(), before);
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_is_cancelled_anywhere_is_led_back() {
    for stage in
        [Stage::Approved, Stage::Assembling, Stage::Trying, Stage::Promoting, Stage::Auditing]
    {
        let (rig, plan, before) = filed(in_place()).await;
        let aggregator = rig.start().await;
        approve(&aggregator, &plan.id).await;
        rig.until_stage(&plan.id, stage).await;

        aggregator.steering.cancel(&plan.id, "second thoughts", "ann", true).await.unwrap();
        assert_eq!(rig.stage(&plan.id).await, stage, "it was only asked whether");
        aggregator.steering.cancel(&plan.id, "second thoughts", "ann", false).await.unwrap();
        let ended = rig.until_final(&plan.id).await;

        assert_restored(&rig, &before, ended, &format!("cancelled while {stage:?}"));
        let cause = cause(&rig, &plan.id).await;
        assert_eq!(cause, "cancelled by ann: second thoughts");
        aggregator.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_live_plan_is_rolled_back_while_it_is_audited_and_only_then() {
    let (rig, plan, before) = filed(by_swap()).await;
    let aggregator = rig.start().await;
    let roll_back = async || aggregator.steering.roll_back(&plan.id, "slow", "ann", false).await;
    assert!(matches!(roll_back().await, Err(SteeringError::Stage { .. })));
    approve(&aggregator, &plan.id).await;
    rig.until_stage(&plan.id, Stage::Trying).await;
    assert!(matches!(roll_back().await, Err(SteeringError::Stage { .. })));
    rig.until_stage(&plan.id, Stage::Auditing).await;

    roll_back().await.unwrap();
    let stage = rig.until_final(&plan.id).await;

    assert_restored(&rig, &before, stage, "rolled back");
    assert!(matches!(roll_back().await, Err(SteeringError::Stage { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_cannot_be_undone_strands_and_goes_on_once_a_person_has_looked() {
    let (rig, plan, before) = filed(in_place()).await;
    rig.world.fail_for("stop", Some(vm("report")), How::Refuse, 1);
    // The first one passes: it is the way forward.
    let (call, of) = ("configure", Some(vm("api")));
    rig.world.fail_later(Fault { call, vm: of, how: How::Refuse, after: 1, times: u32::MAX });
    let aggregator = rig.start().await;
    approve(&aggregator, &plan.id).await;
    assert_eq!(rig.until_final(&plan.id).await, Stage::Stranded);
    assert!(aggregator.steering.busy().contains(&vm("api")), "nobody else touches its machines");
    let text = aggregator.notices().into_iter().map(|notice| notice.text).collect::<String>();
    assert!(text.contains("sinterctl plan rollback p-1"), "{text}");

    rig.world.heal();
    aggregator.steering.roll_back(&plan.id, "mended", "ann", false).await.unwrap();
    rig.until_stage(&plan.id, Stage::RolledBack).await;

    assert_eq!(rig.world.picture(), before);
    rig.until("its machines are free", async || {
        aggregator.steering.busy().is_empty().then_some(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn no_plan_begins_while_the_hypervisor_does_not_answer() {
    let (rig, plan, before) = filed(in_place()).await;
    rig.world.set_reachable(false);
    let aggregator = rig.start().await;
    approve(&aggregator, &plan.id).await;

    rig.until("windows close all the same", async || {
        (aggregator.count("window_closed") >= 4).then_some(())
    })
    .await;
    assert_eq!(rig.stage(&plan.id).await, Stage::Approved);
    assert_eq!(rig.world.picture(), before);
    assert_eq!(aggregator.count("hypervisor_unreachable"), 1);

    rig.world.set_reachable(true);
    assert_eq!(rig.until_final(&plan.id).await, Stage::Completed);
    assert_eq!(aggregator.count("hypervisor_reachable"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_takes_long_keeps_no_window_from_closing() {
    let (rig, plan, _) = filed(in_place()).await;
    rig.world.fail("clone_vm", How::Stall(Duration::from_secs(300)));
    let aggregator = rig.start().await;
    approve(&aggregator, &plan.id).await;
    rig.until_stage(&plan.id, Stage::Assembling).await;
    let closed = aggregator.count("window_closed");

    time::sleep(Duration::from_secs(200)).await;

    assert_eq!(rig.stage(&plan.id).await, Stage::Assembling);
    assert!(aggregator.count("window_closed") >= closed + 19);
    assert_eq!(rig.until_final(&plan.id).await, Stage::Completed);
}

/// When a plan began and when it ended.
async fn span(rig: &Rig, plan: &PlanId) -> (u64, u64) {
    let entries = rig.entries(plan).await;
    let begun = entries.iter().find(|entry| matches!(entry.event, Event::Asked { .. })).unwrap();
    (begun.at.as_millis(), entries.last().unwrap().at.as_millis())
}

#[tokio::test(start_paused = true)]
async fn plans_of_one_group_run_one_after_the_other_however_many_may_run() {
    for at_once in [1, 2] {
        let mut rig = Rig::new();
        rig.settings.policy = Policy { plans_at_once: at_once, ..rig.settings.policy };
        let one = rig.file(consolidation("p-1", "report", "api")).await;
        let other = rig.file(consolidation("p-2", "idle", "store")).await;
        let aggregator = rig.start().await;
        approve(&aggregator, &one.id).await;
        approve(&aggregator, &other.id).await;

        assert_eq!(rig.until_final(&one.id).await, Stage::Completed);
        assert_eq!(rig.until_final(&other.id).await, Stage::Completed);

        let ((a_from, a_to), (b_from, b_to)) =
            (span(&rig, &one.id).await, span(&rig, &other.id).await);
        assert!(a_to <= b_from || b_to <= a_from, "{at_once} at once");
        aggregator.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_cannot_be_removed_holds_nobody_up_and_goes_in_the_end() {
    let rig = Rig::new();
    let one = rig.file(consolidation("p-1", "report", "api")).await;
    let other = rig.file(consolidation("p-2", "idle", "store")).await;
    rig.world.fail_for("remove", Some(one.clone.clone()), How::Refuse, 8);
    let aggregator = rig.start().await;
    approve(&aggregator, &one.id).await;
    rig.until_stage(&one.id, Stage::Completing).await;
    approve(&aggregator, &other.id).await;

    assert_eq!(rig.until_final(&other.id).await, Stage::Completed);
    assert_eq!(rig.stage(&one.id).await, Stage::Completing);
    let late = aggregator.steering.cancel(&one.id, "too late", "ann", false).await;
    assert!(matches!(late, Err(SteeringError::Stage { .. })));

    assert_eq!(rig.until_final(&one.id).await, Stage::Completed);
    assert!(rig.world.clones().is_empty());
}

#[tokio::test(start_paused = true)]
async fn two_plans_never_touch_one_machine_at_once() {
    let mut rig = Rig::new();
    rig.settings.policy = Policy { plans_at_once: 2, ..rig.settings.policy };
    let one = rig.file(consolidation("p-1", "report", "api")).await;
    let other = rig.file(consolidation("p-2", "idle", "api")).await;
    let aggregator = rig.start().await;
    approve(&aggregator, &one.id).await;
    approve(&aggregator, &other.id).await;
    rig.until_stage(&one.id, Stage::Trying).await;
    assert_eq!(rig.stage(&other.id).await, Stage::Approved);

    assert_eq!(rig.until_final(&one.id).await, Stage::Completed);
    // What it was made from is no more.
    assert_ne!(rig.until_final(&other.id).await, Stage::Completed);
    aggregator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_holds_all_up_and_loses_nothing() {
    let (rig, plan, _) = filed(in_place()).await;
    let aggregator = rig.start().await;
    approve(&aggregator, &plan.id).await;
    rig.until_stage(&plan.id, Stage::Trying).await;

    rig.store.fill(6);

    assert_eq!(rig.until_final(&plan.id).await, Stage::Completed);
    aggregator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn settings_are_remembered_before_they_count() {
    let rig = Rig::new();
    let aggregator = rig.start().await;
    let steering = &aggregator.steering;

    let policy = Policy { headroom: 0.4, ..steering.settings().policy };
    steering.set_policy(policy.clone()).await.unwrap();
    steering.set_scope(&vm("api"), Some("it is ours".into())).await.unwrap();
    let bad = steering.set_policy(Policy { headroom: 4.0, ..policy.clone() }).await;
    assert!(matches!(bad, Err(SteeringError::Policy(_))));
    aggregator.stop().await;

    let next = rig.start().await;
    assert_eq!(next.steering.settings().policy, policy);
    assert_eq!(next.steering.settings().scope.opted_out[&vm("api")], "it is ours");
    next.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_steers_a_cycle_that_has_ended_is_told_so() {
    let (rig, plan, _) = filed(in_place()).await;
    let aggregator = rig.start().await;
    let steering = aggregator.steering.clone();
    aggregator.stop().await;
    let late = steering.approve(&plan.id, None, "ann", false).await;
    assert!(matches!(late, Err(SteeringError::Ended)));
}

#[tokio::test(start_paused = true)]
async fn decisions_stand_in_the_audit_log() {
    let (rig, plan, _, _) = run_with(in_place(), |_, _| {}).await;
    let rows = rig.repository().audit_log(1, 100).await.unwrap();
    let of_plan: Vec<_> = rows.iter().filter(|row| row.subject == plan.id.as_str()).collect();
    assert_eq!((of_plan[0].actor.as_str(), of_plan[0].action.as_str()), ("ann", "plan approve"));
    let stages: Vec<_> = of_plan.iter().filter(|row| row.action == "plan stage").collect();
    assert_eq!(stages.last().unwrap().detail, "Completing to Completed");
}

/// A fleet whose `report` may go elsewhere, and a policy that says yes by itself.
fn left_to_itself(approval: Approval) -> Rig {
    let mut rig = Rig::new();
    let report = Application { movable: true, ..Application::default() };
    rig.settings.catalogue.0.insert(app("report"), report);
    rig.settings.policy = Policy { approval, ..rig.settings.policy };
    rig
}

/// The first plan that is proposed.
async fn proposed(rig: &Rig) -> PlanId {
    rig.until("a plan is proposed", async || {
        rig.repository().plans().await.unwrap().pop().map(|plan| plan.id)
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_fleet_is_consolidated_by_itself_and_then_left_in_peace() {
    let rig = left_to_itself(Approval::Automatic);
    let aggregator = rig.start().await;

    let plan = proposed(&rig).await;
    assert_eq!(rig.until_final(&plan).await, Stage::Completed);
    assert_eq!(rig.world.machine(&vm("report")).unwrap().power, Power::Off);
    let done = rig.world.picture();

    time::sleep(Duration::from_secs(1800)).await;
    assert_eq!(rig.world.picture(), done);
    assert_eq!(rig.repository().plans().await.unwrap().len(), 1);
    aggregator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_failed_is_tried_again_ever_more_seldom() {
    let rig = left_to_itself(Approval::Automatic);
    rig.world.fail_for("stop", Some(vm("report")), How::Refuse, u32::MAX);
    let aggregator = rig.start().await;

    time::sleep(Duration::from_secs(3600)).await;

    let mut made: Vec<_> = rig.repository().plans().await.unwrap();
    made.sort_by_key(|plan| plan.made_at);
    // Every other one: the second may go to another machine, which has failed at nothing yet.
    let gaps: Vec<_> = made.windows(3).map(|few| few[2].made_at.since(few[0].made_at)).collect();
    assert!((3..8).contains(&made.len()), "{} plans", made.len());
    assert!(gaps.is_sorted(), "{gaps:?}");
    aggregator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_failed_before_it_changed_anything_is_not_made_again() {
    let rig = left_to_itself(Approval::Automatic);
    rig.world.fail_for("clone_vm", None, How::Refuse, u32::MAX);
    let aggregator = rig.start().await;

    time::sleep(Duration::from_secs(3600)).await;

    let plans = rig.repository().plans().await.unwrap();
    assert_eq!(plans.len(), 1, "{plans:#?}");
    assert_eq!(rig.stage(&plans[0].id).await, Stage::RolledBack);
    aggregator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_a_person_refused_is_not_proposed_again() {
    let rig = left_to_itself(Approval::Manual);
    let aggregator = rig.start().await;
    let plan = proposed(&rig).await;
    aggregator.steering.reject(&plan, "report stays", "ann", false).await.unwrap();

    // Under another basis it would be another plan with the same outcome.
    let policy = Policy { headroom: 0.31, ..rig.settings.policy.clone() };
    aggregator.steering.set_policy(policy).await.unwrap();
    time::sleep(Duration::from_secs(600)).await;

    assert_eq!(rig.repository().plans().await.unwrap().len(), 1);
    aggregator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_proposed_from_a_window_that_was_watched_by_half() {
    let mut rig = left_to_itself(Approval::Manual);
    rig.settings.policy =
        Policy { windows_needed: 1, coverage_minimum: 0.1, ..rig.settings.policy };
    time::sleep(Duration::from_secs(5)).await;
    let aggregator = rig.start().await;
    let plan = proposed(&rig).await;
    let plan = rig.repository().plan(&plan).await.unwrap().unwrap();
    assert_eq!(plan.window.as_str(), "w-1700000010");
    assert!(aggregator.count("window_closed") >= 2);
    aggregator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_takes_up_the_windows_and_proposes_only_after_a_full_one() {
    let rig = left_to_itself(Approval::Manual);
    let first = rig.start().await;
    time::sleep(Duration::from_secs(8)).await;
    first.kill().await;
    time::sleep(Duration::from_secs(17)).await;

    let second = rig.start().await;
    let plan = proposed(&rig).await;
    let plan = rig.repository().plan(&plan).await.unwrap().unwrap();

    let restarted_at = 1_700_000_025;
    let window: u64 = plan.window.as_str()[2..].parse().unwrap();
    assert!(window >= restarted_at, "{window}");
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn no_plan_is_made_while_the_hypervisor_does_not_answer_and_the_reason_is_given() {
    let rig = left_to_itself(Approval::Automatic);
    let aggregator = rig.start().await;
    time::sleep(Duration::from_secs(5)).await;
    rig.world.set_reachable(false);

    time::sleep(Duration::from_secs(120)).await;

    assert!(rig.repository().plans().await.unwrap().is_empty());
    let planned = rig.repository().latest_planned().await.unwrap().unwrap();
    let reason = &planned.left_alone[&vm("api")];
    assert!(reason.contains("the hypervisor does not answer"), "{reason}");
    aggregator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_if_plans_under_another_policy_and_stores_nothing() {
    let mut rig = left_to_itself(Approval::Manual);
    rig.settings.policy = Policy { gain_per_disruption: 1e6, ..rig.settings.policy };
    let aggregator = rig.start().await;
    rig.until("windows closed", async || (aggregator.count("window_closed") >= 3).then_some(()))
        .await;

    let ask = async |policy: &Policy, supposition| {
        let asked = WhatIf::now(policy.clone(), supposition);
        aggregator.steering.what_if(asked).await.unwrap().planned
    };
    let as_set = ask(&rig.settings.policy, Supposition::default()).await;
    let other = Policy { gain_per_disruption: 0.01, ..rig.settings.policy.clone() };
    let otherwise = ask(&other, Supposition::default()).await;
    let emptied = otherwise.plans.iter().flat_map(|plan| &plan.changes);
    let drained = emptied.filter(|(_, change)| change.retired).map(|(vm, _)| vm.clone()).collect();
    let ordered =
        ask(&rig.settings.policy, Supposition { drained, ..Supposition::default() }).await;

    assert_eq!((as_set.plans.len(), otherwise.plans.len()), (0, 1));
    assert_eq!(ordered.plans.len(), 1, "what is to be emptied need not pay");
    assert!(rig.repository().plans().await.unwrap().is_empty());
    aggregator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_past_fleet_is_planned_on_as_it_was_and_one_that_is_not_kept_is_refused() {
    let rig = left_to_itself(Approval::Automatic);
    let aggregator = rig.start().await;
    let made = proposed(&rig).await;
    let made = rig.repository().plan(&made).await.unwrap().unwrap();
    assert_eq!(rig.until_final(&made.id).await, Stage::Completed);
    time::sleep(Duration::from_secs(60)).await;
    let policy = &rig.settings.policy;
    let ask = async |ground: Option<Arc<Ground>>| {
        let asked = WhatIf::now(policy.clone(), Supposition::default());
        aggregator.steering.what_if(WhatIf { ground, ..asked }).await.unwrap()
    };
    let read = std::sync::Mutex::new(Vec::new());
    let told = |number, of| read.lock().unwrap().push((number, of));

    let now = ask(None).await.planned;
    let ground = aggregator.steering.ground(&At::Window(made.window.clone()), told).await.unwrap();
    let then = ask(Some(Arc::new(ground))).await;
    let row = rig.repository().window(&made.window).await.unwrap().unwrap();
    let by_time = aggregator.steering.ground(&At::Time(row.closed_at), |_, _| {}).await.unwrap();
    let by_time = ask(Some(Arc::new(by_time))).await;

    assert!(now.plans.is_empty(), "it is done");
    assert_eq!(then.planned.plans.len(), 1);
    assert_eq!(then.planned.plans[0].moves, made.moves);
    assert_eq!(by_time, then);
    assert!(then.assumed[0].contains(made.window.as_str()), "{:?}", then.assumed);
    let read = read.into_inner().unwrap();
    assert_eq!(read.last().map(|(number, of)| number == of), Some(true));
    let oldest = rig.repository().oldest_window().await.unwrap().unwrap().id;
    let before = At::Time(common::clock::Timestamp::from_millis(1));
    for at in [At::Window("w-1".parse().unwrap()), before] {
        let refused = aggregator.steering.ground(&at, |_, _| {}).await.unwrap_err().to_string();
        assert!(refused.contains(&format!("the oldest that is kept is {oldest}")), "{refused}");
    }
    aggregator.stop().await;
}
