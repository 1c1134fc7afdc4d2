//! Plans and configuration lists.

use std::time::Duration;

use common::wire::admin::v1::{
    self, plan_service_client::PlanServiceClient, watch_planning_response::Told,
};
use tonic::transport::Channel;

use super::settings::values;
use crate::{
    arguments::{AddedMachine, Change, Ending, Otherwise, PlanCommand},
    failure::Failure,
    print::Printer,
    show,
};

/// Largest answer that is taken: all plans with their diffs and evidence.
const LARGEST_ANSWER: usize = 64 << 20;
/// How often a plan is looked at while one waits for its end.
const LOOK_EVERY: Duration = Duration::from_millis(500);

fn client(channel: Channel) -> PlanServiceClient<Channel> {
    PlanServiceClient::new(channel).max_decoding_message_size(LARGEST_ANSWER)
}

pub(super) async fn list(channel: Channel, printer: &Printer) -> Result<(), Failure> {
    let answer = client(channel).list_plans(v1::ListPlansRequest::default()).await?.into_inner();
    let people =
        |printer: &Printer, answer: &v1::ListPlansResponse| show::plans(printer, &answer.plans);
    Ok(printer.answer("ListPlansResponse", &answer, people)?)
}

pub(super) async fn one(
    channel: Channel,
    printer: &Printer,
    command: &PlanCommand,
) -> Result<(), Failure> {
    let mut client = client(channel);
    match command {
        PlanCommand::Show { plan } => {
            let request = v1::GetPlanRequest { plan: plan.clone() };
            let answer = client.get_plan(request).await?.into_inner();
            Ok(printer.answer("GetPlanResponse", &answer, |printer, answer| {
                answer.plan.as_ref().map_or_else(String::new, |plan| show::plan(printer, plan))
            })?)
        }
        PlanCommand::Approve { plan, basis, change, wait } => {
            approve(&mut client, printer, (plan, basis.as_deref()), change).await?;
            if *wait && !change.dry_run {
                until_ended(&mut client, printer, plan).await
            } else {
                Ok(())
            }
        }
        PlanCommand::Reject(Ending { plan, reason, change }) => {
            let request = v1::RejectPlanRequest {
                plan: plan.clone(),
                reason: reason.clone(),
                request_id: change.request(),
                validate_only: change.dry_run,
            };
            let answer = client.reject_plan(request).await?.into_inner();
            let told = change.told(&format!("plan {plan} is rejected"));
            Ok(printer.answer("RejectPlanResponse", &answer, |_, _| told)?)
        }
        PlanCommand::Cancel(Ending { plan, reason, change }) => {
            let request = v1::CancelPlanRequest {
                plan: plan.clone(),
                reason: reason.clone(),
                request_id: change.request(),
                validate_only: change.dry_run,
            };
            let answer = client.cancel_plan(request).await?.into_inner();
            let told = change.told(&format!("plan {plan} is cancelled; what it did is undone"));
            Ok(printer.answer("CancelPlanResponse", &answer, |_, _| told)?)
        }
        PlanCommand::Rollback(Ending { plan, reason, change }) => {
            let request = v1::RollBackPlanRequest {
                plan: plan.clone(),
                reason: reason.clone(),
                request_id: change.request(),
                validate_only: change.dry_run,
            };
            let answer = client.roll_back_plan(request).await?.into_inner();
            let told = change.told(&format!("plan {plan} is being rolled back"));
            Ok(printer.answer("RollBackPlanResponse", &answer, |_, _| told)?)
        }
        PlanCommand::WhatIf(otherwise) => what_if(&mut client, printer, (otherwise, &[])).await,
        PlanCommand::Drain { drain, otherwise } => {
            what_if(&mut client, printer, (otherwise, drain)).await
        }
    }
}

async fn what_if(
    client: &mut PlanServiceClient<Channel>,
    printer: &Printer,
    (otherwise, drain): (&Otherwise, &[String]),
) -> Result<(), Failure> {
    let asked = v1::CreatePlanRequest {
        policy_toml: values(&otherwise.set)?,
        without: otherwise.without.clone(),
        drain: drain.to_vec(),
        add: otherwise.add_vm.iter().map(supposed).collect(),
        window: otherwise.window.clone().unwrap_or_default(),
        budget_ms: otherwise.budget.unwrap_or(0) * 1_000,
    };
    let request = v1::WatchPlanningRequest { asked: Some(asked) };
    let mut told = client.watch_planning(request).await?.into_inner();
    let mut line = printer.progress(otherwise.progress);
    while let Some(message) = told.message().await? {
        match message.told {
            Some(Told::Progress(progress)) => line.tell(&show::planning(&progress))?,
            Some(Told::Planned(answer)) => {
                line.end()?;
                return Ok(printer.answer("CreatePlanResponse", &answer, show::what_if)?);
            }
            // A later version may tell more.
            None => {}
        }
    }
    line.end()?;
    Err(tonic::Status::unavailable("the aggregator stopped before planning was done; try again")
        .into())
}

fn supposed(machine: &AddedMachine) -> v1::SupposedMachine {
    v1::SupposedMachine {
        name: machine.name.clone(),
        cpu_millicores: machine.cpu.0,
        memory_bytes: machine.memory.0,
        host: machine.host.clone(),
        labels: machine.labels.clone(),
    }
}

async fn approve(
    client: &mut PlanServiceClient<Channel>,
    printer: &Printer,
    (plan, basis): (&str, Option<&str>),
    change: &Change,
) -> Result<(), Failure> {
    let request = v1::ApprovePlanRequest {
        plan: plan.to_owned(),
        basis: basis.unwrap_or_default().to_owned(),
        request_id: change.request(),
        validate_only: change.dry_run,
    };
    let answer = client.approve_plan(request).await?.into_inner();
    let told = change.told(&format!("plan {plan} is approved"));
    Ok(printer.answer("ApprovePlanResponse", &answer, |_, _| told)?)
}

async fn until_ended(
    client: &mut PlanServiceClient<Channel>,
    printer: &Printer,
    plan: &str,
) -> Result<(), Failure> {
    let mut told = String::new();
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        look.tick().await;
        let request = v1::GetPlanRequest { plan: plan.to_owned() };
        let stage = client.get_plan(request).await?.into_inner().plan.unwrap_or_default().stage;
        if stage != told && !printer.is_json() {
            printer.line(&format!("plan {plan}: {stage}"))?;
        }
        match stage.as_str() {
            "completed" => return Ok(()),
            "rolled_back" | "rejected" | "superseded" | "stranded" => {
                return Err(Failure::Ended { plan: plan.to_owned(), stage });
            }
            _ => told = stage,
        }
    }
}

pub(super) async fn lists(
    channel: Channel,
    printer: &Printer,
    vm: Option<&str>,
) -> Result<(), Failure> {
    let request = v1::ListConfigurationListsRequest { vm: vm.unwrap_or_default().to_owned() };
    let answer = client(channel).list_configuration_lists(request).await?.into_inner();
    Ok(printer.answer("ListConfigurationListsResponse", &answer, show::lists)?)
}
