//! `sinter-lab`: prints every figure that the project claims.

use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use clap::{Parser, ValueEnum};
use comfy_table::{Table, presets};
use lab::figure::{Failure, Figure, Row, short};

/// Every figure there is, in the order of the list.
const FIGURES: &[Figure] = &[
    Figure {
        name: "connections",
        about: "how much of known connections agents see, beside plain pollers in the same run",
        measure: lab::connections::measure,
    },
    Figure {
        name: "observe",
        about: "what looking costs, beside the floors and the programs that look too",
        measure: lab::observe::measure,
    },
    Figure {
        name: "ingest",
        about: "what a sample costs from the socket to the committed window",
        measure: lab::ingest::measure,
    },
    Figure {
        name: "kills",
        about: "what a hundred kills of the aggregator under load cost",
        measure: lab::kills::measure,
    },
    Figure {
        name: "loop",
        about: "how long the whole loop takes on machines of namespaces, and each way back",
        measure: lab::turn::measure,
    },
    Figure {
        name: "accuracy",
        about: "how much of what is true of made fleets and labelled networks is found",
        measure: lab::accuracy::measure,
    },
    Figure {
        name: "inference",
        about: "what inferring and planning one window costs, by the size of the fleet",
        measure: lab::inference::measure,
    },
    Figure {
        name: "plan",
        about: "how good plans are and how long they take, on SINTER_DATA's traces",
        measure: lab::plan::measure,
    },
    Figure {
        name: "planning",
        about: "what planning takes by the size of the fleet, beside best-fit decreasing",
        measure: lab::plan::ladder::measure,
    },
    Figure {
        name: "grouping",
        about: "who depends on whom and who belongs together, beside methods of others",
        measure: lab::grouping::measure,
    },
    Figure {
        name: "inventory",
        about: "what looking at a large vCenter costs, and looking again once little changed",
        measure: lab::inventory::measure,
    },
];

/// What is no figure: promises that are kept or broken.
const CONFORMANCE: &str = "conformance";

/// Measures what the project claims, beside a peer or a floor in the same run.
///
/// `conformance` holds every adapter to a hypervisor to one set of promises.
///
/// Exit codes: 0 all targets met; 1 a figure could not be taken; 2 the call's words are wrong;
/// 3 a target was missed, or a promise broken.
#[derive(Debug, Parser)]
#[command(name = "sinter-lab", version)]
struct Arguments {
    /// `list`, `all`, `conformance`, or the name of a figure.
    figure: String,
    /// For a part of a figure that runs in a process of its own: what it is told.
    #[arg(hide = true)]
    part: Vec<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Columns for people.
    Table,
    /// One JSON document for scripts.
    Json,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(failure) => {
            let chain = common::task::Chain(failure.as_ref());
            drop(writeln!(io::stderr(), "sinter-lab: {chain}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    if let [file] = arguments.part.as_slice() {
        return perform(&arguments.figure, Path::new(file));
    }
    if let [folder, machines] = arguments.part.as_slice() {
        return serve(&arguments.figure, Path::new(folder), machines.parse()?);
    }
    let mut out = io::stdout().lock();
    if arguments.figure == "list" {
        for figure in FIGURES {
            writeln!(out, "{:16}{}", figure.name, figure.about)?;
        }
        writeln!(out, "{CONFORMANCE:16}no figure: what every adapter to a hypervisor promises")?;
        return Ok(ExitCode::SUCCESS);
    }
    let is_wanted = |figure: &&Figure| arguments.figure == "all" || figure.name == arguments.figure;
    let wanted: Vec<_> = FIGURES.iter().filter(is_wanted).collect();
    if arguments.figure == CONFORMANCE {
        return conformance(arguments.output, &mut out);
    }
    if wanted.is_empty() {
        writeln!(
            io::stderr(),
            "sinter-lab: there is no figure {:?}; see `sinter-lab list`",
            arguments.figure
        )?;
        return Ok(ExitCode::from(2));
    }
    let mut rows = Vec::new();
    for figure in wanted {
        let taken = (figure.measure)()?;
        if arguments.output == Output::Table {
            writeln!(out, "{}\n{}", figure.name, table(&taken))?;
        }
        rows.extend(taken.into_iter().map(|row| (figure.name, row)));
    }
    if arguments.output == Output::Json {
        let told: Vec<_> = rows.iter().map(|(figure, row)| json(figure, row)).collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&told)?)?;
    }
    let is_missed = rows.iter().any(|(_, row)| row.met() == Some(false));
    Ok(if is_missed { ExitCode::from(3) } else { ExitCode::SUCCESS })
}

/// Holds every adapter to its promises; what is left out is said, and allowed where all may be.
fn conformance(output: Output, out: &mut impl io::Write) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let columns = runtime.block_on(lab::conformance::all());
    let text = match output {
        Output::Table => lab::conformance::table(&columns),
        Output::Json => format!("{:#}\n", lab::conformance::json(&columns)),
    };
    write!(out, "{text}")?;
    let needs_all = std::env::var_os("SINTER_REQUIRE_ALL").is_some();
    let is_short = needs_all && columns.iter().any(|column| column.held.is_err());
    let is_wrong = is_short || columns.iter().any(lab::conformance::Column::is_wrong);
    Ok(if is_wrong { ExitCode::from(3) } else { ExitCode::SUCCESS })
}

/// A process of the ground truth or of what is looked at, in this one. It has one thread until it has entered its machine.
fn perform(part: &str, file: &Path) -> Result<ExitCode, Failure> {
    match part {
        "act" => lab::truth::act::act(file)?,
        "observed" => lab::observe::observed(file)?,
        "hold" => lab::observe::hold(file)?,
        "look" => lab::truth::look::look(file)?,
        other => return Err(format!("there is no part {other:?}").into()),
    }
    Ok(ExitCode::SUCCESS)
}

/// A server under load, in this process.
fn serve(part: &str, folder: &Path, machines: usize) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match part {
        "serve" => runtime.block_on(lab::serve::serve(folder, machines))?,
        "bare" => runtime.block_on(lab::bare::serve(folder, machines))?,
        other => return Err(format!("there is no part {other:?}").into()),
    }
    Ok(ExitCode::SUCCESS)
}

fn json(figure: &str, row: &Row) -> serde_json::Value {
    serde_json::json!({
        "figure": figure,
        "name": row.name,
        "value": row.value,
        "unit": row.unit,
        "peer": row.peer,
        "ratio": row.ratio(),
        "target": row.target.map(|target| target.to_string()),
        "met": row.met(),
    })
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header([
        "NAME",
        "VALUE",
        "UNIT",
        "PEER OR FLOOR",
        "ITS VALUE",
        "RATIO",
        "TARGET",
        "MET",
    ]);
    for row in rows {
        let dash = || "-".to_owned();
        let peer = row.peer.as_ref();
        table.add_row([
            row.name.clone(),
            short(row.value),
            row.unit.to_owned(),
            peer.map_or_else(dash, |peer| peer.name.clone()),
            peer.map_or_else(dash, |peer| short(peer.value)),
            row.ratio().map_or_else(dash, |ratio| format!("{ratio:.2}")),
            row.target.map_or_else(dash, |target| target.to_string()),
            row.met().map_or_else(dash, |met| if met { "yes" } else { "NO" }.to_owned()),
        ]);
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}
