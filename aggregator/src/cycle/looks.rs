//! Asks hypervisor and arrays what is there, over and over, and notices what came and went.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use common::{id::VmId, task::Chain};
use tokio::{
    task::JoinError,
    time::{self, Instant},
};
use tracing::{info, warn};

use super::{Cycle, arrays::Surveyed, shared::look_period};
use crate::{
    hypervisor::{FirstLook, Hypervisor, HypervisorError, Inventory, Machine, Telemetry},
    window::Look,
};

/// What one look gives: the hypervisor's answer, and the arrays'.
pub(super) type Looked = (Result<Seen, HypervisorError>, Surveyed);

type Seen = (Inventory, BTreeMap<VmId, Telemetry>);

/// How long a look may take. One that takes longer says nothing of the present any more.
const LOOK_LIMIT: Duration = Duration::from_secs(30);

impl Cycle {
    /// Begins a look; its answer is taken in when it comes.
    pub(super) fn look(&mut self) {
        self.next_look = Instant::now() + look_period(&self.shared.settings().policy);
        let hypervisor = Arc::clone(&self.shared.hypervisor);
        let arrays = self.arrays.survey(self.shared.clock.now(), LOOK_LIMIT);
        self.looks.spawn(async move {
            let late = |_| HypervisorError::Unreachable("it took too long".into());
            let seen = time::timeout(LOOK_LIMIT, ask(hypervisor.as_ref()));
            let (seen, arrays) = tokio::join!(seen, arrays);
            (seen.map_err(late).flatten(), arrays)
        });
    }

    pub(super) fn take_look(&mut self, (seen, surveyed): Looked) {
        let arrays = self.take_surveys(surveyed);
        let (inventory, telemetry) = match seen {
            Ok(seen) => seen,
            Err(cause) => return self.missed(&cause),
        };
        if !self.is_reachable {
            self.is_reachable = true;
            let text = format!("{} answers again", self.shared.hypervisor.name());
            self.shared.tell("hypervisor_reachable", None, text);
        }
        let at = self.shared.clock.now();
        self.windows.look(Look { at, telemetry, arrays }, inventory.clone());
        let inventory = Arc::new(inventory);
        let former = {
            let mut known = self.shared.known();
            known.looked_at = Some(at);
            known.inventory.replace(Arc::clone(&inventory))
        };
        match former {
            Some(former) => self.compare(&former, &inventory),
            None => info!(machines = inventory.machines.len(), "hypervisor seen"),
        }
        // A plan may have waited for this.
        self.shared.wake.notify_one();
    }

    fn missed(&mut self, cause: &HypervisorError) {
        // It does answer, only not with all of it yet.
        if let Some(FirstLook { read, all }) = self.shared.hypervisor.first_look() {
            let name = self.shared.hypervisor.name();
            let text = format!("{name}: first look under way, {read} of {all} objects read");
            info!(read, all, "first look under way");
            self.shared.tell("hypervisor_first_look", None, text);
            return;
        }
        warn!(cause = %Chain(cause), "hypervisor not seen");
        if self.is_reachable {
            self.is_reachable = false;
            let name = self.shared.hypervisor.name();
            let text = format!("{name}: {}; no plan begins until it answers", Chain(cause));
            self.shared.tell("hypervisor_unreachable", None, text);
        }
    }

    fn compare(&self, former: &Inventory, present: &Inventory) {
        // Clones come and go with their plans.
        let counts = |machine: &&Machine| machine.plan.is_none();
        for machine in present.machines.values().filter(counts) {
            if !former.machines.contains_key(&machine.id) {
                let text = format!("{} appeared on {}", machine.name, machine.host);
                self.shared.tell("machine_appeared", None, text);
            }
        }
        for machine in former.machines.values().filter(counts) {
            if !present.machines.contains_key(&machine.id) {
                self.shared.tell("machine_gone", None, format!("{} is gone", machine.name));
            }
        }
    }
}

async fn ask(hypervisor: &dyn Hypervisor) -> Result<Seen, HypervisorError> {
    Ok((hypervisor.inventory().await?, hypervisor.telemetry().await?))
}

/// A look that broke down instead of answering.
pub(super) fn broken(cause: JoinError) -> Looked {
    (Err(HypervisorError::Unreachable(Box::new(cause))), Surveyed::new())
}
