//! Running totals of machines, from one bulk question to each host.

use std::{collections::BTreeMap, time::Duration};

use common::{
    clock::{Clock as _, SystemClock, Timestamp},
    id::VmId,
    units::Bytes,
};
use futures::future::join_all;
use libvirt_rpc::DomainStats;
use tracing::warn;

use super::{LibvirtHypervisor, site::Site};
use crate::hypervisor::{HypervisorError, Telemetry, sites};

/// What a guest last said of its memory is believed for so long; the host's clock may be off.
const FRESH: Duration = Duration::from_secs(300);

impl LibvirtHypervisor {
    pub(super) async fn totals(&self) -> Result<BTreeMap<VmId, Telemetry>, HypervisorError> {
        let asked = self.sites.iter().map(|site| async move {
            site.totals().await.inspect_err(|error| {
                let cause = common::task::Chain(error).to_string();
                warn!(host = site.name, cause, "host told no totals");
            })
        });
        sites::totals(join_all(asked).await)
    }
}

impl Site {
    async fn totals(&self) -> Result<Vec<(VmId, Telemetry)>, HypervisorError> {
        let stats = self.client.stats().await?;
        let taken_at = SystemClock.now();
        let totals = stats.iter().filter_map(|stats| {
            let vm = stats.uuid.to_string().parse().ok()?;
            Some((vm, totals(stats, taken_at, self.faults.of(stats.uuid))))
        });
        Ok(totals.collect())
    }
}

fn totals(stats: &DomainStats, taken_at: Timestamp, faults: u64) -> Telemetry {
    Telemetry {
        taken_at,
        cpu_ms: stats.number("cpu.time").map(|ns| ns / 1_000_000),
        memory_used: memory_used(stats, taken_at),
        received: stats.sum("net", "rx.bytes").map(Bytes),
        sent: stats.sum("net", "tx.bytes").map(Bytes),
        read: stats.sum("block", "rd.bytes").map(Bytes),
        written: stats.sum("block", "wr.bytes").map(Bytes),
        read_operations: stats.sum("block", "rd.reqs"),
        write_operations: stats.sum("block", "wr.reqs"),
        // Counted by what the host told since we listen.
        failed_operations: Some(faults),
        // Only the guest knows.
        out_of_memory: None,
    }
}

/// What the guest's balloon driver said: all it has less what it could give away, or less what is
/// free and the cache of disks. `None` without a driver, or if it said nothing lately.
fn memory_used(stats: &DomainStats, now: Timestamp) -> Option<Bytes> {
    let kib = |name: &str| stats.number(&format!("balloon.{name}"));
    let said_at = Timestamp::from_millis(kib("last-update")?.checked_mul(1000)?);
    let is_fresh = now.since(said_at) <= FRESH && said_at.since(now) <= FRESH;
    if !is_fresh {
        return None;
    }
    let all = kib("available")?;
    let free = match kib("usable") {
        Some(usable) => usable,
        None => kib("unused")?.saturating_add(kib("disk_caches")?),
    };
    all.checked_sub(free)?.checked_mul(1024).map(Bytes)
}

#[cfg(test)]
mod tests {
    use libvirt_rpc::Value;
    use uuid::Uuid;

    use super::*;

    fn stats(figures: &[(&str, u64)]) -> DomainStats {
        let figures =
            figures.iter().map(|(name, value)| ((*name).to_owned(), Value::Unsigned(*value)));
        DomainStats { uuid: Uuid::nil(), figures: figures.collect() }
    }

    #[test]
    fn totals_are_sums_and_what_is_not_told_is_not_known() {
        let stats = stats(&[
            ("cpu.time", 2_500_000_000),
            ("block.count", 2),
            ("block.0.wr.reqs", 3),
            ("block.1.wr.reqs", 4),
            ("net.count", 0),
        ]);
        let totals = totals(&stats, Timestamp::from_millis(0), 2);
        assert_eq!((totals.cpu_ms, totals.write_operations), (Some(2500), Some(7)));
        assert_eq!((totals.received, totals.memory_used), (None, None));
        assert_eq!((totals.failed_operations, totals.out_of_memory), (Some(2), None));
    }

    #[test]
    fn memory_is_what_the_guest_said_lately() {
        let now = Timestamp::from_millis(1_000_000_000);
        let said = |at: u64| {
            let figures = [("last-update", at), ("available", 100), ("usable", 60), ("unused", 10)];
            let names: Vec<_> =
                figures.iter().map(|(name, value)| (format!("balloon.{name}"), *value)).collect();
            let named: Vec<_> = names.iter().map(|(name, value)| (name.as_str(), *value)).collect();
            memory_used(&stats(&named), now)
        };
        assert_eq!(said(1_000_000), Some(Bytes(40 * 1024)));
        assert_eq!(said(0), None, "it never said anything");
        assert_eq!(said(999_000), None, "it said that long ago");
    }
}
