//! The words of `sinterctl groups`.

use std::str::FromStr;

use clap::Subcommand;

use super::Change;

#[derive(Debug, Subcommand)]
pub(crate) enum GroupsCommand {
    /// All groups.
    List,
    /// One group, with its machines and what each does in it.
    Show {
        /// Its id or name.
        group: String,
    },
    /// Which calls depend on which, and how closely.
    Dependencies,
    /// What you said of groups, rule by rule.
    Rules,
    /// Pins machines to a group of that name; it is there whatever they call.
    Pin {
        /// The group's name.
        name: String,
        /// Machines, by uuid or name.
        #[arg(required = true)]
        vms: Vec<String>,
        #[command(flatten)]
        change: Change,
    },
    /// Keeps machines in one group.
    Merge {
        /// Machines, by uuid or name.
        #[arg(required = true, num_args = 2..)]
        vms: Vec<String>,
        #[command(flatten)]
        change: Change,
    },
    /// Keeps machines in groups of their own, no two of them in one.
    Split {
        /// Machines, by uuid or name.
        #[arg(required = true, num_args = 2..)]
        vms: Vec<String>,
        #[command(flatten)]
        change: Change,
    },
    /// Says that everybody shares a service, such as a name server: it makes no group.
    Share {
        /// Its machine by uuid or name, and the port unless all of it is shared.
        #[arg(required = true, value_name = "VM[:PORT]")]
        services: Vec<SharedName>,
        #[command(flatten)]
        change: Change,
    },
    /// Drops a rule.
    Drop {
        /// The rule as `groups rules` shows it, such as `named:shop` or `apart:1`.
        rule: String,
        #[command(flatten)]
        change: Change,
    },
}

/// A machine, and maybe a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SharedName {
    pub(crate) vm: String,
    pub(crate) port: Option<u16>,
}

impl FromStr for SharedName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((vm, port)) = text.rsplit_once(':') else {
            return Ok(Self { vm: text.to_owned(), port: None });
        };
        let port = port.parse().map_err(|_| format!("{port:?} is no port; write 1 to 65535"))?;
        Ok(Self { vm: vm.to_owned(), port: Some(port) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_a_machine_and_maybe_a_port() {
        let dns = SharedName { vm: "dns-1".to_owned(), port: Some(53) };
        assert_eq!("dns-1:53".parse(), Ok(dns));
        assert_eq!("dns-1".parse(), Ok(SharedName { vm: "dns-1".to_owned(), port: None }));
        assert!("dns-1:domain".parse::<SharedName>().unwrap_err().contains("no port"));
    }
}
