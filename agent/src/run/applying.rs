//! The task that applies lists, one after another, and looks at the applications' health between.

use std::time::Duration;

use common::id::VmId;
use tokio::{
    sync::{mpsc, watch},
    time,
};
use tokio_util::sync::CancellationToken;

use crate::{
    apply::{Applier, Offer},
    ledger::LedgerError,
};

/// How often every application's health is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

pub(super) struct Applying {
    pub(super) applier: Applier,
    pub(super) offered: mpsc::Receiver<Offer>,
    pub(super) bound: watch::Receiver<Option<VmId>>,
}

impl Applying {
    /// An agent that is told to end does not wait for a list to be applied: the next one to start
    /// brings the former mix back, as after any other end.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), LedgerError> {
        tokio::select! {
            done = self.work() => done,
            () = stop.cancelled() => Ok(()),
        }
    }

    async fn work(&mut self) -> Result<(), LedgerError> {
        self.applier.resume().await?;
        let mut look = time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            let vm = self.bound.borrow_and_update().clone();
            if let Some(vm) = vm {
                self.applier.bind(&vm)?;
            }
            tokio::select! {
                Ok(()) = self.bound.changed() => {}
                Some(offer) = self.offered.recv() => self.applier.offer(&offer).await,
                _ = look.tick() => self.applier.look().await,
            }
        }
    }
}
