//! A real agent on a small budget: under load it leaves out and says so, and when the load goes it takes
//! everything up again. No time is waited for, only what the samples and the log say.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]
#![expect(dead_code, reason = "each test uses a part of the world")]

mod world;

use std::{
    fs,
    net::{TcpListener, TcpStream},
    time::Duration,
};

use nix::{
    libc,
    sys::socket::{setsockopt, sockopt::Linger},
};
use tokio::time::{self, Instant};

use world::{Aggregator, Guest, Known, Ways};

/// For each step back the agent waits a span of five seconds, and there are six steps.
const PATIENCE: Duration = Duration::from_secs(180);
/// Connections that are opened at once.
const BATCH: usize = 250;
/// Descriptors that the rest of the test may need.
const SPARE: u64 = 256;

/// Waits until `wanted` gives something.
async fn until<T>(
    aggregator: &Aggregator,
    what: &str,
    mut wanted: impl FnMut(&Known) -> Option<T>,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = wanted(&aggregator.known()) {
            return found;
        }
        assert!(Instant::now() < deadline, "not seen: {what}");
        time::sleep(Duration::from_millis(20)).await;
    }
}

/// What the agent used so far, and when its sample was taken.
fn used(known: &Known) -> Option<(u64, u64)> {
    let sample = known.samples.values().next_back()?;
    Some((sample.counters.agent_cpu_ms?, sample.monotonic_ms))
}

fn left_out(known: &Known) -> Option<Vec<String>> {
    Some(known.observation.as_ref()?.agent.as_ref()?.left_out.clone())
}

/// Connections with both ends here, which leave nothing behind when they are dropped.
struct Load {
    listener: TcpListener,
    held: Vec<(TcpStream, TcpStream)>,
}

impl Load {
    fn none() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").unwrap(), held: Vec::new() }
    }

    fn grow(&mut self) {
        for _ in 0..BATCH {
            let near = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
            let (far, _) = self.listener.accept().unwrap();
            // A reset leaves no TIME_WAIT.
            for end in [&near, &far] {
                setsockopt(end, Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
            }
            self.held.push((near, far));
        }
    }

    fn has_room(&self) -> bool {
        let (soft, _) =
            nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
        (self.held.len() + BATCH) as u64 * 2 + SPARE < soft
    }
}

/// The percentage of a core that an agent without a load takes here, by a build that nobody made quick.
async fn cost_at_rest(aggregator: &Aggregator) -> f64 {
    let (cpu, at) = until(aggregator, "first samples", |known| {
        (known.samples.len() >= 3).then(|| used(known)).flatten()
    })
    .await;
    let (more, later) = until(aggregator, "samples of ten seconds", |known| {
        used(known).filter(|(_, later)| *later > at + 10_000)
    })
    .await;
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let percent = (more - cpu) as f64 * 100.0 / (later - at) as f64;
    percent
}

fn set_budget(guest: &Guest, cpu_percent: f64) {
    let path = guest.path("agent.toml");
    let text = fs::read_to_string(&path).unwrap();
    let (before, _) = text.split_once("[budget]").unwrap();
    let budget =
        format!("[budget]\ncpu_percent = {cpu_percent:.1}\nmemory_mib = 1024\nover_seconds = 5\n");
    fs::write(&path, format!("{before}{budget}")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_it_leaves_out_and_says_so_and_takes_all_up_again() {
    let ways = Ways { period_ms: 1000, ..Ways::default() };
    let aggregator = Aggregator::start(ways).await;
    let mut guest = Guest::new(&aggregator, "");
    guest.start();
    let at_rest = cost_at_rest(&aggregator).await;
    assert!(guest.terminate());
    let budget = (at_rest * 4.0).clamp(1.0, 100.0);
    set_budget(&guest, budget);
    let before = aggregator.known().samples.len();

    guest.start();
    let first = until(&aggregator, "a sample of the agent with a budget", |known| {
        (known.samples.len() > before).then(|| left_out(known)).flatten()
    });
    assert_eq!(first.await, Vec::<String>::new());
    let mut load = Load::none();
    while left_out(&aggregator.known()).unwrap().is_empty() {
        assert!(load.has_room(), "{} connections are no load on {budget} %", load.held.len());
        load.grow();
        let seen = aggregator.known().samples.len();
        until(&aggregator, "two samples more", |known| {
            (known.samples.len() >= seen + 2).then_some(())
        })
        .await;
    }
    let first = left_out(&aggregator.known()).unwrap();
    assert!(first[0].starts_with("looks between samples"), "{first:?}");
    assert!(guest.log().contains("agent was over its budget; it leaves out more"));

    drop(load);
    until(&aggregator, "nothing left out", |known| left_out(known)?.is_empty().then_some(())).await;
    assert!(guest.log().contains("agent was well within its budget; it leaves out less"));
    let limit = aggregator.known().observation.clone().unwrap().agent.unwrap().cpu_limit.unwrap();
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let off = (limit.0 as f64 / 10.0 - budget).abs();
    assert!(off < 0.1, "{limit} for {budget} %");
}
