//! What the wheel holds of past windows in memory, and how it gets it back after a start: the history
//! as it was kept last, and the windows joined since.
//!
//! Every window is committed as it was joined. To replay all that are kept would hold up the start of
//! a large fleet, so the history is kept whole once in an hour of windows, and only what came after it
//! is replayed.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use common::{clock::Timestamp, task::Chain};
use tracing::{info, warn};

use super::{Cycle, CycleError, Settings, shared::Shared, windows::windows_held};
use crate::{
    history::{History, Limits, Written},
    join::{self, Joined},
    journal::{Entry, Event},
    plan::Plan,
    policy::Policy,
    repository::{Repository, RepositoryError, Snapshot, StoreError},
    window::SamplingWindow,
};

/// How often the history is kept whole, by the time of windows.
const KEEP_PERIOD: Duration = Duration::from_secs(3_600);

impl Shared {
    /// Joins a window and folds it into the history.
    pub(super) fn join(&self, window: &SamplingWindow) -> Arc<Joined> {
        let joined = join::join(window);
        self.remember(&joined, &self.settings());
        Arc::new(joined)
    }

    fn remember(&self, joined: &Joined, settings: &Settings) {
        let mut history = self.history.write().unwrap_or_else(PoisonError::into_inner);
        history.set_limits(Limits::of(&settings.policy));
        history.take(joined);
    }
}

impl Cycle {
    /// Keeps the history whole if that is due. Without room it is tried again after the next window:
    /// all that is in it can be had from the windows.
    pub(super) async fn keep_history(&mut self) -> Result<(), CycleError> {
        let newest = self.shared.history().windows().next_back().map(|window| window.to);
        let Some(newest) = newest else { return Ok(()) };
        if newest.since(self.kept_at) < KEEP_PERIOD {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let encoding = tokio::task::spawn_blocking(move || Snapshot::of(&shared.history()));
        let snapshot = match encoding.await {
            Ok(snapshot) => snapshot?,
            Err(cause) => {
                warn!(%cause, "history not kept, encoding broke down");
                return Ok(());
            }
        };
        match self.shared.repository.keep_history(snapshot).await {
            Ok(()) => self.kept_at = newest,
            Err(RepositoryError::Store(cause @ StoreError::Full { .. })) => {
                warn!(cause = %Chain(&cause), "history not kept, it is tried again");
            }
            Err(cause) => return Err(cause.into()),
        }
        Ok(())
    }
}

/// The history up to the last committed window, and when it was kept last.
pub(super) async fn history(
    repository: &Repository,
    policy: &Policy,
) -> Result<(History, Timestamp), RepositoryError> {
    let kept = match repository.history().await {
        Ok(kept) => kept,
        Err(cause @ (RepositoryError::Decode { .. } | RepositoryError::Malformed { .. })) => {
            warn!(cause = %Chain(&cause), "kept history left out, it is made again from the windows");
            None
        }
        Err(cause) => return Err(cause),
    };
    let mut history = kept.unwrap_or_else(|| History::new(Limits::of(policy)));
    history.set_limits(Limits::of(policy));
    let newest = history.windows().next_back().map(|window| (window.from, window.to));
    let mut replayed = 0;
    for id in repository.windows_after(newest.map(|(from, _)| from)).await? {
        if let Some(joined) = repository.joined(&id).await? {
            history.take(&joined);
            replayed += 1;
        }
    }
    info!(replayed, edges = history.edges().count(), "history taken up");
    Ok((history, newest.map_or_else(Timestamp::default, |(_, to)| to)))
}

/// Takes in what was judged since the history was kept last: the journals have it.
pub(super) async fn correct(
    history: &mut History,
    repository: &Repository,
) -> Result<(), RepositoryError> {
    let plans = repository.plans().await?;
    let mut judged = Vec::new();
    for Plan { id: plan, .. } in &plans {
        for (entry, Entry { at, event }) in (0..).zip(repository.entries(plan).await?) {
            if let Event::Judged { compared, .. } = event {
                judged.push((Written { plan, entry, at }, compared));
            }
        }
    }
    // In the order in which they came: sums of floats are the same only then.
    judged.sort_by_key(|(written, _)| written.at);
    judged.iter().for_each(|(written, compared)| history.correct(*written, compared));
    Ok(())
}

/// The last windows, as many as are held, oldest first. Those from before a longer absence are left
/// out: they say nothing of the present.
pub(super) async fn recent(
    repository: &Repository,
    policy: &Policy,
    now: Timestamp,
) -> Result<Vec<Arc<Joined>>, RepositoryError> {
    let held = windows_held(policy);
    let reach = policy.window().saturating_mul(u32::try_from(held).unwrap_or(u32::MAX));
    let mut recent = repository.last_joined(held).await?;
    recent.retain(|joined| now.since(joined.from) <= reach);
    Ok(recent)
}

#[cfg(test)]
mod tests {
    use crate::{
        inference::Findings,
        join::Record,
        join::tests::fleet::demonstration,
        plan::Planned,
        repository::{WindowCommit, WindowRow},
    };

    use super::*;

    fn commit(joined: &Joined) -> WindowCommit<Record> {
        let records = joined.records.clone();
        let window = WindowRow {
            id: joined.window.clone(),
            opened_at: joined.from,
            closed_at: joined.to,
            samples: 0,
            late: 0,
            missing: None,
            records: records.len() as u64,
            coverage: std::collections::BTreeMap::new(),
        };
        let joined = Some(Arc::new(Joined { records: Vec::new(), ..joined.clone() }));
        let (findings, planned) = (Findings::default(), Planned::default());
        WindowCommit { window, records, joined, findings, planned, checkpoints: Vec::new() }
    }

    /// Whenever it was kept last, and however many windows came after that.
    #[tokio::test]
    async fn after_a_restart_the_history_is_what_it_was() {
        let policy = Policy::demonstration();
        let windows = demonstration().joined(6);
        for kept in 0..=windows.len() {
            let folder = tempfile::tempdir().unwrap();
            let mut live = History::new(Limits::of(&policy));
            {
                let repository = Repository::open(folder.path()).unwrap();
                for (number, joined) in windows.iter().enumerate() {
                    repository.commit_window(&commit(joined)).await.unwrap();
                    live.take(joined);
                    if number + 1 == kept {
                        repository.keep_history(Snapshot::of(&live).unwrap()).await.unwrap();
                    }
                }
            }

            let repository = Repository::open(folder.path()).unwrap();
            let (history, kept_at) = history(&repository, &policy).await.unwrap();

            assert_eq!(history, live, "kept after {kept}");
            assert!(history.edges().count() > 0);
            let at = kept.checked_sub(1).map(|last| windows[last].to);
            assert_eq!(kept_at, at.unwrap_or_default());
        }
    }

    #[tokio::test]
    async fn a_window_comes_back_as_it_was_joined() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::open(folder.path()).unwrap();
        let windows = demonstration().joined(3);
        for joined in &windows {
            repository.commit_window(&commit(joined)).await.unwrap();
        }
        for joined in &windows {
            let back = repository.joined(&joined.window).await.unwrap();
            assert_eq!(back.as_ref(), Some(joined));
        }
        let forgotten = repository.forget_windows(windows[2].to).await.unwrap();
        assert_eq!(forgotten, 2);
        assert_eq!(repository.joined(&windows[0].window).await.unwrap(), None);
        assert!(repository.joined(&windows[2].window).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn windows_of_before_a_long_absence_are_not_held() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::open(folder.path()).unwrap();
        let policy = Policy::demonstration();
        let windows = demonstration().joined(3);
        for joined in &windows {
            repository.commit_window(&commit(joined)).await.unwrap();
        }
        let soon = windows[2].to + policy.window();
        let ids = |recent: Vec<Arc<Joined>>| -> Vec<_> {
            recent.iter().map(|joined| joined.window.clone()).collect()
        };
        let expected: Vec<_> = windows.iter().map(|joined| joined.window.clone()).collect();
        assert_eq!(ids(recent(&repository, &policy, soon).await.unwrap()), expected);
        let late = soon + Duration::from_secs(3_600);
        assert_eq!(ids(recent(&repository, &policy, late).await.unwrap()), []);
    }
}
