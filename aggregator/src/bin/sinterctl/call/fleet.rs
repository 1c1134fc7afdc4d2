//! Machines, hosts, agents, windows and findings.

use common::wire::admin::v1::{
    self, finding_service_client::FindingServiceClient, fleet_service_client::FleetServiceClient,
};
use tonic::transport::Channel;

use crate::{
    arguments::{AgentCommand, SoftwareOf, VmCommand},
    failure::Failure,
    print::Printer,
    show,
};

/// Largest answer that is taken: a page of machines with everything known of them.
const LARGEST_ANSWER: usize = 64 << 20;

pub(super) async fn machines(channel: Channel, printer: &Printer) -> Result<(), Failure> {
    let mut client = FleetServiceClient::new(channel).max_decoding_message_size(LARGEST_ANSWER);
    let mut all = v1::ListMachinesResponse::default();
    loop {
        let page_token = std::mem::take(&mut all.next_page_token);
        let request = v1::ListMachinesRequest { page_size: 0, page_token };
        let page = client.list_machines(request).await?.into_inner();
        all.machines.extend(page.machines);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
    }
    let people =
        |printer: &Printer, all: &v1::ListMachinesResponse| show::machines(printer, &all.machines);
    Ok(printer.answer("ListMachinesResponse", &all, people)?)
}

pub(super) async fn machine(
    channel: Channel,
    printer: &Printer,
    command: &VmCommand,
) -> Result<(), Failure> {
    let (vm, connections, processes) = match command {
        VmCommand::Show { vm, connections, processes } => (vm, connections, processes),
        VmCommand::Software(wanted) => return software(channel, printer, wanted).await,
        VmCommand::Sample { vm } => return sample(channel, printer, vm).await,
    };
    let mut client = FleetServiceClient::new(channel).max_decoding_message_size(LARGEST_ANSWER);
    let mut answer =
        client.get_machine(v1::GetMachineRequest { vm: vm.clone() }).await?.into_inner();
    if !connections {
        answer.connections.clear();
    }
    if !processes {
        answer.processes.clear();
    }
    let people = |printer: &Printer, answer: &v1::GetMachineResponse| show::whole(printer, answer);
    Ok(printer.answer("GetMachineResponse", &answer, people)?)
}

async fn sample(channel: Channel, printer: &Printer, vm: &str) -> Result<(), Failure> {
    let mut client = FleetServiceClient::new(channel);
    let request = v1::RequestSampleRequest { vm: vm.to_owned() };
    let answer = client.request_sample(request).await?.into_inner();
    let told = format!("the agent of {vm} is asked");
    Ok(printer.answer("RequestSampleResponse", &answer, |_, _| told)?)
}

async fn software(channel: Channel, printer: &Printer, wanted: &SoftwareOf) -> Result<(), Failure> {
    let mut client = FleetServiceClient::new(channel).max_decoding_message_size(LARGEST_ANSWER);
    let mut all = v1::GetSoftwareResponse::default();
    loop {
        let page_token = std::mem::take(&mut all.next_page_token);
        let vm = wanted.vm.clone();
        let request =
            v1::GetSoftwareRequest { vm, page_size: 0, page_token, with_content: wanted.content };
        let mut page = client.get_software(request).await?.into_inner();
        let is_meant = |name: &str| name.contains(&wanted.matching);
        page.packages.retain(|package| {
            !wanted.files && package.key.as_ref().is_some_and(|key| is_meant(&key.name))
        });
        page.files.retain(|file| !wanted.packages && is_meant(&file.path));
        all.packages.extend(page.packages);
        all.files.extend(page.files);
        all.received_at_unix_ms = page.received_at_unix_ms;
        all.complete = page.complete;
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
    }
    Ok(printer.answer("GetSoftwareResponse", &all, show::software)?)
}

pub(super) async fn hosts(channel: Channel, printer: &Printer) -> Result<(), Failure> {
    let mut client = FleetServiceClient::new(channel);
    let answer = client.list_hosts(v1::ListHostsRequest {}).await?.into_inner();
    Ok(printer.answer("ListHostsResponse", &answer, show::hosts)?)
}

pub(super) async fn storage(channel: Channel, printer: &Printer) -> Result<(), Failure> {
    let mut client = FleetServiceClient::new(channel);
    let mut all = v1::ListStorageDevicesResponse::default();
    loop {
        let page_token = std::mem::take(&mut all.next_page_token);
        let request = v1::ListStorageDevicesRequest { page_size: 0, page_token };
        let page = client.list_storage_devices(request).await?.into_inner();
        all.devices.extend(page.devices);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
    }
    Ok(printer.answer("ListStorageDevicesResponse", &all, show::storage)?)
}

pub(super) async fn agents(
    channel: Channel,
    printer: &Printer,
    command: &AgentCommand,
) -> Result<(), Failure> {
    let mut client = FleetServiceClient::new(channel);
    match command {
        AgentCommand::List => {
            let mut all = v1::ListAgentsResponse::default();
            loop {
                let page_token = std::mem::take(&mut all.next_page_token);
                let request = v1::ListAgentsRequest { page_size: 0, page_token };
                let page = client.list_agents(request).await?.into_inner();
                all.agents.extend(page.agents);
                all.next_page_token = page.next_page_token;
                if all.next_page_token.is_empty() {
                    break;
                }
            }
            Ok(printer.answer("ListAgentsResponse", &all, show::agents)?)
        }
        AgentCommand::Revoke { agent, change } => {
            let request = v1::RevokeAgentRequest {
                agent_id: agent.clone(),
                request_id: change.request(),
                validate_only: change.dry_run,
            };
            let answer = client.revoke_agent(request).await?.into_inner();
            let told = change.told(&format!("agent {agent} is revoked"));
            Ok(printer.answer("RevokeAgentResponse", &answer, |_, _| told)?)
        }
    }
}

pub(super) async fn graph(channel: Channel, printer: &Printer) -> Result<(), Failure> {
    let mut client = FindingServiceClient::new(channel).max_decoding_message_size(LARGEST_ANSWER);
    let answer = client.get_graph(v1::GetGraphRequest {}).await?.into_inner();
    Ok(printer.answer("GetGraphResponse", &answer, show::graph)?)
}

pub(super) async fn windows(
    channel: Channel,
    printer: &Printer,
    window: Option<&str>,
) -> Result<(), Failure> {
    let mut client = FindingServiceClient::new(channel).max_decoding_message_size(LARGEST_ANSWER);
    let Some(window) = window else {
        let answer = client.list_windows(v1::ListWindowsRequest::default()).await?.into_inner();
        return Ok(printer.answer("ListWindowsResponse", &answer, show::windows)?);
    };
    let window = if window == "latest" { String::new() } else { window.to_owned() };
    let answer = client.get_window(v1::GetWindowRequest { window }).await?.into_inner();
    Ok(printer.answer("GetWindowResponse", &answer, show::records)?)
}

pub(super) async fn findings(
    channel: Channel,
    printer: &Printer,
    people: impl FnOnce(&Printer, &v1::GetFindingsResponse) -> String,
) -> Result<(), Failure> {
    let mut client = FindingServiceClient::new(channel).max_decoding_message_size(LARGEST_ANSWER);
    let answer = client.get_findings(v1::GetFindingsRequest {}).await?.into_inner();
    Ok(printer.answer("GetFindingsResponse", &answer, people)?)
}
