//! Looks as the running agent does: everything at a look, and use every second between two looks.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use common::{clock::Timestamp, sample::Software};
use tokio::time;

use super::{Seen, ShowError, missing};
use crate::{
    config::{Config, Scope, Services},
    observe::{ExtentSource, Inputs, LinuxObserver, Observe as _, ObserveError, Places, Settings},
    platform,
    run::ServicesReader,
};

/// How often use is looked at between two looks.
const TICK: Duration = Duration::from_secs(1);
/// How long the first reading of the software may take.
const READS_SOFTWARE_WITHIN: Duration = Duration::from_secs(10);

/// Looks that belong together: what happens is counted from the first one on.
pub(super) struct Looking {
    observer: LinuxObserver,
    services: ServicesReader,
    inputs: Inputs,
    first: Option<Instant>,
    note: Option<String>,
    reads_software: bool,
}

impl Looking {
    /// As `config` says, or as is usual.
    pub(super) fn new(config: Option<&Config>, note: Option<String>, reads_software: bool) -> Self {
        let places = config.map_or_else(Places::default, |config| Places {
            dmi: config.dmi.clone(),
            machine_id: config.machine_id.clone(),
        });
        let scope = config.map_or_else(Scope::default, |config| config.scope.clone());
        let reads_software = reads_software && scope.reads_software();
        let settings = Settings { places, extent: ExtentSource::default(), scope };
        Self {
            observer: LinuxObserver::new(settings),
            services: ServicesReader::new(config.map_or(Services::Auto, |config| config.services)),
            inputs: Inputs::default(),
            first: None,
            note,
            reads_software,
        }
    }

    /// Looks at everything.
    pub(super) async fn look(&mut self, now: Timestamp) -> Result<Seen, ShowError> {
        self.inputs.services = self.services.read().await;
        // First: how it was read is among the facts.
        let software = self.software(now);
        let observation = self.observer.observe(&self.inputs, now)?;
        let over = self.first.map(|first| first.elapsed());
        self.first.get_or_insert_with(Instant::now);
        let mut missing = missing::of(&observation, platform::rights().as_ref());
        missing.extend(self.note.clone());
        Ok(Seen { taken_at: now, over, observation, software, missing })
    }

    /// The running agent reads software in slices, one a second; nobody waits that long here.
    fn software(&mut self, now: Timestamp) -> Option<Arc<Software>> {
        let began = Instant::now();
        while self.reads_software && began.elapsed() < READS_SOFTWARE_WITHIN {
            if let Some(software) = self.observer.software(now) {
                return Some(software);
            }
        }
        None
    }

    /// Waits, and looks at use meanwhile.
    pub(super) async fn rest(&mut self, pause: Duration) -> Result<(), ObserveError> {
        let until = time::Instant::now() + pause;
        while time::Instant::now() + TICK < until {
            time::sleep(TICK).await;
            self.observer.tick(&self.inputs)?;
        }
        time::sleep_until(until).await;
        Ok(())
    }
}
