//! `sinter-lab observe`: what looking costs, beside the floors and the programs that look too.
//!
//! Everything is measured inside namespaces (network, processes, mounts), so that the tables hold what
//! was put there and nothing else, and all of it ends together.

mod floors;
mod stand;
mod idle;
mod openings;
mod ticks;
mod wire;

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use stand::hold;

use crate::figure::{Failure, Row, Target};

/// A table to look at.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Size {
    sockets: usize,
    processes: usize,
}

const SIZES: [Size; 5] = [
    Size { sockets: 100, processes: 200 },
    Size { sockets: 1_000, processes: 200 },
    Size { sockets: 10_000, processes: 200 },
    Size { sockets: 10_000, processes: 2_000 },
    Size { sockets: 100_000, processes: 200 },
];

/// What one reader costs per look, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Cost {
    cpu_ms: f64,
    wall_ms: f64,
}

/// What readers cost at one size, by name; one that is not installed is not in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Looked {
    size: Size,
    costs: BTreeMap<String, Cost>,
}

/// What is done in one set of namespaces, so that nothing of one table lingers in the next.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Task {
    /// All readers look at a table.
    Look(Size),
    /// The agent that is given rests before a table of a thousand sockets.
    Rest(PathBuf),
    /// Use is looked at between two samples.
    Tick(ticks::Beside),
}

/// The agent at rest, and what it would send.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Rested {
    idle: idle::Idle,
    wire: wire::Wire,
}

/// The program that is measured.
const OURS: &str = "sinter-agent's look";
const DUMP: &str = "bare sock_diag dump";
const WALK: &str = "bare /proc/PID/stat walk";
const EXPORTER: &str = "node_exporter + tcpstat + processes";

/// Takes the figure.
///
/// # Errors
///
/// If namespaces cannot be made here, or the measured processes do not come up.
pub fn measure() -> Result<Vec<Row>, Failure> {
    let agent = idle::Agent::find()?;
    let mut rows = Vec::new();
    for size in SIZES {
        rows.extend(of_size(&inside::<Looked>(&Task::Look(size))?));
    }
    for beside in ticks::ALL {
        rows.push(inside::<ticks::Ticked>(&Task::Tick(beside))?.row());
    }
    rows.extend(openings::measure()?);
    let rested: Rested = inside(&Task::Rest(agent.program.clone()))?;
    rows.extend(rested.idle.rows(agent.build));
    rows.extend(rested.wire.rows());
    Ok(rows)
}

/// Does a task in namespaces of its own, which end with it.
fn inside<T: DeserializeOwned>(task: &Task) -> Result<T, Failure> {
    let folder = tempfile::Builder::new().prefix("sinter-observe-").tempdir()?;
    let file = folder.path().join("task.json");
    fs::write(&file, serde_json::to_vec(task)?)?;
    let output = Command::new("unshare")
        .args(["--net", "--pid", "--fork", "--mount-proc", "--kill-child", "--"])
        .arg(env::current_exe()?)
        .arg("observed")
        .arg(file)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("measuring ended with {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Does the task in `file`, inside the namespaces, and prints what was measured.
///
/// # Errors
///
/// As [`measure`].
pub fn observed(file: &Path) -> Result<(), Failure> {
    crate::truth::machines::ip(&["link", "set", "lo", "up"])?;
    let folder = file.parent().ok_or("the task has no folder")?;
    let measured = match serde_json::from_slice(&fs::read(file)?)? {
        Task::Look(size) => {
            let _stand = stand::Stand::put_up(size, folder)?;
            serde_json::to_string(&Looked { size, costs: floors::all(size)? })?
        }
        Task::Rest(agent) => {
            let size = Size { sockets: 1_000, processes: 200 };
            let _stand = stand::Stand::put_up(size, folder)?;
            let wire = wire::measure()?;
            serde_json::to_string(&Rested { idle: idle::measure(folder, &agent)?, wire })?
        }
        Task::Tick(beside) => {
            let size = Size { sockets: 0, processes: beside.processes };
            let _stand = stand::Stand::put_up(size, folder)?;
            serde_json::to_string(&ticks::measure(beside)?)?
        }
    };
    writeln!(io::stdout(), "{measured}")?;
    Ok(())
}

fn of_size(looked: &Looked) -> Vec<Row> {
    let Some(ours) = looked.costs.get(OURS) else { return Vec::new() };
    let Size { sockets, processes } = looked.size;
    let at = format!("{sockets} sockets, {processes} processes");
    let mut rows = Vec::new();
    for (name, cost) in looked.costs.iter().filter(|(name, _)| *name != OURS) {
        let row = Row::new(format!("CPU of a look, {at}"), ours.cpu_ms, "ms")
            .beside(name.clone(), cost.cpu_ms);
        let is_held_to_the_dump = name == DUMP && sockets == 10_000 && processes == 200;
        rows.push(match name.as_str() {
            _ if is_held_to_the_dump => row.held_to(Target::AtMostOfPeer(2.0)),
            EXPORTER => row.held_to(Target::AtMostOfPeer(1.0)),
            _ => row,
        });
    }
    let least = looked.costs.get(DUMP).map_or(f64::NAN, |cost| cost.wall_ms);
    rows.push(Row::new(format!("time of a look, {at}"), ours.wall_ms, "ms").beside(DUMP, least));
    rows
}
