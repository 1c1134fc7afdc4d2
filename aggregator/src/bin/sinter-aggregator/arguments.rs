//! The words of the command line.

use std::path::PathBuf;

use aggregator::dev::{Breaking, MOST_MACHINES};
use clap::{Args, Parser, Subcommand, ValueEnum};
use common::pki::Role;

const CONFIG: &str = "/etc/sinter/aggregator.toml";

/// Watches virtual machines, infers which could carry another mix of applications, tries it on a
/// clone, and promotes it.
///
/// Exit codes: 0 done, or stopped in order; 1 failed; 2 the call's words or the configuration are
/// wrong; 3 the store is in use; 4 the store is damaged; 5 this host cannot make machines, or a
/// program is missing; 6 a demonstration did not end as it was asked to.
///
/// The log goes to standard error; SINTER_LOG says how much of it, such as `info` or
/// `warn,aggregator::cycle=debug`.
#[derive(Debug, Parser)]
#[command(name = "sinter-aggregator", version, propagate_version = true)]
pub(crate) struct Arguments {
    /// How log lines are written.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON document a line.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the service until SIGTERM or SIGINT.
    Run {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Shows the whole loop on machines made of namespaces on this host, and leaves nothing behind.
    Dev(Dev),
    /// Reads the configuration and says what is wrong with it, or that nothing is.
    CheckConfig {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Asks what the configuration names whether it can be worked with.
    #[command(subcommand)]
    Check(Asked),
    /// The store, while no aggregator works on it.
    #[command(subcommand)]
    Store(Store),
    /// The records of the store, while no aggregator works on it.
    #[command(subcommand)]
    Records(Records),
    /// Operators' certificates.
    #[command(subcommand)]
    User(User),
    /// The authority that every certificate comes from.
    #[command(subcommand)]
    Authority(Authority),
    /// Prints the completion script of a shell.
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// The configuration file.
    #[arg(long = "config", default_value = CONFIG)]
    pub(crate) path: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Asked {
    /// Says whether a hypervisor can be reached, and which of the documented rights we have there,
    /// to observe and to act, and what is missing costs.
    ///
    /// Nothing is changed for it. Exit codes: 0 every right is there; 1 one is missing, or nobody
    /// told; 2 the call's words or the configuration are wrong.
    Hypervisor {
        /// Its name in the configuration; `namespace` for machines made of namespaces.
        name: String,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
        output: OutputFormat,
        #[command(flatten)]
        config: ConfigFile,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Columns for people.
    Table,
    /// One JSON document for scripts.
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// How many machines; those beyond six are idle or do steady work.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(6..=i64::from(MOST_MACHINES)))]
    pub(crate) machines: u16,
    /// Say yes to the first plan without being asked.
    #[arg(long)]
    pub(crate) approve: bool,
    /// End after the first plan; 0 only if it ended as asked.
    #[arg(long)]
    pub(crate) once: bool,
    /// Let that stage fail for real, so that the way back is seen.
    #[arg(long = "break", value_enum)]
    pub(crate) break_at: Option<Stage>,
    /// Die of SIGKILL after so many journal entries.
    #[arg(long, hide = true)]
    pub(crate) kill_after_event: Option<u64>,
    /// Go on with the machines that a killed one left.
    #[arg(long, hide = true)]
    pub(crate) resume: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stage {
    /// The clone fails its trial.
    Trial,
    /// The live machine fails to take the new mix.
    Promotion,
    /// The new mix goes bad while it is watched.
    Audit,
}

impl From<Stage> for Breaking {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Trial => Self::Trial,
            Stage::Promotion => Self::Promotion,
            Stage::Audit => Self::Audit,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Store {
    /// Copies what is readable of a damaged store into a fresh one, and says what was not.
    Salvage {
        /// The damaged store's folder; nothing in it is changed.
        damaged: PathBuf,
        /// The fresh store's folder; it must not be there.
        out: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Records {
    /// Writes windows as typed tables into a folder; `sinterctl records schema` tells what they hold.
    Export {
        /// The folder; it is made if it is not there, and none of the tables may be in it.
        out: PathBuf,
        /// How the tables are written.
        #[arg(long, value_enum, default_value_t = TableFormat::Csv)]
        format: TableFormat,
        /// Only so many windows, the newest.
        #[arg(long)]
        last: Option<usize>,
        #[command(flatten)]
        config: ConfigFile,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableFormat {
    /// One record a line, its fields parted by commas.
    Csv,
    /// By columns, compressed.
    Parquet,
}

impl From<TableFormat> for aggregator::tables::Format {
    fn from(format: TableFormat) -> Self {
        match format {
            TableFormat::Csv => Self::Csv,
            TableFormat::Parquet => Self::Parquet,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// Issues a certificate and writes it with its key and a context file for `sinterctl`.
    Create {
        /// What the audit log calls them.
        name: String,
        /// What they may do.
        #[arg(long, value_enum)]
        role: UserRole,
        /// The folder to write into.
        #[arg(long)]
        out: PathBuf,
        /// Where they reach the aggregator, as https://HOST:PORT; the configured port on this
        /// machine if not given.
        #[arg(long)]
        address: Option<String>,
        #[command(flatten)]
        config: ConfigFile,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum UserRole {
    /// Hand in what a collector of yours saw; it may look at nothing.
    Collector,
    /// Look.
    Viewer,
    /// Decide on plans.
    Operator,
    /// Set policy, make tokens, revoke.
    Admin,
}

impl From<UserRole> for Role {
    fn from(role: UserRole) -> Self {
        match role {
            UserRole::Collector => Self::Collector,
            UserRole::Viewer => Self::Viewer,
            UserRole::Operator => Self::Operator,
            UserRole::Admin => Self::Admin,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Authority {
    /// Prints what agents are told to trust, as `authority_fingerprint` in their agent.toml.
    Fingerprint {
        #[command(flatten)]
        config: ConfigFile,
    },
}
