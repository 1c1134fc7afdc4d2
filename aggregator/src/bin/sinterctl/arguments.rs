//! The words of the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod groups;
mod plans;

pub(crate) use groups::{GroupsCommand, SharedName};
pub(crate) use plans::{AddedMachine, Ending, Otherwise, PlanCommand};

/// Steers a Sinter aggregator.
///
/// Exit codes: 0 done; 1 failed; 2 the call's words are wrong; 3 no such thing; 4 not allowed;
/// 5 the aggregator cannot be reached; 6 refused in the present state, or a value was refused;
/// 7 some lines of an import were bad, the good ones are printed; 8 no line of it was good.
#[derive(Debug, Parser)]
#[command(name = "sinterctl", version, propagate_version = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// How to print.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    /// Print again every so many seconds until Ctrl-C.
    #[arg(long, global = true, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2")]
    pub(crate) watch: Option<u64>,
    /// Which aggregator, by its name in the context file; the file's `current` if not given.
    #[arg(long, global = true, env = "SINTER_CONTEXT")]
    pub(crate) context: Option<String>,
    /// The context file; ~/.config/sinter/contexts.toml, or that of a running `dev`, if not given.
    #[arg(long, global = true, env = "SINTER_CONTEXT_FILE")]
    pub(crate) context_file: Option<PathBuf>,
    /// When to colour.
    #[arg(long, global = true, value_enum, default_value_t = Colour::Auto)]
    pub(crate) colour: Colour,
    /// Seconds a call may take.
    #[arg(long, global = true, default_value_t = 15)]
    pub(crate) timeout: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Columns for people.
    Table,
    /// One JSON document for scripts.
    Json,
    /// One record per line, its fields parted by commas; `import` only.
    Csv,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// All machines, with what the last window says of each.
    Vms,
    /// One machine.
    #[command(subcommand)]
    Vm(VmCommand),
    /// The physical virtual hosts.
    Hosts,
    /// The devices of the storage arrays, and who holds them.
    Storage,
    /// Who talks to whom, how often.
    Graph,
    /// The closed sampling windows; with an id, one window's records.
    Windows {
        /// A window's id, or `latest`.
        window: Option<String>,
    },
    /// Windows as typed tables, one record a line, to and from a folder.
    #[command(subcommand)]
    Records(RecordsCommand),
    /// What the last window says: predicates with reasons, remarks, why machines are left alone.
    Findings,
    /// The machines that could carry another mix, and why every other could not.
    Candidates,
    /// All plans.
    Plans,
    /// One plan.
    #[command(subcommand)]
    Plan(PlanCommand),
    /// The configuration lists that were offered.
    Lists {
        /// Only those of this machine, by uuid or name.
        #[arg(long)]
        vm: Option<String>,
    },
    /// The catalogue of applications.
    #[command(subcommand)]
    Catalogue(CatalogueCommand),
    /// Which machines may be changed.
    #[command(subcommand)]
    Scope(ScopeCommand),
    /// Business groups: machines that do one thing together, and what you say of them.
    #[command(subcommand)]
    Groups(GroupsCommand),
    /// What the operator decided beforehand.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Join tokens.
    #[command(subcommand)]
    Tokens(TokenCommand),
    /// Agents.
    #[command(subcommand)]
    Agents(AgentCommand),
    /// What was done, by whom.
    Audit {
        /// Check the chain of the whole log instead of printing it.
        #[arg(long)]
        verify: bool,
        /// How many rows, newest first.
        #[arg(long, default_value_t = 50)]
        last: u32,
    },
    /// Bad input by agent and kind.
    Refusals,
    /// Reads the connection table of a machine without an agent. Needs no aggregator, sends
    /// nothing, looks nothing up.
    Import(Import),
    /// Analyses recorded rows without a fleet: findings, plan and figures. Needs no aggregator.
    Analyse(Analyse),
    /// Tells what happens as it happens, until Ctrl-C.
    Watch,
    /// Prints the completion script of a shell.
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// Windows as typed tables.
#[derive(Debug, Subcommand)]
pub(crate) enum RecordsCommand {
    /// Writes windows as the tables windows, machines, applications, edges and records, one file each.
    Export(ExportRecords),
    /// Reads exported tables, counts their rows, and names every line that is none. Needs no
    /// aggregator.
    Import(ImportRecords),
    /// Prints the columns of the tables with their meaning. Needs no aggregator.
    Schema,
}

#[derive(Debug, Args)]
pub(crate) struct ExportRecords {
    /// How the tables lie in their files.
    #[arg(long, value_enum, default_value_t = TableFormat::Csv)]
    pub(crate) format: TableFormat,
    /// Only windows that closed after this time, such as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<jiff::Timestamp>,
    /// Only windows that opened before this time.
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<jiff::Timestamp>,
    /// Only the newest so many of them.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) last: Option<u32>,
    /// The folder; it is made if it is not there, and may hold no tables yet.
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ImportRecords {
    /// The folder with the tables, in CSV or Parquet.
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableFormat {
    /// One record a line, its fields parted by commas.
    Csv,
    /// By columns, compressed.
    Parquet,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Which program printed the text.
    #[arg(value_enum)]
    pub(crate) program: Program,
    /// The text; `-` for standard input.
    pub(crate) file: PathBuf,
    /// The machine it is of; stands in every record.
    #[arg(long)]
    pub(crate) vm: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Analyse {
    /// A folder or file of recorded rows.
    pub(crate) path: PathBuf,
    /// How it is written; told by its looks if not given.
    #[arg(long, value_enum)]
    pub(crate) format: Option<Recorded>,
    /// Write one page of HTML too, which needs nothing else.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// The policy, as TOML; the default one if not given.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// Memory in MiB that each machine is given and uses, where the rows tell none; `none` to leave it
    /// unknown, and so nothing to plan.
    #[arg(long, value_name = "GIVEN,USED", default_value = "1024,256")]
    pub(crate) assume_memory: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Recorded {
    /// A folder of tables that `records export` wrote, CSV or Parquet.
    Exported,
    /// CPU of machines by five minutes: a name and percents, parted by commas.
    Planetlab,
    /// Who talks to whom by hour: network, client, server and ports, parted by tabs.
    ComputingHosts,
    /// CPU, memory, disk and network of machines by five minutes, as Bitbrains recorded them.
    Bitbrains,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Program {
    /// `netstat -an`, with or without -p, -b, -e, -o: of Linux, Windows, BSD or macOS.
    Netstat,
    /// `ss -an`, with or without -t, -u, -p, -e, -i.
    Ss,
}

#[derive(Debug, Subcommand)]
pub(crate) enum VmCommand {
    /// All that is known of one machine.
    Show {
        /// Its uuid or name.
        vm: String,
        /// Its connections too.
        #[arg(long)]
        connections: bool,
        /// Its processes too.
        #[arg(long)]
        processes: bool,
    },
    /// What is installed in one machine and how it is configured, as its agent last told.
    Software(SoftwareOf),
    /// Asks the agent of one machine for a sample at once.
    Sample {
        /// Its uuid or name.
        vm: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SoftwareOf {
    /// Its uuid or name.
    pub(crate) vm: String,
    /// The packages only.
    #[arg(long, conflicts_with = "files")]
    pub(crate) packages: bool,
    /// The configuration files only.
    #[arg(long)]
    pub(crate) files: bool,
    /// What is in the files too, where the guest's own configuration lets its agent tell.
    #[arg(long)]
    pub(crate) content: bool,
    /// Only packages and files whose name or path has this in it.
    #[arg(long, default_value = "")]
    pub(crate) matching: String,
}

#[derive(Debug, Args)]
pub(crate) struct Change {
    /// Check all of it, change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Makes the call safe to repeat; a new one each time if not given.
    #[arg(long)]
    pub(crate) request_id: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CatalogueCommand {
    /// Prints it as TOML.
    Get,
    /// Replaces it by a TOML file.
    Set {
        /// The file; `-` for standard input.
        file: PathBuf,
        #[command(flatten)]
        change: Change,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ScopeCommand {
    /// The machines that are left alone, and why.
    Get,
    /// Lets a machine be changed.
    In {
        /// Its uuid or name.
        vm: String,
        #[command(flatten)]
        change: Change,
    },
    /// Keeps a machine from being changed.
    Out {
        /// Its uuid or name.
        vm: String,
        /// Why.
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        change: Change,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Prints every value as TOML.
    Get,
    /// Changes values.
    Set {
        /// A value, as `name=value`.
        #[arg(required = true, value_name = "NAME=VALUE")]
        values: Vec<String>,
        #[command(flatten)]
        change: Change,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// All tokens, without their secrets.
    List,
    /// Makes one and prints its secret, once.
    Create {
        /// A name for people.
        name: String,
        /// Hours it is good for.
        #[arg(long, default_value_t = 24)]
        hours: u64,
        /// How often it may be used; 0 for any number.
        #[arg(long, default_value_t = 1)]
        uses: u32,
        #[command(flatten)]
        change: Change,
    },
    /// Ends one.
    Revoke {
        /// Its id.
        token: String,
        #[command(flatten)]
        change: Change,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// All agents that ever enrolled.
    List,
    /// Ends an agent's identity for good.
    Revoke {
        /// Its id.
        agent: String,
        #[command(flatten)]
        change: Change,
    },
}

impl Change {
    /// The id the call is made under.
    pub(crate) fn request(&self) -> String {
        self.request_id.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string())
    }

    /// What is said of a change that was made, or would have been.
    pub(crate) fn told(&self, done: &str) -> String {
        if self.dry_run { "checked; nothing was changed".to_owned() } else { done.to_owned() }
    }
}

impl Command {
    /// Whether it only shows something, so that `--watch` may run it again and again.
    pub(crate) const fn may_be_repeated(&self) -> bool {
        match self {
            Self::Vms
            | Self::Vm(VmCommand::Show { .. } | VmCommand::Software(_))
            | Self::Hosts
            | Self::Storage
            | Self::Graph
            | Self::Windows { .. }
            | Self::Findings
            | Self::Candidates
            | Self::Plans
            | Self::Plan(
                PlanCommand::Show { .. } | PlanCommand::WhatIf(_) | PlanCommand::Drain { .. },
            )
            | Self::Lists { .. }
            | Self::Catalogue(CatalogueCommand::Get)
            | Self::Scope(ScopeCommand::Get)
            | Self::Groups(
                GroupsCommand::List
                | GroupsCommand::Show { .. }
                | GroupsCommand::Dependencies
                | GroupsCommand::Rules,
            )
            | Self::Policy(PolicyCommand::Get)
            | Self::Tokens(TokenCommand::List)
            | Self::Agents(AgentCommand::List)
            | Self::Audit { .. }
            | Self::Refusals => true,
            Self::Vm(_)
            | Self::Plan(_)
            | Self::Catalogue(_)
            | Self::Scope(_)
            | Self::Groups(_)
            | Self::Policy(_)
            | Self::Tokens(_)
            | Self::Records(_)
            | Self::Agents(_)
            | Self::Import(_)
            | Self::Watch
            | Self::Analyse(_)
            | Self::Completion { .. } => false,
        }
    }
}
