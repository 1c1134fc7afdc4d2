//! The small programs that the demonstration's machines run: a server that calls servers, a
//! periodic job, a holder of half-closed sockets, a visitor.
//!
//! It stands on the standard library alone, so that a machine's memory is the workload's and not a
//! runtime's. Each part can be told what CPU, memory and disk writes it costs. It ends when it is
//! told to and never on a peer's behaviour.

mod http;
mod parts;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};

/// A workload to observe, move and try.
#[derive(Debug, Parser)]
#[command(name = "sinter-workload", version)]
struct Arguments {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Answers HTTP requests, calling other servers for each.
    Serve {
        /// Where to listen.
        #[arg(long)]
        listen: SocketAddr,
        #[command(flatten)]
        cost: Cost,
    },
    /// Does a piece of work every so often.
    Job {
        /// Time between two runs, in milliseconds.
        #[arg(long, default_value_t = 2_000)]
        every_ms: u64,
        /// Where its health is answered.
        #[arg(long)]
        health: Option<SocketAddr>,
        #[command(flatten)]
        cost: Cost,
    },
    /// Opens connections, lets the peer close them, and never closes its own end.
    Linger {
        /// Whom to connect to.
        #[arg(long)]
        connect: SocketAddr,
        /// How many connections.
        #[arg(long, default_value_t = 3)]
        count: usize,
    },
    /// Calls a server as a visitor from outside would.
    Visit {
        /// Whom to call.
        #[arg(long)]
        call: SocketAddr,
        /// Calls per second.
        #[arg(long, default_value_t = 5.0)]
        rate: f64,
    },
}

/// What one piece of work costs.
#[derive(Debug, Clone, Args)]
struct Cost {
    /// Servers to call, one after another.
    #[arg(long)]
    call: Vec<SocketAddr>,
    /// CPU to burn, in milliseconds.
    #[arg(long, default_value_t = 0)]
    cpu_ms: u64,
    /// Memory to hold all along, in MiB.
    #[arg(long, default_value_t = 0)]
    memory_mib: usize,
    /// Bytes to write to disk, and have written.
    #[arg(long, default_value_t = 0)]
    write_bytes: usize,
    /// The file they are written to.
    #[arg(long)]
    write_to: Option<PathBuf>,
    /// While this file is there, every piece of work fails and every health check with it.
    #[arg(long)]
    fault_file: Option<PathBuf>,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().part {
        Part::Serve { listen, cost } => parts::serve(listen, &cost),
        Part::Job { every_ms, health, cost } => {
            parts::job(Duration::from_millis(every_ms), health, &cost)
        }
        Part::Linger { connect, count } => parts::linger(connect, count),
        Part::Visit { call, rate } => parts::visit(call, rate),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            // The one line that a supervisor's log shall hold.
            #[expect(clippy::print_stderr, reason = "a program without a log of its own")]
            {
                eprintln!("sinter-workload: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}
