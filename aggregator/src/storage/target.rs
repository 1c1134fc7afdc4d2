//! The iSCSI target `tgt` on this host: operations done and failed, per unit and initiator, which
//! is literally how many writes a machine made to a storage without error.
//!
//! It is asked through its own program, `tgtadm`; nothing else tells these counts. They are those of
//! sessions that are open: one that ends takes its counts with it.

mod text;

use std::{path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use async_trait::async_trait;
use common::clock::Timestamp;
use nix::errno::Errno;
use tokio::{process::Command, time};

use self::text::Target;
use super::{Device, Holder, StorageArray, StorageError, Told, Totals};

/// How long the program may take.
const LIMIT: Duration = Duration::from_secs(10);

/// One target daemon.
#[derive(Debug)]
pub struct IscsiTarget {
    name: String,
    program: PathBuf,
    socket: Option<PathBuf>,
}

impl IscsiTarget {
    /// The daemon that `program`, an absolute path to `tgtadm`, speaks to: the one at `socket`, or
    /// where daemons are by default.
    #[must_use]
    pub fn new(name: impl Into<String>, program: PathBuf, socket: Option<PathBuf>) -> Self {
        Self { name: name.into(), program, socket }
    }

    async fn ask(&self, arguments: &[&str]) -> Result<String, StorageError> {
        let mut command = Command::new(&self.program);
        command.args(["--lld", "iscsi"]).args(arguments).env_clear().stdin(Stdio::null());
        if let Some(socket) = &self.socket {
            command.env("TGT_IPC_SOCKET", socket);
        }
        let unreachable =
            |cause: Box<dyn std::error::Error + Send + Sync>| StorageError::Unreachable(cause);
        let output = time::timeout(LIMIT, command.kill_on_drop(true).output())
            .await
            .map_err(|_| unreachable("tgtadm took too long".into()))?
            .map_err(|cause| unreachable(cause.into()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        // It ends with the number of its error.
        let errno = output.status.code().map(Errno::from_raw);
        let is_away = |errno| {
            matches!(
                errno,
                Errno::ENOTCONN | Errno::ECONNREFUSED | Errno::ECONNRESET | Errno::EPIPE
            )
        };
        if errno.is_none_or(is_away) {
            return Err(unreachable(said.into()));
        }
        Err(StorageError::Refused { reason: said })
    }

    async fn targets(&self) -> Result<Vec<Target>, StorageError> {
        Ok(text::targets(&self.ask(&["--op", "show", "--mode", "target"]).await?))
    }
}

/// What a unit is called.
fn key(target: &str, unit: u64) -> String {
    format!("{target}/{unit}")
}

#[async_trait]
impl StorageArray for IscsiTarget {
    fn name(&self) -> &str {
        &self.name
    }

    async fn devices(&self) -> Result<Arc<Vec<Device>>, StorageError> {
        let mut devices = Vec::new();
        for target in self.targets().await? {
            devices.extend(target.units.iter().map(|unit| device(&target, unit)));
        }
        devices.sort_by(|left, right| left.key.cmp(&right.key));
        Ok(Arc::new(devices))
    }

    async fn totals(&self, now: Timestamp) -> Result<Vec<Totals>, StorageError> {
        let mut counted = Vec::new();
        for target in self.targets().await? {
            let tid = target.id.to_string();
            let said = self.ask(&["--op", "stat", "--mode", "target", "--tid", &tid]).await?;
            counted.push((target.id, text::counts(&said)));
        }
        // Who logged in since the targets were listed is counted already: names are asked for last.
        let named = self.targets().await?;
        let of = |tid: u64| named.iter().find(move |target| target.id == tid);
        let mut totals = Vec::new();
        for (tid, counts) in counted {
            let Some(target) = of(tid) else { continue };
            // Unit 0 is the controller; it stores nothing. A session that is gone has no name.
            totals.extend(counts.into_iter().filter(|counts| counts.unit > 0).filter_map(
                |counts| {
                    Some(Totals {
                        taken_at: now,
                        device: key(&target.name, counts.unit),
                        initiator: Some(target.initiator(counts.session)?.to_owned()),
                        reads: Some(counts.reads),
                        writes: Some(counts.writes),
                        read: Some(counts.read),
                        written: Some(counts.written),
                        failed: Some(counts.failed),
                    })
                },
            ));
        }
        Ok(totals)
    }
}

fn device(target: &Target, unit: &text::Unit) -> Device {
    let holders = target.sessions.iter().map(|session| Holder {
        initiator: session.initiator.clone(),
        addresses: session.addresses.clone(),
        may_write: Some(!unit.read_only),
    });
    let not = |why: &str| why.to_owned();
    Device {
        key: key(&target.name, unit.number),
        name: unit.store.clone().unwrap_or_else(|| key(&target.name, unit.number)),
        kind: Told::Is(format!("iSCSI {}", unit.kind)),
        bandwidth: Told::Not(not("the target does not tell a speed")),
        connections: Told::Is(holders.collect()),
        state: Told::Is(if unit.online { "Online" } else { "Offline" }.to_owned()),
        status: Told::Not(not("the target does not tell its health")),
        id: Told::or_reason(unit.serial.clone(), "the target tells no serial"),
        addresses: Told::Not(not("the target does not tell its portals")),
        macs: Told::Not(not("the target does not tell its links")),
        route: Told::Is(vec![format!("iSCSI target {} unit {}", target.name, unit.number)]),
        capacity: Told::or_reason(unit.size, "the target tells no size"),
        free: Told::Not(not("the target does not look into its store")),
        redundancy: Told::Not(not("the target does not know what its store lies on")),
        lies_on: unit.store.clone().into_iter().collect(),
        vendor: std::iter::once(("driver".to_owned(), "tgt".to_owned())).collect(),
    }
}
