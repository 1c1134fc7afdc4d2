//! A port whose process has no descriptor left waits instead of spinning, turns away who comes, and
//! serves again once there are some. Alone in its process: the limit is the process's.

use std::time::Duration;

use lab::ingress::{Site, eventually};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{io::AsyncReadExt as _, net::TcpStream, time};

fn open_descriptors() -> u64 {
    std::fs::read_dir("/proc/self/fd").unwrap().count() as u64
}

#[tokio::test]
async fn a_port_without_descriptors_waits_and_then_serves_again() {
    let site = Site::open().await;
    let mut witness = site.witness().await;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, open_descriptors() + 20, hard).unwrap();

    // Each connection takes one at either end, until there is none.
    let mut held = Vec::new();
    while site.refused("out_of_descriptors") == 0 {
        match TcpStream::connect(site.address).await {
            Ok(stream) => held.push(stream),
            Err(_) => time::sleep(Duration::from_millis(5)).await,
        }
    }
    assert!(held.len() >= 5, "{}", held.len());

    // The agent that is there notices nothing, and the loop looks five times a second, not more.
    witness.send_sample(2).await;
    witness.acknowledged(2).await;
    let before = site.refused("out_of_descriptors");
    time::sleep(Duration::from_secs(1)).await;
    let looked = site.refused("out_of_descriptors") - before;
    assert!(looked <= 10, "{looked} times in a second");

    // The last who came did not wait in the queue: it was turned away.
    let last = held.last_mut().unwrap();
    let mut byte = [0];
    let turned_away = time::timeout(lab::ingress::PATIENCE, last.read(&mut byte)).await;
    assert!(matches!(turned_away, Ok(Ok(0) | Err(_))), "{turned_away:?}");

    drop(held);
    eventually("descriptors to come free", || {
        open_descriptors() + 12 < getrlimit(Resource::RLIMIT_NOFILE).unwrap().0
    })
    .await;
    site.agent(1).await;
    site.close().await;
}
