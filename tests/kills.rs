//! Kills the aggregator under load a hundred times and holds its store against the generator.

use std::path::Path;

use lab::kills::kill_under_load;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_kills_lose_no_acknowledged_sample_and_count_none_twice() {
    let lab = Path::new(env!("CARGO_BIN_EXE_sinter-lab"));

    let outcome = kill_under_load(lab, 100).await.unwrap();

    println!("{outcome:?}");
    assert!(outcome.lost.is_empty(), "acknowledged and lost: {:?}", outcome.lost);
    assert_eq!((outcome.counted, outcome.sealed), (outcome.sent, outcome.sent));
    assert!(outcome.streams > 500, "the kills were felt: {} streams", outcome.streams);
}
