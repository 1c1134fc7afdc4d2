//! `sinter-lab kills`: kills the aggregator under load, again and again, and holds its store
//! against what the generator was told.

use std::{path::Path, time::Duration};

use aggregator::repository::Repository;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{task, time};
use tokio_util::sync::CancellationToken;

use crate::{
    child::Server,
    figure::{Failure, Row, Target as Goal},
    load::{LoadAgent, Pace, Shape, run_all},
    serve,
};

const AGENTS: usize = 20;
const SHAPE: Shape = Shape { rows: 20, changed: 3 };
const PERIOD: Duration = Duration::from_millis(100);
/// How long what was sent may take to be part of committed windows once the kills are over.
const SETTLING: Duration = Duration::from_secs(90);

/// What a series of kills did.
#[derive(Debug)]
pub struct Outcome {
    /// Kills.
    pub kills: usize,
    /// Different samples sent.
    pub sent: u64,
    /// Streams that were opened, by all agents together.
    pub streams: u64,
    /// What was acknowledged and not known any more, by agent and number.
    pub lost: Vec<String>,
    /// Samples up to the last sealed one of each agent.
    pub sealed: u64,
    /// Samples in committed windows, in time or late.
    pub counted: u64,
}

/// Takes the figure.
///
/// # Errors
///
/// If the server does not come up again, or what was sent never settles.
#[expect(clippy::cast_precision_loss, reason = "counts of one run")]
pub fn measure() -> Result<Vec<Row>, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(kill_under_load(&std::env::current_exe()?, 100))?;
    let twice = outcome.counted.saturating_sub(outcome.sent);
    let missing = outcome.sent.saturating_sub(outcome.counted);
    Ok(vec![
        Row::new("kills under load", outcome.kills as f64, ""),
        Row::new("samples sent", outcome.sent as f64, ""),
        Row::new("acknowledged and lost", outcome.lost.len() as f64, "").held_to(Goal::AtMost(0.0)),
        Row::new("counted twice", twice as f64, "samples").held_to(Goal::AtMost(0.0)),
        Row::new("in no window", missing as f64, "samples").held_to(Goal::AtMost(0.0)),
    ])
}

/// Kills the server of `lab` (the program `sinter-lab`) so often, at moments that are random and
/// the same in every run.
///
/// # Errors
///
/// See [`measure`].
pub async fn kill_under_load(lab: &Path, kills: usize) -> Result<Outcome, Failure> {
    let folder = tempfile::tempdir()?;
    let mut server = Server::start(lab, "serve", folder.path(), AGENTS)?;
    let target = server.target(true);
    let agents = enrolled(&server).await?;
    let stop = CancellationToken::new();
    let load = run_all(agents, |agent| {
        agent.run(target.clone(), Pace::Every(PERIOD), u64::MAX, stop.clone())
    });
    let killing = async {
        let mut random = StdRng::seed_from_u64(7);
        for _ in 0..kills {
            time::sleep(Duration::from_millis(random.random_range(50..500))).await;
            server = killed(server, lab, folder.path()).await?;
        }
        stop.cancel();
        Ok::<_, Failure>(server)
    };
    let (agents, server) = tokio::join!(load, killing);
    let (agents, server) = (agents?, server?);
    let settled = run_all(agents, |agent| agent.settle(target.clone(), CancellationToken::new()));
    let agents = time::timeout(SETTLING, settled).await??;
    server.kill()?;
    let repository = Repository::open(&folder.path().join("store"))?;
    let checkpoints = repository.checkpoints().await?;
    Ok(Outcome {
        kills,
        sent: agents.iter().map(|agent| agent.told().sent).sum(),
        streams: agents.iter().map(|agent| agent.told().streams).sum(),
        lost: agents.iter().flat_map(|agent| agent.told().lost.clone()).collect(),
        sealed: checkpoints.iter().map(|checkpoint| checkpoint.last_sealed.sequence).sum(),
        counted: counted(&repository).await?,
    })
}

async fn killed(server: Server, lab: &Path, folder: &Path) -> Result<Server, Failure> {
    let (lab, folder) = (lab.to_owned(), folder.to_owned());
    let started = task::spawn_blocking(move || {
        server.kill()?;
        Server::start(&lab, "serve", &folder, AGENTS)
    });
    started.await?
}

async fn enrolled(server: &Server) -> Result<Vec<LoadAgent>, Failure> {
    let target = server.target(true);
    let mut agents = Vec::new();
    for number in 0..AGENTS {
        let vm = serve::machine_id(number);
        agents.push(LoadAgent::enrol(&target, &server.greeting().token, &vm, SHAPE).await?);
    }
    Ok(agents)
}

/// Samples in committed windows, in time or late.
async fn counted(repository: &Repository) -> Result<u64, Failure> {
    let (mut counted, mut from) = (0, None);
    loop {
        let page = repository.windows(from.as_deref(), 500).await?;
        counted += page.rows.iter().map(|row| row.samples + row.late).sum::<u64>();
        from = page.next;
        if from.is_none() {
            return Ok(counted);
        }
    }
}
