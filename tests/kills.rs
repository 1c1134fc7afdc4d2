//! Kills the aggregator under load, again and again, and holds its store against the generator.

use std::{collections::BTreeMap, path::Path, time::Duration};

use aggregator::repository::Repository;
use lab::{
    child::Server,
    load::{LoadAgent, Pace, Shape, run_all},
    serve,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::time;
use tokio_util::sync::CancellationToken;

const AGENTS: usize = 20;
const KILLS: usize = 100;
const SHAPE: Shape = Shape { rows: 20, changed: 3 };
const PERIOD: Duration = Duration::from_millis(100);

fn start(folder: &Path) -> Server {
    let lab = Path::new(env!("CARGO_BIN_EXE_sinter-lab"));
    Server::start(lab, "serve", folder, AGENTS).unwrap()
}

async fn enrolled(server: &Server) -> Vec<LoadAgent> {
    let target = server.target(true);
    let mut agents = Vec::new();
    for number in 0..AGENTS {
        let vm = serve::machine_id(number);
        agents.push(LoadAgent::enrol(&target, &server.greeting().token, &vm, SHAPE).await.unwrap());
    }
    agents
}

/// Samples in committed windows, in time or late.
async fn counted(repository: &Repository) -> u64 {
    let (mut counted, mut from) = (0, None);
    loop {
        let page = repository.windows(from.as_deref(), 500).await.unwrap();
        counted += page.rows.iter().map(|row| row.samples + row.late).sum::<u64>();
        from = page.next;
        if from.is_none() {
            return counted;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_kills_lose_no_acknowledged_sample_and_count_none_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = start(folder.path());
    let target = server.target(true);
    let agents = enrolled(&server).await;
    let stop = CancellationToken::new();
    let load = run_all(agents, |agent| {
        agent.run(target.clone(), Pace::Every(PERIOD), u64::MAX, stop.clone())
    });

    let kills = async {
        // The moments are random and the same in every run.
        let mut random = StdRng::seed_from_u64(7);
        for _ in 0..KILLS {
            time::sleep(Duration::from_millis(random.random_range(50..500))).await;
            let folder = folder.path().to_owned();
            server = tokio::task::spawn_blocking(move || {
                server.kill().unwrap();
                start(&folder)
            })
            .await
            .unwrap();
        }
        stop.cancel();
        server
    };
    let (agents, server) = tokio::join!(load, kills);
    let deadline = CancellationToken::new();
    let settled = run_all(agents.unwrap(), |agent| agent.settle(target.clone(), deadline.clone()));
    let agents =
        time::timeout(Duration::from_secs(90), settled).await.expect("all sealed").unwrap();
    server.kill().unwrap();

    let lost: Vec<_> = agents.iter().flat_map(|agent| agent.told().lost.clone()).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let sent: u64 = agents.iter().map(|agent| agent.told().sent).sum();
    let streams: u64 = agents.iter().map(|agent| agent.told().streams).sum();
    assert!(streams > (AGENTS * KILLS / 4) as u64, "the kills were felt: {streams} streams");
    let repository = Repository::open(&folder.path().join("store")).unwrap();
    let progress: BTreeMap<_, _> = repository
        .checkpoints()
        .await
        .unwrap()
        .into_iter()
        .map(|checkpoint| (checkpoint.vm, checkpoint.last_sealed.sequence))
        .collect();
    let sealed: u64 = progress.values().sum();
    assert_eq!((counted(&repository).await, sealed), (sent, sent));
    println!("{sent} samples, {KILLS} kills, {streams} streams: none lost, none twice");
}
