//! Business groups: what was found, and what the operator says of them.

use common::wire::admin::v1::{
    self, finding_service_client::FindingServiceClient, policy_service_client::PolicyServiceClient,
};
use tonic::transport::Channel;

use crate::{
    arguments::{Change, GroupsCommand, SharedName},
    failure::Failure,
    print::Printer,
    show,
};

/// Largest answer that is taken: the dependencies of a large fleet.
const LARGEST_ANSWER: usize = 256 << 20;

pub(super) async fn groups(
    channel: Channel,
    printer: &Printer,
    command: &GroupsCommand,
) -> Result<(), Failure> {
    let (change, amend): (&Change, Amend<'_>) = match command {
        GroupsCommand::List => {
            let mut answer = found(channel).await?;
            answer.dependencies.clear();
            return Ok(printer.answer("ListGroupsResponse", &answer, show::groups)?);
        }
        GroupsCommand::Dependencies => {
            let mut answer = found(channel).await?;
            answer.groups.clear();
            return Ok(printer.answer("ListGroupsResponse", &answer, show::dependencies)?);
        }
        GroupsCommand::Show { group } => return one(channel, printer, group).await,
        GroupsCommand::Rules => {
            let answer = present(&mut PolicyServiceClient::new(channel)).await?;
            return Ok(printer.answer("GetGroupRulesResponse", &answer, show::rules)?);
        }
        GroupsCommand::Pin { name, vms, change } => (change, Amend::Pin(name, vms)),
        GroupsCommand::Merge { vms, change } => (change, Amend::Merge(vms)),
        GroupsCommand::Split { vms, change } => (change, Amend::Split(vms)),
        GroupsCommand::Share { services, change } => (change, Amend::Share(services)),
        GroupsCommand::Drop { rule, change } => (change, Amend::Drop(rule)),
    };
    let mut client = PolicyServiceClient::new(channel);
    let mut rules = present(&mut client).await?.rules.unwrap_or_default();
    amend.apply(&mut rules)?;
    let request = v1::SetGroupRulesRequest {
        rules: Some(rules),
        request_id: change.request(),
        validate_only: change.dry_run,
    };
    let answer = client.set_group_rules(request).await?.into_inner();
    let told = change.told("done; groups are drawn by it when the next window closes");
    Ok(printer.answer("SetGroupRulesResponse", &answer, |_, _| told)?)
}

async fn found(channel: Channel) -> Result<v1::ListGroupsResponse, Failure> {
    let mut client = FindingServiceClient::new(channel).max_decoding_message_size(LARGEST_ANSWER);
    Ok(client.list_groups(v1::ListGroupsRequest {}).await?.into_inner())
}

async fn present(
    client: &mut PolicyServiceClient<Channel>,
) -> Result<v1::GetGroupRulesResponse, Failure> {
    Ok(client.get_group_rules(v1::GetGroupRulesRequest {}).await?.into_inner())
}

async fn one(channel: Channel, printer: &Printer, wanted: &str) -> Result<(), Failure> {
    let mut answer = found(channel).await?;
    let is_meant = |group: &v1::Group| group.group.to_string() == wanted || group.name == wanted;
    let is_there = answer.groups.iter().any(is_meant);
    if !is_there {
        let told = format!("there is no group {wanted:?}; `sinterctl groups list` lists them");
        return Err(tonic::Status::not_found(told).into());
    }
    answer.groups.retain(is_meant);
    let members = answer.groups.iter().flat_map(|group| &group.machines);
    let members: Vec<String> = members.map(|member| member.vm.clone()).collect();
    let is_member =
        |party: &Option<v1::Party>| party.as_ref().is_some_and(|party| members.contains(&party.vm));
    answer.dependencies.retain(|known| is_member(&known.client) && is_member(&known.server));
    Ok(printer.answer("ListGroupsResponse", &answer, show::group)?)
}

/// How rules are changed.
enum Amend<'a> {
    Pin(&'a str, &'a [String]),
    Merge(&'a [String]),
    Split(&'a [String]),
    Share(&'a [SharedName]),
    Drop(&'a str),
}

impl Amend<'_> {
    fn apply(&self, rules: &mut v1::GroupRules) -> Result<(), Failure> {
        match *self {
            Self::Pin(name, vms) => match rules.named.iter_mut().find(|group| group.name == name) {
                Some(group) => group.vms.extend_from_slice(vms),
                None => {
                    rules.named.push(v1::NamedGroup { name: name.into(), vms: vms.to_vec() });
                }
            },
            Self::Merge(vms) => rules.together.push(v1::MachineSet { vms: vms.to_vec() }),
            Self::Split(vms) => rules.apart.push(v1::MachineSet { vms: vms.to_vec() }),
            Self::Share(services) => rules.shared.extend(services.iter().map(|service| {
                let port = service.port.map(u32::from);
                v1::SharedService { vm: service.vm.clone(), port }
            })),
            Self::Drop(rule) => dropped(rules, rule).ok_or_else(|| no_rule(rule))?,
        }
        Ok(())
    }
}

fn no_rule(rule: &str) -> Failure {
    let told = format!("there is no rule {rule:?}; `sinterctl groups rules` lists them");
    tonic::Status::not_found(told).into()
}

/// Drops the rule of that name, if there is one.
fn dropped(rules: &mut v1::GroupRules, rule: &str) -> Option<()> {
    let (kind, which) = rule.split_once(':')?;
    if kind == "named" {
        let at = rules.named.iter().position(|group| group.name == which)?;
        rules.named.remove(at);
        return Some(());
    }
    let at = which.parse::<usize>().ok()?.checked_sub(1)?;
    match kind {
        "together" if at < rules.together.len() => drop(rules.together.remove(at)),
        "apart" if at < rules.apart.len() => drop(rules.apart.remove(at)),
        "shared" if at < rules.shared.len() => drop(rules.shared.remove(at)),
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_groups_is_added_and_dropped_by_its_name() {
        let mut rules = v1::GroupRules::default();
        let vms = ["a".to_owned(), "b".to_owned()];
        Amend::Pin("shop", &vms[..1]).apply(&mut rules).unwrap();
        Amend::Pin("shop", &vms[1..]).apply(&mut rules).unwrap();
        Amend::Split(&vms).apply(&mut rules).unwrap();
        assert_eq!(rules.named.len(), 1);
        assert_eq!(rules.named[0].vms, vms);

        Amend::Drop("apart:1").apply(&mut rules).unwrap();
        assert!(rules.apart.is_empty());
        for wrong in ["apart:1", "named:bank", "apart:0", "shop"] {
            Amend::Drop(wrong).apply(&mut rules).unwrap_err();
        }
        Amend::Drop("named:shop").apply(&mut rules).unwrap();
        assert_eq!(rules, v1::GroupRules::default());
    }
}
