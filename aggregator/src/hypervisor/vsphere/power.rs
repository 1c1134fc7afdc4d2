//! Starts and stops machines.

use std::time::Duration;

use common::id::VmId;
use tokio::time::{self, Instant};
use tracing::{info, warn};

use super::{
    VsphereHypervisor,
    machine::{CHANGE_LIMIT, Found},
};
use crate::hypervisor::HypervisorError;

/// How often it is looked whether a machine is off.
const GLANCE: Duration = Duration::from_millis(500);

impl VsphereHypervisor {
    pub(super) async fn start_machine(&self, vm: &VmId) -> Result<(), HypervisorError> {
        self.the(vm).await?.start().await
    }

    pub(super) async fn stop_machine(
        &self,
        vm: &VmId,
        deadline: Duration,
    ) -> Result<(), HypervisorError> {
        match self.find(vm).await? {
            Some(found) => {
                if !self.is_on_trial(&found, vm).await? {
                    found.may_touch(vm).await?;
                }
                found.stop(deadline).await
            }
            None => Ok(()),
        }
    }

    /// Whether a machine is a clone that has not taken its source's place: one that has is production, and
    /// bears the mark for good.
    async fn is_on_trial(&self, found: &Found<'_>, vm: &VmId) -> Result<bool, HypervisorError> {
        let Some(mark) = found.facts.mark() else { return Ok(false) };
        let source = self.find(&mark.cloned_from).await?;
        let displaced = |source: Found<'_>| source.displaced.is_some_and(|place| place.by == *vm);
        Ok(source.is_some_and(|source| !displaced(source)))
    }
}

impl Found<'_> {
    pub(super) async fn start(&self) -> Result<(), HypervisorError> {
        if self.is_on().await? {
            return Ok(());
        }
        match self.site.client.run("PowerOnVM_Task", &self.of, Vec::new(), CHANGE_LIMIT).await {
            // Somebody else was faster, or we were.
            Err(error) if error.is(&["InvalidPowerState"]) && self.is_on().await? => Ok(()),
            done => {
                done?;
                info!(vm = %self.of, name = self.facts.name, "machine started");
                Ok(())
            }
        }
    }

    /// Whether it runs; one that is gone does not.
    async fn is_on(&self) -> Result<bool, HypervisorError> {
        let told = self.site.client.object(&self.of, &["runtime.powerState"]).await?;
        Ok(told.is_some_and(|told| told.text("runtime.powerState") == Some("poweredOn")))
    }

    pub(super) async fn stop(&self, deadline: Duration) -> Result<(), HypervisorError> {
        let until = Instant::now() + deadline;
        let mut was_asked = false;
        while Instant::now() < until && self.is_on().await? {
            if !was_asked && !self.ask_to_stop().await? {
                break;
            }
            was_asked = true;
            time::sleep(GLANCE.min(until.saturating_duration_since(Instant::now()))).await;
        }
        if !self.is_on().await? {
            return Ok(());
        }
        warn!(vm = %self.of, name = self.facts.name, "machine stopped by force");
        match self.site.client.run("PowerOffVM_Task", &self.of, Vec::new(), CHANGE_LIMIT).await {
            Err(error) if error.is(&["ManagedObjectNotFound"]) => Ok(()),
            Err(error) if error.is(&["InvalidPowerState"]) && !self.is_on().await? => Ok(()),
            done => Ok(done.map(drop)?),
        }
    }

    /// Whether the guest heard it: without tools in it nobody does.
    async fn ask_to_stop(&self) -> Result<bool, HypervisorError> {
        match self.site.client.call("ShutdownGuest", &self.of, Vec::new()).await {
            Ok(_) => Ok(true),
            Err(error) if error.may_pass() => Err(error.into()),
            Err(refusal) => {
                info!(vm = %self.of, %refusal, "machine not asked to stop");
                Ok(false)
            }
        }
    }
}
