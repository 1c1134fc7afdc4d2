//! The steps to a mix and back. Each may be made twice, and their order is the allow-list's.

use std::{collections::BTreeSet, time::Duration};

use common::{id::AppName, mix::ApplicationMix, task::Chain};
use tokio::time::{self, Instant};
use tracing::warn;

use super::Applier;
use crate::config::Wanted;

/// How often a health check that fails is made again while it may.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How often the way back is tried before a person is called.
const TRIES_BACK: u32 = 3;
/// Pause between two tries.
const PAUSE: Duration = Duration::from_secs(1);

impl Applier {
    /// Stops what `mix` does not have, then starts what it has. What runs as wanted is not
    /// touched.
    pub(super) async fn bring(&self, mix: &ApplicationMix) -> Result<(), String> {
        let shown = |cause| Chain(&cause).to_string();
        for name in self.surplus(mix).await.iter().rev() {
            self.driver.stop(name).await.map_err(shown)?;
        }
        for name in self.list.in_order(mix.0.keys()) {
            let wanted = self.wanted(&name, mix)?;
            self.driver.start(&wanted).await.map_err(shown)?;
        }
        Ok(())
    }

    /// Whatever may run and is not in `mix`, in the order of starting.
    async fn surplus(&self, mix: &ApplicationMix) -> Vec<AppName> {
        let account = self.ledger.account();
        let mut running = self.driver.kept().await;
        running.extend(account.mix.0.keys().cloned());
        running.extend(account.change.iter().flat_map(|change| change.target.0.keys().cloned()));
        running.retain(|name| !mix.0.contains_key(name));
        self.list.in_order(&running)
    }

    fn wanted(&self, name: &AppName, mix: &ApplicationMix) -> Result<Wanted, String> {
        let setup = mix.0.get(name).cloned().unwrap_or_default();
        self.list.wanted(name, &setup).map_err(|cause| Chain(&cause).to_string())
    }

    /// Brings the ledger's mix back, and waits until those serve that served before.
    pub(super) async fn bring_back(&self) -> Result<(), String> {
        let account = self.ledger.account().clone();
        let healthy = account.change.map(|change| change.healthy).unwrap_or_default();
        let mut tries = 0;
        loop {
            let brought = match self.bring(&account.mix).await {
                Ok(()) => self.wait_healthy(&account.mix, &healthy).await,
                failed => failed,
            };
            tries += 1;
            match brought {
                Err(cause) if tries < TRIES_BACK => {
                    warn!(cause, tries, "former mix not brought back yet");
                    time::sleep(PAUSE).await;
                }
                done => return done,
            }
        }
    }

    /// Waits until each of `names` serves, as long as the allow-list lets it take.
    pub(super) async fn wait_healthy(
        &self,
        mix: &ApplicationMix,
        names: &BTreeSet<AppName>,
    ) -> Result<(), String> {
        let since = Instant::now();
        for name in self.list.in_order(names) {
            let wanted = self.wanted(&name, mix)?;
            let until = since + wanted.definition.health.within;
            while let Err(unhealthy) = self.driver.check(&wanted).await {
                if Instant::now() >= until {
                    return Err(unhealthy.to_string());
                }
                time::sleep(ASK_EVERY).await;
            }
        }
        Ok(())
    }

    /// Those of `mix` that serve now.
    pub(super) async fn healthy_of(&self, mix: &ApplicationMix) -> BTreeSet<AppName> {
        let mut healthy = BTreeSet::new();
        for name in mix.0.keys() {
            let Ok(wanted) = self.wanted(name, mix) else { continue };
            if self.driver.check(&wanted).await.is_ok() {
                healthy.insert(name.clone());
            }
        }
        healthy
    }

    /// Starts the ledger's mix, each application for itself: one that does not start holds up
    /// none of the others.
    pub(super) async fn start_all(&mut self) {
        let mix = self.ledger.account().mix.clone();
        for name in self.surplus(&mix).await.iter().rev() {
            if let Err(cause) = self.driver.stop(name).await {
                warn!(application = %name, cause = %Chain(&cause), "application that is not wanted not stopped");
            }
        }
        for name in self.list.in_order(mix.0.keys()) {
            self.start_one(&name).await;
        }
    }

    pub(super) async fn start_one(&mut self, name: &AppName) {
        let started = match self.wanted(name, &self.ledger.account().mix) {
            Ok(wanted) => {
                self.driver.start(&wanted).await.map_err(|cause| Chain(&cause).to_string())
            }
            Err(cause) => Err(cause),
        };
        match started {
            Ok(()) => {
                self.unstarted.remove(name);
            }
            Err(cause) => {
                // Said once, not every time it is tried.
                if self.unstarted.insert(name.clone()) {
                    warn!(application = %name, cause, "application not started");
                }
            }
        }
    }
}
