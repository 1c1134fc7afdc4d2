//! How an application is stopped: forbidden first, so that nobody starts it again, then told, then
//! killed, with all it left behind.

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use common::{id::AppName, mix::ConfigurationMix};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use tracing::{info, warn};

use super::{
    DriverError, FileError, ProcessDriver, blocking, failed,
    life::Process,
    record::{Order, Records},
};

/// How long an application may take to end when it is told to, before it is killed.
const GRACE: Duration = Duration::from_secs(10);
/// How long the kernel may take to end one that is killed.
const KILLED_WITHIN: Duration = Duration::from_secs(5);
/// How often an end that is waited for is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(10);

impl ProcessDriver {
    /// Makes an application not run; see [`super::ApplicationDriver::stop`].
    ///
    /// # Errors
    ///
    /// See [`DriverError`].
    pub async fn stop(self: &Arc<Self>, name: &AppName) -> Result<(), DriverError> {
        let (driver, own) = (Arc::clone(self), name.clone());
        blocking(name, "stop", move || driver.stop_now(&own)).await
    }

    pub(super) fn stop_now(&self, name: &AppName) -> Result<(), DriverError> {
        let records = self.records(name);
        let process = self.forbid(name, &records).map_err(failed(name, "stop"))?;
        if let Some(process) = process {
            self.end(name, process)?;
            info!(application = %name, "application stopped");
        }
        self.setup.groups.remove(name);
        self.lock().remove(name);
        Ok(())
    }

    /// From here on nobody starts it any more. Gives whoever runs.
    fn forbid(&self, name: &AppName, records: &Records) -> Result<Option<Process>, FileError> {
        let kept = self.lock().get_mut(name).and_then(|kept| kept.life.stop());
        if !records.folder().exists() {
            return Ok(kept);
        }
        let _lock = records.lock()?;
        let order = records.order()?.unwrap_or_default();
        if order.wanted {
            records.write_order(&Order { wanted: false, ..order })?;
        }
        // A launcher that was on its way may have come to be just before.
        Ok(kept.or(records.alive()?.map(|running| Process::found(running.process))))
    }

    fn end(&self, name: &AppName, mut process: Process) -> Result<(), DriverError> {
        let group = self.setup.groups.set(name, &ConfigurationMix::default());
        for (signal, patience) in [(Signal::SIGTERM, GRACE), (Signal::SIGKILL, KILLED_WITHIN)] {
            process.signal(signal).map_err(failed(name, "stop"))?;
            let until = Instant::now() + patience;
            while !process.has_ended() && Instant::now() < until {
                thread::sleep(LOOK_EVERY);
            }
            if process.has_ended() {
                break;
            }
            warn!(application = %name, %signal, "application did not end when it was told to");
        }
        if !process.has_ended() {
            return Err(DriverError::Lasting(name.clone()));
        }
        // Its first process is gone; what it left behind goes with it.
        let session = [killpg(Pid::from_raw(process.pid()), Signal::SIGKILL)];
        let kill_one = |rest| kill(Pid::from_raw(rest), Signal::SIGKILL);
        let members = group.members().into_iter().map(kill_one);
        for errno in session.into_iter().chain(members).filter_map(Result::err) {
            // Whoever is not there any more is what was wanted.
            if errno != Errno::ESRCH {
                warn!(application = %name, %errno, "what an application left behind not ended");
            }
        }
        Ok(())
    }
}

impl Process {
    /// Tells it and its session, if it is still there: a number of one that ended may be another's.
    fn signal(&mut self, signal: Signal) -> io::Result<()> {
        if self.has_ended() {
            return Ok(());
        }
        match killpg(Pid::from_raw(self.pid()), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}
