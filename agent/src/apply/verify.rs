//! Whether a list may be applied: who signed it, whom it is meant for, whether it is the next one,
//! and whether this guest permits what it asks for. Nothing is touched here.

use common::{
    clock::Timestamp,
    id::VmId,
    list::ListError,
    mix::ApplicationMix,
    signing::{self, SigningError},
};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::Offer;
use crate::{
    config::{AllowList, NotPermitted},
    ledger::{Account, Change, Ending, ListName},
};

/// A list that may be applied.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) list: ListName,
    pub(super) target: ApplicationMix,
}

/// What became of a list when it was offered before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its generation.
    pub generation: u64,
    /// How it ended.
    pub ending: Ending,
    /// Why, if it was undone.
    pub reason: String,
}

/// Why a list is not applied.
#[derive(Debug, Error)]
pub enum Refusal {
    /// No list is applied here.
    #[error("no list is applied in this guest: {reason}")]
    Forbidden {
        /// Its generation.
        generation: u64,
        /// Why not.
        reason: String,
    },
    /// It is not what a key one trusts has signed.
    #[error("list is not trusted")]
    Untrusted(#[source] SigningError),
    /// It is meant for another machine.
    #[error("list is meant for {meant}, this is {}", here.as_ref().map_or("not yet known", VmId::as_str))]
    OtherMachine {
        /// Its generation.
        generation: u64,
        /// The machine it names.
        meant: VmId,
        /// This machine.
        here: Option<VmId>,
    },
    /// A change could neither be carried out nor undone.
    #[error("this guest is stranded on generation {stranded}: {reason}; a person must look")]
    Stranded {
        /// Its generation.
        generation: u64,
        /// The one that stranded.
        stranded: u64,
        /// Why.
        reason: String,
    },
    /// It was tried before, and this is what became of it. Not an error.
    #[error("list was tried before")]
    Known(Known),
    /// It is not newer than what was tried already.
    #[error("list has generation {generation}, generation {attempted} was tried already")]
    NotNewer {
        /// Its generation.
        generation: u64,
        /// The newest one that was tried.
        attempted: u64,
    },
    /// Its time is over.
    #[error("list expired {} s ago", .now.since(*.expired).as_secs())]
    Expired {
        /// Its generation.
        generation: u64,
        /// When it ended.
        expired: Timestamp,
        /// The later of this guest's clock and the aggregator's.
        now: Timestamp,
    },
    /// It does not fit the mix that runs.
    #[error("list does not fit")]
    Unfit {
        /// Its generation.
        generation: u64,
        /// Why not.
        #[source]
        cause: ListError,
    },
    /// It asks for what this guest does not permit.
    #[error("list is not permitted")]
    NotPermitted {
        /// Its generation.
        generation: u64,
        /// What it asks for.
        #[source]
        cause: NotPermitted,
    },
}

impl Refusal {
    /// Generation of the refused list; 0 if nobody one trusts vouches for it.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        match self {
            Self::Untrusted(_) => 0,
            Self::Known(known) => known.generation,
            Self::Forbidden { generation, .. }
            | Self::OtherMachine { generation, .. }
            | Self::Stranded { generation, .. }
            | Self::NotNewer { generation, .. }
            | Self::Expired { generation, .. }
            | Self::Unfit { generation, .. }
            | Self::NotPermitted { generation, .. } => *generation,
        }
    }
}

/// What a list is held against.
pub(super) struct Rules<'a> {
    pub(super) account: &'a Account,
    pub(super) permitted: &'a AllowList,
    pub(super) forbidden: Option<&'a str>,
}

impl Rules<'_> {
    /// The order counts: nothing of a list is read before its signature is right, and what is told
    /// about it is about a list of this machine.
    pub(super) fn verify(&self, offer: &Offer, now: Timestamp) -> Result<Verified, Refusal> {
        let account = self.account;
        let list = signing::open(&offer.signed, &offer.keys).map_err(Refusal::Untrusted)?;
        let generation = list.generation;
        if let Some(reason) = self.forbidden {
            return Err(Refusal::Forbidden { generation, reason: reason.to_owned() });
        }
        if account.vm.as_ref() != Some(&list.vm) {
            let here = account.vm.clone();
            return Err(Refusal::OtherMachine { generation, meant: list.vm, here });
        }
        if let Some(Change { list, reason, .. }) = &account.change {
            let (stranded, reason) = (list.generation, reason.clone());
            return Err(Refusal::Stranded { generation, stranded, reason });
        }
        let digest = hex::encode(Sha256::digest(&offer.signed.list));
        let name = ListName { generation, digest };
        refuse_known(&name, account)?;
        // A guest whose clock is set back still knows what the aggregator's last showed.
        let now = now.max(offer.server_time).max(account.server_time);
        if now > list.expires_at {
            return Err(Refusal::Expired { generation, expired: list.expires_at, now });
        }
        let target =
            list.resolve(&account.mix).map_err(|cause| Refusal::Unfit { generation, cause })?;
        for (app, setup) in &target.0 {
            let refused = |cause| Refusal::NotPermitted { generation, cause };
            self.permitted.wanted(app, setup).map_err(refused)?;
        }
        Ok(Verified { list: name, target })
    }
}

fn refuse_known(name: &ListName, account: &Account) -> Result<(), Refusal> {
    let (generation, own) = (name.generation, account.own_generations());
    if let Some(outcome) = account.outcome.as_ref().filter(|outcome| outcome.list == *name) {
        let (ending, reason) = (outcome.ending, outcome.reason.clone());
        return Err(Refusal::Known(Known { generation, ending, reason }));
    }
    let attempted = own.attempted.max(own.effective);
    if generation <= attempted {
        return Err(Refusal::NotNewer { generation, attempted });
    }
    Ok(())
}
