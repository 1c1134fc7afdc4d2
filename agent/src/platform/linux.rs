//! Linux's answers to what [`super`] asks.

use std::{io, path::Path, time::Duration};

use common::units::Bytes;
use nix::sys::{
    resource::{UsageWho, getrusage},
    statvfs::statvfs,
    time::TimeVal,
};
use procfs::process::Process;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{OwnUse, Right, Rights, Size};

mod heap;
mod priority;

pub use heap::{keep_to_one_heap, without_own_settings};
pub use priority::become_humble;

/// Bits of the capabilities that stand for our rights, as the kernel's capability.h numbers them.
const CAPABILITIES: [(u32, Right); 3] =
    [(2, Right::ReadFiles), (12, Right::Network), (19, Right::Processes)];

/// What this process used so far; `None` if the system does not tell.
#[must_use]
pub fn own_use() -> Option<OwnUse> {
    let used = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let cpu = span(used.user_time())? + span(used.system_time())?;
    let pages = Process::myself().and_then(|own| own.statm()).ok()?.resident;
    Some(OwnUse { cpu, resident: Bytes(pages.saturating_mul(procfs::page_size())) })
}

fn span(time: TimeVal) -> Option<Duration> {
    let seconds = u64::try_from(time.tv_sec()).ok()?;
    Some(Duration::new(seconds, u32::try_from(time.tv_usec()).ok()?.saturating_mul(1000)))
}

/// What this process may do; `None` if the system does not tell.
#[must_use]
pub fn rights() -> Option<Rights> {
    let status = Process::myself().and_then(|own| own.status()).ok()?;
    let has = |bit: u32| status.capeff & (1 << bit) != 0;
    let held = CAPABILITIES.iter().filter(|(bit, _)| has(*bit)).map(|(_, right)| *right).collect();
    Some(Rights { user: status.euid, held })
}

/// Bytes that are free for us where `path` is; `None` if the system does not tell.
#[must_use]
pub fn room_at(path: &Path) -> Option<Bytes> {
    let system = statvfs(path).ok()?;
    Some(Bytes(system.blocks_available().saturating_mul(system.fragment_size())))
}

/// The size of the terminal that standard output is; `None` if it is none.
#[must_use]
pub fn terminal() -> Option<Size> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    let is_known = size.ws_col > 0 && size.ws_row > 0;
    is_known.then_some(Size { columns: size.ws_col, lines: size.ws_row })
}

/// Hears when the program is told to end: SIGTERM, or Ctrl-C.
#[derive(Debug)]
pub struct Ending {
    terminate: Signal,
    interrupt: Signal,
}

impl Ending {
    /// Listens from now on; what was said before is not heard.
    ///
    /// # Errors
    ///
    /// If the system does not tell signals.
    pub fn listen() -> io::Result<Self> {
        let (terminate, interrupt) = (SignalKind::terminate(), SignalKind::interrupt());
        Ok(Self { terminate: signal(terminate)?, interrupt: signal(interrupt)? })
    }

    /// Waits until it is told.
    pub async fn told(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_only_grows() {
        let before = own_use().unwrap();
        while own_use().unwrap().cpu <= before.cpu {}
        assert!(before.resident > Bytes(1 << 20));
    }

    #[test]
    fn somebody_without_capabilities_has_no_rights() {
        let rights = Rights { user: 1000, held: vec![Right::Network] };
        assert!(rights.has(Right::Network) && !rights.has(Right::Processes));
    }

    #[test]
    fn there_is_room_where_something_is_and_nowhere_else() {
        assert!(room_at(Path::new("/")).is_some());
        assert_eq!(room_at(Path::new("/nowhere/at/all")), None);
    }
}
