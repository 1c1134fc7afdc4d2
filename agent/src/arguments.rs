//! What can be asked of `sinter-agent`.

use std::{path::PathBuf, time::Duration};

use agent::show::{Output, Section, Wishes};
use clap::{Args, Parser, Subcommand};

/// Where the agent's configuration usually is.
pub(crate) const CONFIG: &str = "/etc/sinter/agent.toml";

/// Looks into the guest it runs in, tells the aggregator, and applies its configuration lists.
///
/// It listens on no port and runs only what applications.toml says. Its log goes to standard
/// error; SINTER_LOG says how much (such as `debug`).
#[derive(Debug, Parser)]
#[command(name = "sinter-agent", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs until it is told to end (SIGTERM). The applications it started go on.
    Run {
        /// The agent's configuration.
        #[arg(long, default_value = CONFIG)]
        config: PathBuf,
    },
    /// Shows what the agent sees of this machine now; needs no configuration and no aggregator.
    ///
    /// Root sees more; what is missing is said. Flows and coverage are counted from the first look
    /// on, so they take --after or --watch.
    Observe(Observe),
    /// Checks whether the agent can do its work here. Exit code 1 if something fails, 2 if the
    /// configuration cannot be used.
    ///
    /// Each check says what was found, what that costs and what to do. A running agent is not
    /// disturbed.
    Doctor {
        /// The agent's configuration.
        #[arg(long, default_value = CONFIG)]
        config: PathBuf,
        /// How to print.
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
    /// Checks agent.toml and the applications.toml it names. Exit code 2 if they cannot be used.
    CheckConfig {
        /// The agent's configuration.
        #[arg(long, default_value = CONFIG)]
        config: PathBuf,
    },
    /// Prints the completion script of a shell.
    #[command(alias = "completions")]
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Becomes an application; the agent calls itself so.
    #[command(hide = true)]
    Launch {
        /// The application's folder.
        folder: PathBuf,
        /// Which start of it.
        instance: u64,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Observe {
    /// The agent's configuration; where there is none everything is as usual.
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Section>,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
    /// Look again every so many seconds (2 if not said) until Ctrl-C.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch: Option<u64>,
    /// Look, wait so many seconds, and show what the second look sees.
    #[arg(long, value_name = "SECONDS", conflicts_with = "watch",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    after: Option<u64>,
}

impl Observe {
    pub(crate) fn wishes(&self) -> Wishes {
        Wishes {
            only: self.only.clone(),
            output: self.output,
            watch: self.watch.map(Duration::from_secs),
            after: self.after.map(Duration::from_secs),
        }
    }
}
