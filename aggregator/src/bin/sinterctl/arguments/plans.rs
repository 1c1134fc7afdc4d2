//! The words of `sinterctl plan`.

use std::str::FromStr;

use clap::{Args, Subcommand};
use common::units::{Bytes, Millicores};

use super::Change;

#[derive(Debug, Subcommand)]
pub(crate) enum PlanCommand {
    /// Diff, evidence, predicted effect and course of one plan.
    Show {
        /// Its id.
        plan: String,
    },
    /// Says yes.
    Approve {
        /// Its id.
        plan: String,
        /// The basis that was looked at; refused if it is not the plan's.
        #[arg(long)]
        basis: Option<String>,
        #[command(flatten)]
        change: Change,
        /// Stay until the plan ended; exit 0 only if it was completed.
        #[arg(long)]
        wait: bool,
    },
    /// Says no.
    Reject(Ending),
    /// Stops a plan and undoes what it did.
    Cancel(Ending),
    /// Undoes a plan whose new mix is live.
    Rollback(Ending),
    /// Plans on what is known now as if something were otherwise; stores nothing.
    WhatIf(Otherwise),
    /// Plans how machines are emptied, whatever that gains; stores nothing.
    Drain {
        /// Machines or hosts, by id or name.
        #[arg(required = true, value_name = "HOST|VM")]
        drain: Vec<String>,
        #[command(flatten)]
        otherwise: Otherwise,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Otherwise {
    /// A value of the policy, as `name=value`; may be given again.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
    /// A machine that is not there, by uuid or name; may be given again.
    #[arg(long, value_name = "VM")]
    pub(crate) without: Vec<String>,
    /// An empty machine to plan with that is not there, such as `name=x,cpu=4,memory=8GiB`; `host=` and
    /// `label=` may follow, labels several times. May be given again.
    #[arg(long, value_name = "WORDS")]
    pub(crate) add_vm: Vec<AddedMachine>,
    /// The fleet as it was: a window's id, or a time such as 2026-01-31T12:00:00Z for the last window
    /// that had closed by then.
    #[arg(long, value_name = "ID|TIME")]
    pub(crate) window: Option<String>,
    /// Seconds that planning may take in all; as long as a fleet of that size needs if not given.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) budget: Option<u64>,
    /// Tell how planning goes on standard error, though that is no terminal or JSON is asked for.
    #[arg(long)]
    pub(crate) progress: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Ending {
    /// The plan's id.
    pub(crate) plan: String,
    /// Why; stands in the audit log.
    #[arg(long, default_value = "")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) change: Change,
}

/// A machine that is not there, as it is written on the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AddedMachine {
    pub(crate) name: String,
    pub(crate) cpu: Millicores,
    pub(crate) memory: Bytes,
    pub(crate) host: String,
    pub(crate) labels: Vec<String>,
}

impl FromStr for AddedMachine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut machine = Self::default();
        for word in text.split(',') {
            let (key, value) = word
                .split_once('=')
                .ok_or_else(|| format!("{word:?} is not of the form key=value"))?;
            let (key, value) = (key.trim(), value.trim());
            match key {
                "name" => value.clone_into(&mut machine.name),
                "cpu" => machine.cpu = amount(key, value)?,
                "memory" => machine.memory = amount(key, value)?,
                "host" => value.clone_into(&mut machine.host),
                "label" => machine.labels.push(value.to_owned()),
                _ => {
                    return Err(format!(
                        "{key:?} is not known; name, cpu, memory, host and label are"
                    ));
                }
            }
        }
        let missing = [
            ("name", machine.name.is_empty()),
            ("cpu", machine.cpu.0 == 0),
            ("memory", machine.memory.0 == 0),
        ];
        match missing.iter().find(|(_, is_missing)| *is_missing) {
            Some((key, _)) => Err(format!("{key} is missing; write name=x,cpu=4,memory=8GiB")),
            None => Ok(machine),
        }
    }
}

fn amount<T: FromStr<Err: std::fmt::Display>>(key: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|cause| format!("{key}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_read_from_its_words() {
        let read = "name=x, cpu=4,memory=8GiB,host=host-1,label=rack=3,label=os=linux".parse();
        let expected = AddedMachine {
            name: "x".to_owned(),
            cpu: Millicores(4_000),
            memory: Bytes::mebi(8 << 10),
            host: "host-1".to_owned(),
            labels: vec!["rack=3".to_owned(), "os=linux".to_owned()],
        };
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn what_is_wrong_with_the_words_is_named() {
        for (text, part) in [
            ("x", "\"x\" is not of the form key=value"),
            ("name=x,cpu=4", "memory is missing"),
            ("name=x,cpu=4,memory=8Gb", "memory: \"8Gb\" has the unit"),
            ("name=x,cpu=four,memory=8GiB", "cpu: \"four\" does not start with a number"),
            ("name=x,cpus=4,memory=8GiB", "\"cpus\" is not known"),
        ] {
            let refused = text.parse::<AddedMachine>().unwrap_err();
            assert!(refused.contains(part), "{refused}");
        }
    }
}
