//! Finds out from the repository where the last cycle stopped.
//!
//! Windows, plans and journals are taken up where they were, and so is what is held of past windows.
//! Yet nothing is proposed before a window was watched since the start: what was seen before says
//! nothing of the present by itself.

use std::sync::{Arc, Mutex, RwLock, atomic::AtomicU64};

use common::task::Chain;
use tokio::{
    sync::{Notify, broadcast, mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tracing::{error, info, warn};

use super::{
    Cycle, CycleError, CycleSetup, Settings, Steering,
    arrays::Arrays,
    book::{Book, Filed},
    memory,
    own::Own,
    shared::{Known, Shared},
};
use crate::{
    guest::seen_of,
    repository::{Repository, RepositoryError},
    window::{Timing, Windows},
};

/// Notices that a slow reader may lag behind before it misses some.
const NOTICES_HELD: usize = 1024;

/// Orders that wait for their turn at most; whoever comes then waits at the door.
const ORDERS_HELD: usize = 64;

pub(super) async fn recover(setup: CycleSetup) -> Result<(Cycle, Steering), CycleError> {
    let CycleSetup { repository, hypervisor, arrays, guests, clock, seen, defaults, after_event } =
        setup;
    let settings = settings(&repository, defaults).await?;
    let windows = windows(&repository, Timing::of(&settings.policy)).await?;
    let book = book(&repository).await?;
    let findings = repository.latest_findings().await?.unwrap_or_default();
    guests.set_sampling(&settings.policy, &settings.catalogue);
    let started_at = clock.now();
    let (mut history, kept_at) = memory::history(&repository, &settings.policy).await?;
    memory::correct(&mut history, &repository).await?;
    let recent = Arc::new(memory::recent(&repository, &settings.policy, started_at).await?);
    let shared = Arc::new(Shared {
        repository,
        hypervisor,
        guests,
        clock,
        started_at,
        settings: Mutex::new(settings),
        known: Mutex::new(Known { findings: Arc::new(findings), recent, ..Known::default() }),
        history: RwLock::new(history),
        book,
        own: Own::read(),
        notices: broadcast::Sender::new(NOTICES_HELD),
        wake: Notify::new(),
        closed: watch::Sender::new(0),
        after_event,
        written: AtomicU64::new(0),
    });
    let (orders, commands) = mpsc::channel(ORDERS_HELD);
    let steering = Steering::new(Arc::clone(&shared), orders);
    let cycle = Cycle {
        shared,
        windows,
        seen,
        commands,
        swept_at: None,
        kept_at,
        looks: JoinSet::new(),
        next_look: Instant::now(),
        is_reachable: true,
        arrays: Arrays::new(arrays),
        drivers: JoinSet::new(),
    };
    Ok((cycle, steering))
}

async fn settings(
    repository: &Repository,
    defaults: Settings,
) -> Result<Settings, RepositoryError> {
    Ok(Settings {
        policy: repository.policy().await?.unwrap_or(defaults.policy),
        catalogue: repository.catalogue().await?.unwrap_or(defaults.catalogue),
        scope: repository.scope().await?.unwrap_or(defaults.scope),
        groups: repository.group_rules().await?.unwrap_or(defaults.groups),
    })
}

async fn windows(repository: &Repository, timing: Timing) -> Result<Windows, RepositoryError> {
    let checkpoints = repository.checkpoints().await?;
    let last = repository.windows(None, 1).await?.rows.pop();
    let mut kept = Vec::new();
    for stored in repository.unsealed().await? {
        match seen_of(&stored) {
            Ok(seen) => kept.push(seen),
            Err(cause) => {
                warn!(agent = %stored.agent, cause = %Chain(&cause), "kept sample left out");
            }
        }
    }
    info!(samples = kept.len(), agents = checkpoints.len(), "windows taken up");
    Ok(Windows::restore(timing, checkpoints, last.map(|row| row.closed_at), kept))
}

async fn book(repository: &Repository) -> Result<Book, RepositoryError> {
    let book = Book::default();
    for plan in repository.plans().await? {
        let entries = repository.entries(&plan.id).await?;
        let filed = Filed::new(plan);
        if let Err(cause) = filed.replay(&entries) {
            let plan = &filed.plan.id;
            error!(%plan, cause = %Chain(&cause), "journal does not read, its machines are left alone");
        }
        book.add(Arc::new(filed));
    }
    Ok(book)
}
