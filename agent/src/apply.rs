//! Applies configuration lists: whole or not at all, whenever the agent ends in between.
//!
//! ```text
//!  offer ─> verify ─> Begun ─> stop, start ─> CarriedOut ─> health ─> Passed ─> APPLIED
//!             │                     └────────────┬────────────┘
//!          REFUSED                             Failed ─> bring the former mix back ─> UNDONE
//!                                                                    └─> STRANDED
//! ```
//!
//! Nothing is touched before `Begun` is on the disk, and the mix of the ledger is the former one
//! until `Passed` is. An agent that starts and finds a change under way brings the former mix
//! back. A list that was tried once is never tried again: what became of it is said again.

mod carry;
mod tell;
mod verify;

use std::{collections::BTreeSet, sync::Arc};

use common::{
    clock::{Clock, Timestamp},
    id::{AppName, VmId},
    mix::{ApplicationMix, EffectiveMix},
    signing::{ListPublicKey, SignedList},
    task::Chain,
};
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

pub use self::verify::Refusal;
use self::verify::{Known, Verified};
use crate::{
    config::AllowList,
    driver::ApplicationDriver,
    ledger::{Ending, Event, Ledger, LedgerError, Stage},
};

/// A list as it came, and what it is to be held against.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The list.
    pub signed: SignedList,
    /// The keys that are trusted.
    pub keys: Vec<ListPublicKey>,
    /// The aggregator's clock when it was last heard, and what has passed since.
    pub server_time: Timestamp,
}

/// Where the application of a list stands, as the aggregator is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Everything about it is right.
    Verified,
    /// It is being carried out.
    Applying,
    /// Its mix runs and is healthy.
    Applied,
    /// It was refused before anything was touched.
    Refused,
    /// It failed, and the former mix runs again.
    Undone,
    /// It failed, and the former mix could not be brought back whole. A person must look.
    Stranded,
}

/// What became of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its generation; 0 if it cannot be known.
    pub generation: u64,
    /// Where it stands.
    pub standing: Standing,
    /// Why, if it was refused, undone or stranded.
    pub reason: String,
    /// The mix that runs now.
    pub mix: EffectiveMix,
    /// This guest's clock.
    pub at: Timestamp,
}

/// What applying stands on.
#[expect(missing_debug_implementations, reason = "it is taken apart at once")]
pub struct ApplierSetup {
    /// What is remembered.
    pub ledger: Ledger,
    /// What may run here.
    pub list: Arc<AllowList>,
    /// Who starts and stops it.
    pub driver: Arc<dyn ApplicationDriver>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Why no list may be applied here; `None` if they may.
    pub forbidden: Option<String>,
    /// Hears of every step. Steps are let go while nobody listens; the last end is not, see
    /// [`Applier::last_report`].
    pub reports: mpsc::Sender<Report>,
}

/// Applies lists, one after another.
pub struct Applier {
    ledger: Ledger,
    list: Arc<AllowList>,
    driver: Arc<dyn ApplicationDriver>,
    clock: Arc<dyn Clock>,
    forbidden: Option<String>,
    reports: mpsc::Sender<Report>,
    /// Applications of the mix that could not be started, and are tried again.
    unstarted: BTreeSet<AppName>,
    healthy: BTreeSet<AppName>,
    view: watch::Sender<EffectiveMix>,
    last: watch::Sender<Option<Report>>,
}

impl std::fmt::Debug for Applier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Applier").field("ledger", &self.ledger).finish_non_exhaustive()
    }
}

impl Applier {
    /// An applier that has done nothing yet; [`Self::resume`] comes next.
    #[must_use]
    pub fn new(setup: ApplierSetup) -> Self {
        let ApplierSetup { ledger, list, driver, clock, forbidden, reports } = setup;
        let applier = Self {
            ledger,
            list,
            driver,
            clock,
            forbidden,
            reports,
            unstarted: BTreeSet::new(),
            healthy: BTreeSet::new(),
            view: watch::Sender::default(),
            last: watch::Sender::default(),
        };
        applier.show();
        applier
    }

    /// The mix that runs, as it changes.
    #[must_use]
    pub fn mix(&self) -> watch::Receiver<EffectiveMix> {
        self.view.subscribe()
    }

    /// What became of the last list that was tried, as it changes; to be said whenever a stream is
    /// opened, since a report may have been lost with the one before.
    #[must_use]
    pub fn last_report(&self) -> watch::Receiver<Option<Report>> {
        self.last.subscribe()
    }

    /// Takes up what an agent before this one left: brings the former mix back if a change was
    /// under way, and starts what is not running.
    ///
    /// # Errors
    ///
    /// If the ledger could not be written.
    pub async fn resume(&mut self) -> Result<(), LedgerError> {
        if self.forbidden.is_some() {
            return Ok(());
        }
        if let Some(change) = &self.ledger.account().change {
            let reason = format!("the agent ended while the list was {:?}", change.stage);
            warn!(generation = change.list.generation, reason, "change found under way");
            let reason = match change.stage {
                Stage::Applying | Stage::Probing => reason.to_lowercase(),
                Stage::Undoing | Stage::Stranded => String::new(),
            };
            self.undo(reason).await?;
        } else {
            self.ledger.record(Event::CameWith(self.list.autostarted()))?;
            self.start_all().await;
        }
        self.say_last();
        self.look().await;
        Ok(())
    }

    /// This is the machine that the identity speaks for.
    ///
    /// # Errors
    ///
    /// If the ledger could not be written.
    pub fn bind(&mut self, vm: &VmId) -> Result<(), LedgerError> {
        let account = self.ledger.account();
        // A ledger that cannot be read is left as it is, for a person to look at.
        if self.forbidden.is_some() || account.vm.as_ref() == Some(vm) {
            return Ok(());
        }
        // A guest that is stranded stays with the machine it was stranded on.
        if account.change.is_none() {
            self.ledger.record(Event::Bound(vm.clone()))?;
            self.last.send_replace(None);
            self.show();
        }
        Ok(())
    }

    /// Looks how every application of the mix is, and starts again what could not be started.
    pub async fn look(&mut self) {
        if self.forbidden.is_some() {
            return;
        }
        let mix = self.ledger.account().mix.clone();
        self.unstarted.retain(|name| mix.0.contains_key(name));
        for name in self.unstarted.clone() {
            self.start_one(&name).await;
        }
        self.healthy = self.healthy_of(&mix).await;
        self.show();
    }

    /// Takes a list: applies it, or says why not. Whatever comes of it is reported.
    pub async fn offer(&mut self, offer: &Offer) {
        if self.is_stranded() {
            self.undo_again().await;
        }
        let now = self.clock.now();
        let rules = verify::Rules {
            account: self.ledger.account(),
            permitted: &self.list,
            forbidden: self.forbidden.as_deref(),
        };
        match rules.verify(offer, now) {
            Ok(verified) => self.apply(verified, offer.server_time).await,
            Err(Refusal::Known(Known { generation, ending, reason })) => {
                info!(generation, ?ending, "list offered again");
                self.report(generation, standing(ending), reason);
            }
            Err(refusal) => {
                warn!(cause = %Chain(&refusal), "list refused");
                let reason = Chain(&refusal).to_string();
                self.report(refusal.generation(), Standing::Refused, reason);
            }
        }
    }

    async fn apply(&mut self, verified: Verified, server_time: Timestamp) {
        let Verified { list, target } = verified;
        let generation = list.generation;
        self.report(generation, Standing::Verified, String::new());
        let healthy = self.healthy_of(&self.ledger.account().mix.clone()).await;
        let begun = Event::Begun { list, target: target.clone(), healthy, server_time };
        if let Err(cause) = self.ledger.record(begun) {
            error!(cause = %Chain(&cause), "list refused: it could not be remembered");
            return self.report(generation, Standing::Refused, Chain(&cause).to_string());
        }
        self.show();
        self.report(generation, Standing::Applying, String::new());
        info!(generation, "list being applied");
        match self.carry_out(&target).await {
            Ok(()) => {
                self.show();
                info!(generation, "list applied");
                self.say_last();
            }
            Err(cause) => {
                warn!(generation, cause, "list not applied, the former mix is brought back");
                if let Err(cause) = self.undo(cause).await {
                    error!(cause = %Chain(&cause), "undoing not remembered");
                }
                self.say_last();
            }
        }
    }

    /// Everything up to `Passed`. What goes wrong is a reason to undo, a ledger that cannot be
    /// written too: on the disk the former mix is still the one that counts.
    async fn carry_out(&mut self, target: &ApplicationMix) -> Result<(), String> {
        let shown = |cause: LedgerError| Chain(&cause).to_string();
        self.bring(target).await?;
        self.ledger.record(Event::CarriedOut).map_err(shown)?;
        let all = target.0.keys().cloned().collect();
        self.wait_healthy(target, &all).await?;
        self.ledger.record(Event::Passed).map_err(shown)?;
        self.healthy = all;
        Ok(())
    }

    async fn undo_again(&mut self) {
        if let Err(cause) = self.undo(String::new()).await {
            error!(cause = %Chain(&cause), "undoing not remembered");
        }
        self.say_last();
    }

    async fn undo(&mut self, reason: String) -> Result<(), LedgerError> {
        // If this cannot be written the way back is gone all the same; the stage before it leads
        // there too.
        let remembered = self.ledger.record(Event::Failed(reason));
        let restored = self.bring_back().await;
        remembered?;
        match restored {
            Ok(()) => {
                self.ledger.record(Event::Restored)?;
                info!("former mix brought back");
            }
            Err(cause) => {
                error!(cause, "former mix not brought back whole; look at this guest");
                self.ledger.record(Event::NotRestored(cause))?;
            }
        }
        self.look().await;
        Ok(())
    }

    fn is_stranded(&self) -> bool {
        self.ledger.account().change.as_ref().is_some_and(|c| c.stage == Stage::Stranded)
    }
}

const fn standing(ending: Ending) -> Standing {
    match ending {
        Ending::Applied => Standing::Applied,
        Ending::Undone => Standing::Undone,
    }
}

#[cfg(test)]
mod tests;
