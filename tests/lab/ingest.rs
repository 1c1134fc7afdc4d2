//! `sinter-lab ingest`: what a sample costs from the socket to the committed window, beside a bare
//! tonic stream of the same messages in the same run.

use std::{hint::black_box, path::Path, time::Duration};

use agent::observe::{Inputs, LinuxObserver, Observe as _, Settings};
use common::{
    clock::{Clock as _, SystemClock},
    delta::{self, Stamp},
    sample::SampleId,
    wire::types::v1,
};
use prost::Message as _;
use tokio::time;
use tokio_util::sync::CancellationToken;
use tonic::transport::Identity;

use crate::{
    child::Server,
    figure::{Failure, Row, Target as Goal, own_cpu_seconds},
    load::{LoadAgent, Pace, Shape, Target, run_all},
    serve,
};

/// Agents at once while throughput is measured.
const AGENTS: usize = 8;
/// Samples of each of them.
const SAMPLES: u64 = 6_000;
/// Samples of each of them while the pace is even.
const EVEN_SAMPLES: u64 = 1_500;
/// The even pace: what the aggregator lets one agent send without slowing it down.
const EVEN: Duration = Duration::from_millis(10);
/// Agents that are attached and quiet while memory is measured.
const QUIET: usize = 400;
/// Forty rows that all change: the message that the bare decode floor is known for.
const BUSY: Shape = Shape { rows: 40, changed: 40 };
/// A thousand rows of which five change: an ordinary sample of a busy guest.
const CALM: Shape = Shape { rows: 1_000, changed: 5 };

/// What one server did under load.
struct Measured {
    per_core_second: f64,
    evenly: f64,
    bytes_per_sample: f64,
    resident_per_agent: f64,
}

/// Takes the figure.
///
/// # Errors
///
/// If a server does not come up or loses a sample.
pub fn measure() -> Result<Vec<Row>, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let lab = std::env::current_exe()?;
    let ours = runtime.block_on(under_load(&lab, "serve"))?;
    let bare = runtime.block_on(under_load(&lab, "bare"))?;
    let (full, delta) = runtime.block_on(sizes(&lab))?;
    let name = "bare tonic stream, TLS";
    Ok(vec![
        Row::new("samples per core second, durable and windowed", ours.per_core_second, "1/s")
            .beside(name, bare.per_core_second)
            .held_to(Goal::AtLeastOfPeer(0.7)),
        // A server that is flooded finds all in its caches and wakes up for many messages at once.
        // The aggregator slows a flood down, the bare stream does not: here both get the same.
        Row::new("the same at 100 samples a second by each of 8 agents", ours.evenly, "1/s")
            .beside(name, bare.evenly),
        Row::new("bytes per sample of 40 changed rows", ours.bytes_per_sample, "B")
            .beside(name, bare.bytes_per_sample),
        Row::new("bytes per sample, 5 of 1,000 rows changed", delta, "B")
            .beside("full sample of 1,000 rows", full)
            .held_to(Goal::AtMostOfPeer(0.02)),
        Row::new("resident memory per quiet agent", ours.resident_per_agent / 1024.0, "KiB")
            .beside(name, bare.resident_per_agent / 1024.0),
        agent_cost()?,
    ])
}

#[expect(clippy::cast_precision_loss, reason = "counts of one run")]
async fn under_load(lab: &Path, part: &str) -> Result<Measured, Failure> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(lab, part, folder.path(), AGENTS + QUIET)?;
    let target = server.target(false);
    let agents = enrolled(&server, &target, 0..AGENTS, BUSY).await?;
    let stop = after(Duration::from_secs(120));
    let before = server.cpu()?;
    let flood = Pace::Flood { under_way: 64 };
    let agents =
        run_all(agents, |agent| agent.run(target.clone(), flood, SAMPLES, stop.clone())).await?;
    let spent = (server.cpu()? - before).as_secs_f64();
    let total: u64 = agents.iter().map(|agent| agent.told().acknowledged).sum();
    let bytes: u64 = agents.iter().map(|agent| agent.told().bytes).sum();
    let lost: Vec<_> = agents.iter().flat_map(|agent| agent.told().lost.clone()).collect();
    if total < SAMPLES * AGENTS as u64 || !lost.is_empty() {
        return Err(format!("{part}: {total} samples acknowledged, lost: {lost:?}").into());
    }
    let before = server.cpu()?;
    let (pace, goal) = (Pace::Every(EVEN), SAMPLES + EVEN_SAMPLES);
    let agents =
        run_all(agents, |agent| agent.run(target.clone(), pace, goal, stop.clone())).await?;
    let evenly = agents.iter().map(|agent| agent.told().acknowledged).sum::<u64>() - total;
    let evenly = evenly as f64 / (server.cpu()? - before).as_secs_f64();
    drop(agents);
    let resident_per_agent = quiet(&server, &target).await?;
    Ok(Measured {
        per_core_second: total as f64 / spent,
        evenly,
        bytes_per_sample: bytes as f64 / total as f64,
        resident_per_agent,
    })
}

/// Resident memory that one more agent costs, attached, with a table of a hundred rows.
#[expect(clippy::cast_precision_loss, reason = "bytes of one process")]
async fn quiet(server: &Server, target: &Target) -> Result<f64, Failure> {
    let shape = Shape { rows: 100, changed: 1 };
    let agents = enrolled(server, target, AGENTS..AGENTS + QUIET, shape).await?;
    let before = server.resident()?;
    let stop = CancellationToken::new();
    let every = Pace::Every(Duration::from_secs(10));
    let attached =
        run_all(agents, |agent| agent.run(target.clone(), every, u64::MAX, stop.clone()));
    let watch = async {
        time::sleep(Duration::from_secs(20)).await;
        let after = server.resident();
        stop.cancel();
        after
    };
    let (_, after) = tokio::join!(attached, watch);
    Ok(after?.saturating_sub(before) as f64 / QUIET as f64)
}

async fn enrolled(
    server: &Server,
    target: &Target,
    numbers: std::ops::Range<usize>,
    shape: Shape,
) -> Result<Vec<LoadAgent>, Failure> {
    let mut agents = Vec::new();
    for number in numbers {
        let vm = serve::machine_id(number);
        let agent = match &server.greeting().identity {
            Some((certificate, key)) => {
                LoadAgent::with_identity(&vm, Identity::from_pem(certificate, key), shape)
            }
            None => LoadAgent::enrol(target, &server.greeting().token, &vm, shape).await?,
        };
        agents.push(agent);
    }
    Ok(agents)
}

/// Bytes of a full sample and of the ones after it, before compression.
#[expect(clippy::cast_precision_loss, reason = "bytes of few samples")]
async fn sizes(lab: &Path) -> Result<(f64, f64), Failure> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(lab, "bare", folder.path(), 1)?;
    let target = server.target(true);
    let stop = after(Duration::from_secs(20));
    let flood = Pace::Flood { under_way: 1 };
    let mut totals = Vec::new();
    for samples in [1, 101] {
        let agents = enrolled(&server, &target, 0..1, CALM).await?;
        let agents =
            run_all(agents, |agent| agent.run(target.clone(), flood, samples, stop.clone()))
                .await?;
        totals.push(agents.iter().map(|agent| agent.told().bytes).sum::<u64>() as f64);
    }
    let (full, all) = (totals[0], totals[1]);
    Ok((full, (all - full) / 100.0))
}

/// A stop that comes by itself, so that a server that stands still ends the measurement.
fn after(limit: Duration) -> CancellationToken {
    let stop = CancellationToken::new();
    let timer = stop.clone();
    // A thread, since the measured runtime shall have nothing to do but the load.
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        timer.cancel();
    });
    stop
}

/// CPU of one whole sample in a guest: looking, taking the difference, encoding; beside encoding
/// alone, which is all that a bare client of the same messages would do.
fn agent_cost() -> Result<Row, Failure> {
    const LOOKS: u32 = 50;
    let mut observer = LinuxObserver::new(Settings::default());
    let inputs = Inputs::default();
    let mut last = observer.observe(&inputs, SystemClock.now())?;
    let mut messages = Vec::new();
    let before = own_cpu_seconds();
    for sequence in 1..=u64::from(LOOKS) {
        let now = SystemClock.now();
        let seen = observer.observe(&inputs, now)?;
        let id = SampleId { epoch: 1, sequence };
        let stamp = Stamp { id, taken_at: now, ..Stamp::default() };
        let message = v1::Sample::from(&delta::between(Some(&last), &seen, stamp));
        black_box(message.encode_to_vec());
        messages.push(message);
        last = seen;
    }
    let whole = own_cpu_seconds() - before;
    let before = own_cpu_seconds();
    for message in &messages {
        black_box(message.encode_to_vec());
    }
    let encoding = own_cpu_seconds() - before;
    let each_ms = |seconds: f64| seconds * 1000.0 / f64::from(LOOKS);
    Ok(Row::new("agent CPU per sample, this machine", each_ms(whole), "ms")
        .beside("encoding the same messages alone", each_ms(encoding)))
}
