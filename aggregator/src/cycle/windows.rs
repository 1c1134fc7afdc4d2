//! Closes windows: what was seen becomes findings and plans, committed as one, and then sealed.

use std::{mem, sync::Arc, time::Duration};

use common::clock::Timestamp;
use tracing::{debug, error, info};

use super::{
    Cycle, CycleError,
    shared::{Shared, with_room},
};
use crate::{
    inference::{self, Findings},
    join::{Joined, Record},
    plan::{self, Planned, Situation},
    policy::Policy,
    repository::{WindowCommit, WindowRow},
    window::{SamplingWindow, Seen},
};

/// Joined windows that are held at least, whatever the policy needs: an audit and its way back look
/// at this many, and a what-if has something to go by.
const WINDOWS_HELD: usize = 12;

/// Samples that are taken in at a stretch before anything else has its turn.
const AT_A_STRETCH: usize = 256;

/// How long windows are kept: a month, so that what recurs by the month can be looked up.
const KEPT_FOR: Duration = Duration::from_secs(31 * 24 * 3600);

/// How often those that are older are forgotten.
const SWEEP_PERIOD: Duration = Duration::from_secs(6 * 3600);

/// What came of one window.
struct Thought {
    findings: Findings,
    planned: Planned,
}

impl Thought {
    /// Groups are kept as they were: they would get new ids else.
    fn broken(row: &WindowRow, former: &Findings) -> Self {
        let findings = Findings {
            groups: former.groups.clone(),
            next_group: former.next_group,
            window: Some(row.id.clone()),
            closed_at: row.closed_at,
            remarks: vec!["reasoning broke down in this window".into()],
            ..Findings::default()
        };
        Self { findings, planned: Planned::default() }
    }
}

/// Joined windows that are held, by the policy.
pub(super) fn windows_held(policy: &Policy) -> usize {
    policy.windows_needed.max(WINDOWS_HELD)
}

impl Cycle {
    pub(super) fn take_in(&mut self, seen: Seen) {
        self.windows.accept(seen);
        for _ in 0..AT_A_STRETCH {
            let Ok(seen) = self.seen.try_recv() else { return };
            self.windows.accept(seen);
        }
    }

    /// Closes the windows that are over; says whether there were any.
    pub(super) async fn close_windows(&mut self) -> Result<bool, CycleError> {
        let mut closed_any = false;
        while let Some(window) = self.windows.close(self.shared.clock.now()) {
            closed_any = true;
            self.close(window).await?;
        }
        if closed_any {
            self.sweep().await?;
            self.keep_history().await?;
        }
        Ok(closed_any)
    }

    async fn close(&mut self, window: SamplingWindow) -> Result<(), CycleError> {
        let is_present = self.is_present(&window);
        let row = row_of(&window);
        let checkpoints = window.checkpoints.clone();
        let joined = self.join(window).await;
        let thought = self.reason(joined.clone(), is_present).await;
        let (joined, records) = joined.map(apart).unzip();
        let records = records.unwrap_or_default();
        self.hold(joined.clone().filter(|_| thought.is_some()));
        let row = WindowRow { records: records.len() as u64, ..row };
        let Thought { findings, planned } = thought.unwrap_or_else(|| {
            let former = Arc::clone(&self.shared.known().findings);
            Thought::broken(&row, &former)
        });
        let commit = WindowCommit { window: row, records, joined, findings, planned, checkpoints };
        with_room(|| self.shared.repository.commit_window(&commit)).await?;
        self.shared.guests.seal(&commit.window.id, &commit.checkpoints);
        self.settle(commit, is_present).await
    }

    /// The window, joined; `None` if that broke down: its samples are counted and sealed all the
    /// same, for held back they would do it again.
    async fn join(&self, window: SamplingWindow) -> Option<Arc<Joined>> {
        let shared = Arc::clone(&self.shared);
        let id = window.id.clone();
        let joining = tokio::task::spawn_blocking(move || shared.join(&window));
        let broken = |cause| error!(window = %id, %cause, "joining broke down, window kept empty");
        joining.await.map_err(broken).ok()
    }

    /// What comes of the window just joined; `None` if the reasoning broke down.
    async fn reason(&self, joined: Option<Arc<Joined>>, is_present: bool) -> Option<Thought> {
        let shared = Arc::clone(&self.shared);
        let joined = joined?;
        let id = joined.window.clone();
        let thinking = tokio::task::spawn_blocking(move || shared.think(joined, is_present));
        let broken = |cause| {
            error!(window = %id, %cause, "reasoning broke down, window kept without findings");
        };
        thinking.await.map_err(broken).ok()
    }

    /// Holds a window beside the last ones; without one, because something broke down, none is held
    /// any more.
    fn hold(&self, joined: Option<Arc<Joined>>) {
        let held = windows_held(&self.shared.settings().policy);
        let mut known = self.shared.known();
        let Some(joined) = joined else {
            known.recent = Arc::default();
            return;
        };
        let recent = Arc::make_mut(&mut known.recent);
        recent.push(joined);
        recent.drain(..recent.len().saturating_sub(held));
    }

    /// Once it is committed: findings hold, plans that no longer fit go, new ones are proposed.
    async fn settle(
        &self,
        commit: WindowCommit<Record>,
        is_present: bool,
    ) -> Result<(), CycleError> {
        let WindowCommit { window, findings, planned, .. } = commit;
        self.shared.known().findings = Arc::new(findings);
        let text = format!(
            "window {} closed: {} samples of {} machines, {} records",
            window.id,
            window.samples,
            window.coverage.len(),
            window.records
        );
        self.shared.tell("window_closed", None, text);
        if is_present {
            self.shared.supersede().await?;
            self.shared.propose(planned.plans).await?;
        }
        self.shared.closed.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Whether a window says how things are now, and all of it was watched: one that is closed
    /// late, from a time when we were away, does not, and the one we started in was watched by
    /// half.
    fn is_present(&self, window: &SamplingWindow) -> bool {
        let policy = self.shared.settings().policy;
        let is_late = self.shared.clock.now().since(window.to) > policy.window();
        window.from >= self.shared.started_at && !is_late && self.shared.is_fresh()
    }

    async fn sweep(&mut self) -> Result<(), CycleError> {
        let now = self.shared.clock.now();
        if self.swept_at.is_some_and(|then| now.since(then) < SWEEP_PERIOD) {
            return Ok(());
        }
        self.swept_at = Some(now);
        let kept_for_ms = u64::try_from(KEPT_FOR.as_millis()).unwrap_or(u64::MAX);
        let oldest = Timestamp::from_millis(now.as_millis().saturating_sub(kept_for_ms));
        if oldest.as_millis() > 0 {
            let forgotten = self.shared.repository.forget_windows(oldest).await?;
            if forgotten > 0 {
                info!(forgotten, "old windows forgotten");
            }
        }
        Ok(())
    }
}

impl Shared {
    fn think(&self, joined: Arc<Joined>, is_present: bool) -> Thought {
        let settings = self.settings();
        let window = joined.window.clone();
        let mut recent = Vec::clone(&self.known().recent);
        recent.push(joined);
        let before = recent.len().saturating_sub(windows_held(&settings.policy));
        let recent = recent.split_off(before);
        let findings = self.in_context(&settings, |context| inference::infer(&recent, context));
        let planned = if is_present {
            self.in_situation(&settings, |situation| {
                plan::plan(&Situation { findings: &findings, ..*situation })
            })
            .unwrap_or_default()
        } else {
            self.left_alone_unseen()
        };
        debug!(%window, plans = planned.plans.len(), "window reasoned about");
        Thought { findings, planned }
    }

    /// Why nothing is planned in a window that does not say how things are now.
    fn left_alone_unseen(&self) -> Planned {
        let reason = if self.is_fresh() {
            "no full window was watched since the start"
        } else {
            "the hypervisor does not answer; nothing is changed on what may be out of date"
        };
        let inventory = self.known().inventory.clone();
        let machines = inventory.iter().flat_map(|inventory| inventory.machines.keys());
        let left_alone = machines.map(|vm| (vm.clone(), reason.to_owned())).collect();
        Planned { left_alone, ..Planned::default() }
    }
}

/// A window and its records, which nothing that holds it for longer needs.
fn apart(joined: Arc<Joined>) -> (Arc<Joined>, Vec<Record>) {
    let mut joined = Arc::unwrap_or_clone(joined);
    let records = mem::take(&mut joined.records);
    (Arc::new(joined), records)
}

fn row_of(window: &SamplingWindow) -> WindowRow {
    WindowRow {
        id: window.id.clone(),
        opened_at: window.from,
        closed_at: window.to,
        samples: window.samples(),
        late: window.guests.values().map(|guest| guest.late).sum(),
        missing: Some(
            window.guests.values().map(|guest| guest.due.saturating_sub(guest.came)).sum(),
        ),
        records: 0,
        coverage: window.coverage(),
    }
}
