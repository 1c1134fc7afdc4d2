//! Starts and stops machines.

use std::time::Duration;

use common::id::VmId;
use libvirt_rpc::{Domain, DomainState, Error, XmlKind, code};
use tokio::time::{self, Instant};
use tracing::{info, warn};

use super::{Found, LibvirtHypervisor, site::Site, tag::Tag};
use crate::hypervisor::HypervisorError;

/// How often it is looked whether a machine is off.
const GLANCE: Duration = Duration::from_millis(500);
/// How often the button is pressed: a guest that boots does not hear it.
const PRESS_AGAIN: Duration = Duration::from_secs(10);

impl LibvirtHypervisor {
    pub(super) async fn start_machine(&self, vm: &VmId) -> Result<(), HypervisorError> {
        let Found { site, domain } = self.the(vm).await?;
        site.start(&domain).await
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
                found.site.stop(&found.domain, deadline).await
            }
            None => Ok(()),
        }
    }

    /// Whether a machine is a clone that has not taken its source's place: one that has is production,
    /// and bears the mark for good.
    async fn is_on_trial(&self, found: &Found<'_>, vm: &VmId) -> Result<bool, HypervisorError> {
        let told = found.site.describe(&found.domain, XmlKind::Inactive).await?;
        match Tag::of(&told).cloned_from {
            Some(source) => Ok(!self.serves_for(&source, vm).await?),
            None => Ok(false),
        }
    }
}

impl Site {
    pub(super) async fn start(&self, domain: &Domain) -> Result<(), HypervisorError> {
        if !self.client.domain_state(domain).await?.is_off() {
            return Ok(());
        }
        match self.client.create_domain(domain).await {
            Ok(()) => {
                info!(vm = %domain.uuid, name = domain.name, "machine started");
                Ok(())
            }
            // Somebody else was faster.
            Err(error)
                if error.is(&[code::OPERATION_INVALID])
                    && !self.client.domain_state(domain).await?.is_off() =>
            {
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether nothing of a machine runs; one that is gone does not.
    async fn is_off(&self, domain: &Domain) -> Result<bool, HypervisorError> {
        match self.client.domain_state(domain).await {
            Ok(state) => Ok(state.is_off()),
            Err(error) if error.is(&[code::NO_DOMAIN]) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn stop(
        &self,
        domain: &Domain,
        deadline: Duration,
    ) -> Result<(), HypervisorError> {
        let until = Instant::now() + deadline;
        let mut press_at = Instant::now();
        while Instant::now() < until && !self.is_off(domain).await? {
            if self.client.domain_state(domain).await? != DomainState::Running {
                // One that is held hears no button.
                break;
            }
            if Instant::now() >= press_at {
                press_at = Instant::now() + PRESS_AGAIN;
                self.press(domain).await?;
            }
            time::sleep(GLANCE.min(until.saturating_duration_since(Instant::now()))).await;
        }
        if self.is_off(domain).await? {
            return Ok(());
        }
        warn!(vm = %domain.uuid, name = domain.name, "machine stopped by force");
        match self.client.destroy_domain(domain).await {
            Err(error) if error.is(&[code::OPERATION_INVALID, code::NO_DOMAIN]) => Ok(()),
            done => Ok(done?),
        }
    }

    async fn press(&self, domain: &Domain) -> Result<(), HypervisorError> {
        let asked = match self.client.shut_down_domain(domain).await {
            // An agent that is there but cannot do it; the kernel may hear the button.
            Err(Error::Refused(_)) => self.client.press_power_button(domain).await,
            done => done,
        };
        match asked {
            // It is off by now, or has no button: force will do.
            Err(Error::Refused(refusal)) => {
                info!(vm = %domain.uuid, %refusal, "machine not asked to stop");
                Ok(())
            }
            done => Ok(done?),
        }
    }
}
