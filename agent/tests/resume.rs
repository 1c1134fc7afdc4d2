//! A line that is cut, an agent that crashes, an aggregator that is away: nothing is lost, nothing
//! is told twice, and what could not be seen is said.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]
#![expect(dead_code, reason = "each test uses a part of the world")]

mod world;

use std::{collections::BTreeMap, fs, time::Duration};

use agent::spool::Spool;
use common::clock::{Clock as _, SystemClock};
use rand::Rng as _;
use tokio::time;
use world::{Aggregator, Guest, Known, VM, Ways};

/// The sequences of each epoch.
fn sequences(known: &Known) -> BTreeMap<u64, Vec<u64>> {
    let mut epochs: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for id in known.samples.keys() {
        epochs.entry(id.epoch).or_default().push(id.sequence);
    }
    epochs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cuts_and_crashes_lose_nothing_and_count_nothing_twice() {
    let aggregator = Aggregator::start(Ways::default()).await;
    let mut guest = Guest::new(&aggregator, "");
    guest.start();
    for round in 1..=10_usize {
        aggregator.wait("a hello", |known| known.hellos.len() >= round).await;
        let before = aggregator.known().samples.len();
        aggregator.wait("samples", |known| known.samples.len() > before + 2).await;
        let wait = rand::rng().random_range(0..150);
        time::sleep(Duration::from_millis(wait)).await;
        if round % 3 == 0 {
            guest.kill();
            guest.start();
        } else {
            aggregator.cut();
        }
    }
    aggregator.wait("a last hello", |known| known.hellos.len() >= 11).await;
    let before = aggregator.known().samples.len();
    aggregator.wait("last samples", |known| known.samples.len() > before + 2).await;
    guest.kill();

    let known = aggregator.known();
    let epochs = sequences(&known);
    assert_eq!(epochs.len(), 4, "three crashes: {:?}", epochs.keys());
    for (epoch, sequences) in epochs {
        let whole: Vec<u64> = (1..=sequences.len() as u64).collect();
        assert_eq!(sequences, whole, "epoch {epoch} has no hole");
    }
    assert_eq!((known.duplicates, known.unusable), (0, 0));
    let gaps: Vec<_> = known.samples.values().flat_map(|sample| &sample.gaps).collect();
    assert_eq!(gaps.len(), 3, "each crash is said: {gaps:?}");
    let observation = known.observation.as_ref().unwrap();
    assert_eq!(observation.facts.product_uuid.as_deref(), Some(VM));
    assert!(observation.processes.len() > 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_sealed_stays_and_what_is_goes() {
    let aggregator = Aggregator::start(Ways { seals: false, ..Ways::default() }).await;
    let mut guest = Guest::new(&aggregator, "");
    guest.start();
    aggregator.wait("samples", |known| known.samples.len() >= 5).await;
    // The aggregator seals the third while the agent is away, and hears of the rest again only as
    // far as it has not received it.
    let third = *aggregator.known().samples.keys().nth(2).unwrap();
    aggregator.known().sealed = Some(third);
    aggregator.cut();
    aggregator.wait("another hello", |known| known.hellos.len() >= 2).await;
    let spooled = aggregator.known().hellos[1].spooled_samples;
    assert!(spooled >= 5, "{spooled} wait although they were received");
    let before = aggregator.known().samples.len();
    aggregator.wait("more samples", |known| known.samples.len() > before + 2).await;
    guest.kill();

    let spool = Spool::open(&guest.path("state/spool"), 64 << 20, SystemClock.now()).unwrap();
    let first = spool.after(None)[0].0;
    assert_eq!((first.epoch, first.sequence), (third.epoch, third.sequence + 1));
    assert_eq!(aggregator.known().duplicates, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_renewed_while_the_agent_goes_on() {
    // Certificates begin an hour before they are made: two thirds of this one are soon over.
    let lifetime = Duration::from_secs(1801);
    let aggregator = Aggregator::start(Ways { lifetime, ..Ways::default() }).await;
    let mut guest = Guest::new(&aggregator, "");
    guest.start();
    aggregator.wait("a renewal", |known| known.renewed >= 1 && known.samples.len() >= 3).await;
    assert_eq!(aggregator.known().tokens.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clone_enrols_as_itself_and_sends_nothing_of_its_source() {
    let aggregator = Aggregator::start(Ways { seals: false, ..Ways::default() }).await;
    let mut guest = Guest::new(&aggregator, "");
    guest.start();
    aggregator.wait("samples", |known| known.samples.len() >= 3).await;
    assert!(guest.terminate());

    let clone = "2f1ab9d0-0000-4000-8000-000000000002";
    fs::write(guest.path("dmi/product_uuid"), clone).unwrap();
    fs::write(guest.path("dmi/product_serial"), "ticket-1").unwrap();
    *aggregator.known() = Known::default();
    guest.start();
    aggregator.wait("samples of the clone", |known| known.samples.len() >= 3).await;
    let known = aggregator.known();
    assert_eq!(known.tokens, ["ticket-1", world::TOKEN], "the ticket goes first");
    assert_eq!(known.hellos[0].facts.as_ref().unwrap().product_uuid, clone);
    assert_eq!((known.hellos[0].epoch, known.hellos[0].spooled_samples), (1, 0));
    assert!(known.samples.values().all(|sample| sample.gaps.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_aggregator_is_not_trusted() {
    let (ours, theirs) =
        (Aggregator::start(Ways::default()).await, Aggregator::start(Ways::default()).await);
    let mut guest = Guest::new(&theirs, "");
    let text = fs::read_to_string(guest.path("agent.toml")).unwrap();
    let text = text.replace(&theirs.fingerprint(), &ours.fingerprint());
    fs::write(guest.path("agent.toml"), text).unwrap();
    guest.start();
    let until = time::Instant::now() + Duration::from_secs(20);
    while !guest.log().contains("UnknownIssuer") {
        assert!(time::Instant::now() < until, "{}", guest.log());
        time::sleep(Duration::from_millis(20)).await;
    }
    assert!(theirs.known().tokens.is_empty(), "the token was not shown");
}
