//! What the tests of the agents' port stand on: a hub behind a real port, a hypervisor that only
//! counts its machines, and agents that may be as bad as they like.

mod link;
mod machines;
mod site;

use std::{future::Future, time::Duration};

use common::{
    clock::{Clock as _, SystemClock, Timestamp},
    delta::{self, Stamp},
    sample::{Facts, Interface, Observation, SampleId},
    wire::types::v1,
};
use tokio::time;

pub use self::{
    link::{ATTACH, Agent, Link, Raw},
    machines::{Machines, mac},
    site::{PLENTY, Site},
};

/// The token that a site begins with.
pub const TOKEN: &str = "token-of-the-whole-fleet-0123456789";
/// No wait of these tests is meant to last this long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What `vm-NUMBER` says of itself.
pub fn facts(number: u8) -> Facts {
    Facts {
        product_uuid: Some(format!("vm-{number}")),
        hostname: format!("host-of-vm-{number}"),
        agent_version: "0.1.0".into(),
        interfaces: vec![Interface {
            name: "eth0".into(),
            mac: Some(mac(number)),
            addresses: vec![format!("10.0.0.{number}/24").parse().unwrap()],
            up: true,
        }],
        ..Facts::default()
    }
}

/// A sample of `vm-NUMBER`, taken now.
pub fn sample(number: u8, sequence: u64, full: bool) -> v1::Sample {
    let observation = Observation { facts: facts(number), ..Observation::default() };
    let before = (!full).then_some(&observation);
    let id = SampleId { epoch: 1, sequence };
    let stamp = Stamp { id, taken_at: SystemClock.now(), ..Stamp::default() };
    (&delta::between(before, &observation, stamp)).into()
}

/// As it stands on the wire.
pub fn millis(at: Timestamp) -> i64 {
    i64::try_from(at.as_millis()).unwrap()
}

/// Waits for it, and not for ever.
pub async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    match time::timeout(PATIENCE, wait).await {
        Ok(done) => done,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// Looks again and again until it is so.
pub async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    within(what, async {
        while !is_so() {
            time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
