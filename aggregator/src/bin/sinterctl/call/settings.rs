//! Catalogue, scope, policy, tokens, and what was done.

use std::{io::Read as _, path::Path};

use common::wire::admin::v1::{
    self, catalogue_service_client::CatalogueServiceClient,
    history_service_client::HistoryServiceClient, policy_service_client::PolicyServiceClient,
    token_service_client::TokenServiceClient,
};
use tonic::transport::Channel;

use crate::{
    arguments::{CatalogueCommand, Change, PolicyCommand, ScopeCommand, TokenCommand},
    failure::Failure,
    print::{Printer, safe},
    show,
};

/// Turns `name=value` words into TOML. A value that is no TOML value is taken for a text.
pub(super) fn values(words: &[String]) -> Result<String, Failure> {
    let mut document = toml::Table::new();
    for word in words {
        let Some((name, value)) = word.split_once('=') else {
            return Err(Failure::Words(format!("{word:?} is not of the form name=value")));
        };
        let read = format!("value = {value}").parse::<toml::Table>();
        let value = read
            .ok()
            .and_then(|mut table| table.remove("value"))
            .unwrap_or_else(|| toml::Value::String(value.to_owned()));
        document.insert(name.trim().to_owned(), value);
    }
    Ok(document.to_string())
}

fn file(path: &Path) -> Result<String, Failure> {
    let read = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    read.map_err(|cause| Failure::File { path: path.to_owned(), cause })
}

pub(super) async fn catalogue(
    channel: Channel,
    printer: &Printer,
    command: &CatalogueCommand,
) -> Result<(), Failure> {
    let mut client = CatalogueServiceClient::new(channel);
    match command {
        CatalogueCommand::Get => {
            let answer = client.get_catalogue(v1::GetCatalogueRequest {}).await?.into_inner();
            Ok(printer.answer("GetCatalogueResponse", &answer, |_, a| a.catalogue_toml.clone())?)
        }
        CatalogueCommand::Set { file: path, change } => {
            let request = v1::SetCatalogueRequest {
                catalogue_toml: file(path)?,
                request_id: change.request(),
                validate_only: change.dry_run,
            };
            let answer = client.set_catalogue(request).await?.into_inner();
            let told =
                change.told(&format!("the catalogue has {} applications", answer.applications));
            Ok(printer.answer("SetCatalogueResponse", &answer, |_, _| told)?)
        }
    }
}

pub(super) async fn policy(
    channel: Channel,
    printer: &Printer,
    command: &PolicyCommand,
) -> Result<(), Failure> {
    let mut client = PolicyServiceClient::new(channel);
    match command {
        PolicyCommand::Get => {
            let answer = client.get_policy(v1::GetPolicyRequest {}).await?.into_inner();
            Ok(printer.answer("GetPolicyResponse", &answer, |_, a| a.policy_toml.clone())?)
        }
        PolicyCommand::Set { values: words, change } => {
            let request = v1::SetPolicyRequest {
                policy_toml: values(words)?,
                request_id: change.request(),
                validate_only: change.dry_run,
            };
            let answer = client.set_policy(request).await?.into_inner();
            Ok(printer.answer("SetPolicyResponse", &answer, |_, a| a.policy_toml.clone())?)
        }
    }
}

pub(super) async fn scope(
    channel: Channel,
    printer: &Printer,
    command: &ScopeCommand,
) -> Result<(), Failure> {
    let mut client = PolicyServiceClient::new(channel);
    let (vm, opted_in, reason, change) = match command {
        ScopeCommand::Get => {
            let answer = client.get_scope(v1::GetScopeRequest {}).await?.into_inner();
            let people = |_: &Printer, answer: &v1::GetScopeResponse| {
                if answer.opted_out.is_empty() {
                    return "every machine may be changed\n".to_owned();
                }
                show::left_alone(&answer.opted_out)
            };
            return Ok(printer.answer("GetScopeResponse", &answer, people)?);
        }
        ScopeCommand::In { vm, change } => (vm, true, String::new(), change),
        ScopeCommand::Out { vm, reason, change } => (vm, false, reason.clone(), change),
    };
    let request = v1::SetScopeRequest {
        vm: vm.clone(),
        opted_in,
        reason,
        request_id: change.request(),
        validate_only: change.dry_run,
    };
    let answer = client.set_scope(request).await?.into_inner();
    let told = if opted_in { "may be changed" } else { "is left alone" };
    let told = change.told(&format!("{vm} {told}"));
    Ok(printer.answer("SetScopeResponse", &answer, |_, _| told)?)
}

pub(super) async fn tokens(
    channel: Channel,
    printer: &Printer,
    command: &TokenCommand,
) -> Result<(), Failure> {
    let mut client = TokenServiceClient::new(channel);
    match command {
        TokenCommand::List => {
            let answer = client.list_tokens(v1::ListTokensRequest {}).await?.into_inner();
            Ok(printer.answer("ListTokensResponse", &answer, |p, a| show::tokens(p, &a.tokens))?)
        }
        TokenCommand::Create { name, hours, uses, change } => {
            create_token(&mut client, printer, (name, *hours, *uses), change).await
        }
        TokenCommand::Revoke { token, change } => {
            let request = v1::RevokeTokenRequest {
                token: token.clone(),
                request_id: change.request(),
                validate_only: change.dry_run,
            };
            let answer = client.revoke_token(request).await?.into_inner();
            let told = change.told(&format!("token {token} is revoked"));
            Ok(printer.answer("RevokeTokenResponse", &answer, |_, _| told)?)
        }
    }
}

async fn create_token(
    client: &mut TokenServiceClient<Channel>,
    printer: &Printer,
    (name, hours, uses): (&str, u64, u32),
    change: &Change,
) -> Result<(), Failure> {
    let request = v1::CreateTokenRequest {
        name: name.to_owned(),
        lifetime_seconds: hours.saturating_mul(3600),
        uses,
        request_id: change.request(),
        validate_only: change.dry_run,
    };
    let answer = client.create_token(request).await?.into_inner();
    let people = |_: &Printer, answer: &v1::CreateTokenResponse| {
        if answer.secret.is_empty() {
            return change.told("a token of that name can be made");
        }
        let ends = answer.token.as_ref().map_or(0, |token| token.expires_at_unix_ms);
        format!("{}\n(shown once; good until {})", answer.secret, show::moment(ends))
    };
    Ok(printer.answer("CreateTokenResponse", &answer, people)?)
}

pub(super) async fn audit(channel: Channel, printer: &Printer, last: u32) -> Result<(), Failure> {
    let mut client = HistoryServiceClient::new(channel);
    let mut all = v1::ListAuditEntriesResponse::default();
    while all.entries.len() < last as usize {
        let missing = last.saturating_sub(u32::try_from(all.entries.len()).unwrap_or(u32::MAX));
        let page_token = std::mem::take(&mut all.next_page_token);
        let request = v1::ListAuditEntriesRequest { page_size: missing, page_token };
        let page = client.list_audit_entries(request).await?.into_inner();
        all.entries.extend(page.entries);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
    }
    Ok(printer.answer("ListAuditEntriesResponse", &all, show::audit)?)
}

pub(super) async fn verify(channel: Channel, printer: &Printer) -> Result<(), Failure> {
    let mut client = HistoryServiceClient::new(channel);
    let answer = client.verify_audit_log(v1::VerifyAuditLogRequest {}).await?.into_inner();
    let told = format!("all {} rows follow from each other", answer.rows);
    match answer.first_bad_row {
        Some(row) => Err(Failure::BrokenLog(row)),
        None => Ok(printer.answer("VerifyAuditLogResponse", &answer, |_, _| told)?),
    }
}

pub(super) async fn refusals(channel: Channel, printer: &Printer) -> Result<(), Failure> {
    let mut client = HistoryServiceClient::new(channel);
    let answer = client.list_refusals(v1::ListRefusalsRequest {}).await?.into_inner();
    Ok(printer.answer("ListRefusalsResponse", &answer, show::refusals)?)
}

pub(super) async fn watch(channel: Channel, printer: &Printer) -> Result<(), Failure> {
    let mut client = HistoryServiceClient::new(channel);
    let mut told = client.watch(v1::WatchRequest {}).await?.into_inner();
    while let Some(happened) = told.message().await? {
        printer.row("WatchResponse", &happened, |_, happened| {
            format!("{}  {}", show::moment(happened.at_unix_ms), safe(&happened.text))
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_the_values_they_look_like() {
        let words = ["headroom=0.2".to_owned(), "approval=automatic".to_owned()];
        let table: toml::Table = values(&words).unwrap().parse().unwrap();
        assert_eq!(table["headroom"].as_float(), Some(0.2));
        assert_eq!(table["approval"].as_str(), Some("automatic"));
    }

    #[test]
    fn a_word_without_a_value_is_named() {
        let failure = values(&["headroom".to_owned()]).unwrap_err();
        assert_eq!(failure.to_string(), "\"headroom\" is not of the form name=value");
    }
}
