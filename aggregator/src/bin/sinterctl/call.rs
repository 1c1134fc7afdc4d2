//! One command: the call it makes, and what is shown of the answer.

use tonic::transport::Channel;

mod fleet;
mod groups;
mod plans;
mod records;
mod settings;

use crate::{
    arguments::{Command, RecordsCommand},
    failure::Failure,
    print::Printer,
};

/// Makes the call once and prints the answer.
///
/// # Errors
///
/// See [`Failure`].
pub(crate) async fn once(
    channel: Channel,
    printer: &Printer,
    command: &Command,
) -> Result<(), Failure> {
    match command {
        Command::Vms => fleet::machines(channel, printer).await,
        Command::Vm(command) => fleet::machine(channel, printer, command).await,
        Command::Hosts => fleet::hosts(channel, printer).await,
        Command::Storage => fleet::storage(channel, printer).await,
        Command::Agents(command) => fleet::agents(channel, printer, command).await,
        Command::Graph => fleet::graph(channel, printer).await,
        Command::Windows { window } => fleet::windows(channel, printer, window.as_deref()).await,
        Command::Records(RecordsCommand::Export(export)) => {
            records::export(channel, printer, export).await
        }
        Command::Findings => fleet::findings(channel, printer, crate::show::findings).await,
        Command::Candidates => fleet::findings(channel, printer, crate::show::candidates).await,
        Command::Plans => plans::list(channel, printer).await,
        Command::Plan(command) => plans::one(channel, printer, command).await,
        Command::Lists { vm } => plans::lists(channel, printer, vm.as_deref()).await,
        Command::Catalogue(command) => settings::catalogue(channel, printer, command).await,
        Command::Scope(command) => settings::scope(channel, printer, command).await,
        Command::Groups(command) => groups::groups(channel, printer, command).await,
        Command::Policy(command) => settings::policy(channel, printer, command).await,
        Command::Tokens(command) => settings::tokens(channel, printer, command).await,
        Command::Audit { verify: true, .. } => settings::verify(channel, printer).await,
        Command::Audit { last, .. } => settings::audit(channel, printer, *last).await,
        Command::Refusals => settings::refusals(channel, printer).await,
        Command::Watch => settings::watch(channel, printer).await,
        // Need no aggregator; `main` has answered them.
        Command::Import(_)
        | Command::Analyse(_)
        | Command::Completion { .. }
        | Command::Records(RecordsCommand::Import(_) | RecordsCommand::Schema) => Ok(()),
    }
}
