//! Plans on a fleet as it would be, or as it was: for operators who ask before they decide.
//!
//! Nothing is stored and nothing is acted upon. A question takes as long as a search takes, so whoever
//! asks hears how it goes, and it ends when nobody listens any more.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Instant};

use common::{clock::Timestamp, id::WindowId};

use super::{Settings, SteeringError, shared::Shared, steering::Steering};
use crate::{
    hypervisor::Inventory,
    inference::{self, Findings},
    past::{Past, Rules, listed_beside},
    plan::{self, Limits, Planned, Progress, Restraint, Situation, Supposition},
    policy::Policy,
    repository::WindowRow,
};

/// Windows before a past one that its findings are made from: all that dependencies look at, and, of
/// five minutes each, a day and more.
const WINDOWS_BEFORE: usize = 300;

/// Hears of better targets as they are found.
pub type Hearer = Box<dyn Fn(&Progress) + Send>;

/// A question: what would be planned if something were otherwise.
pub struct WhatIf {
    /// The thresholds.
    pub policy: Policy,
    /// How the fleet differs.
    pub supposition: Supposition,
    /// The fleet it is asked of; `None` for the present one.
    pub ground: Option<Arc<Ground>>,
    /// When there must be an answer; `None` for the usual search.
    pub until: Option<Instant>,
    /// Told of better targets as they are found.
    pub progress: Option<Hearer>,
    /// Whether anybody still waits for the answer.
    pub is_wanted: Box<dyn Fn() -> bool + Send>,
}

impl fmt::Debug for WhatIf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WhatIf").field("supposition", &self.supposition).finish_non_exhaustive()
    }
}

impl WhatIf {
    /// A question about the present fleet, with the usual search.
    #[must_use]
    pub fn now(policy: Policy, supposition: Supposition) -> Self {
        Self {
            policy,
            supposition,
            ground: None,
            until: None,
            progress: None,
            is_wanted: Box::new(|| true),
        }
    }
}

/// What came of a question.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// The plans.
    pub planned: Planned,
    /// What was assumed.
    pub assumed: Vec<String>,
}

/// A past moment to ask about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// When this window had closed.
    Window(WindowId),
    /// When the last window before this time had closed.
    Time(Timestamp),
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Window(id) => write!(f, "window {id} is not kept"),
            Self::Time(_) => f.write_str("no window that is kept had closed by then"),
        }
    }
}

/// A fleet as it was when a window closed.
#[derive(Debug)]
pub struct Ground {
    past: Past,
    window: WindowId,
    closed_at: Timestamp,
    former: Findings,
    inventory: Arc<Inventory>,
}

impl Ground {
    /// What was there.
    #[must_use]
    pub fn inventory(&self) -> Arc<Inventory> {
        Arc::clone(&self.inventory)
    }

    /// What of it is not as it was.
    #[must_use]
    pub fn assumed(&self) -> Vec<String> {
        let windows = self.past.windows();
        vec![
            format!(
                "window {} and {} before it; what is older does not count",
                self.window,
                windows - 1
            ),
            "catalogue, scope, hosts and networks are as they are now".to_owned(),
        ]
    }
}

impl Steering {
    /// The fleet as it was at a past moment. `told` hears how many windows are read, of how many.
    ///
    /// # Errors
    ///
    /// If no such window is kept: the oldest that is, is named.
    pub async fn ground(
        &self,
        at: &At,
        told: impl Fn(usize, usize),
    ) -> Result<Ground, SteeringError> {
        let shared = self.shared();
        let rows = shared.rows_until(at).await?;
        let former = shared.findings_before(&rows).await?;
        let settings = shared.settings();
        let mut past = Past::new(&settings.policy);
        let taken = rows.iter().take(WINDOWS_BEFORE);
        let of = taken.len();
        for (number, row) in taken.rev().enumerate() {
            told(number + 1, of);
            let Some(joined) = shared.repository.joined(&row.id).await? else { continue };
            let folded = tokio::task::spawn_blocking(move || {
                past.take(joined);
                past
            });
            past = folded.await.map_err(|_| SteeringError::Ended)?;
        }
        let Some(row) = rows.first() else { return Err(shared.no_window(at).await?) };
        let last = past.last().filter(|last| last.window == row.id);
        let last = last.ok_or_else(|| SteeringError::NotJoined(row.id.clone()))?;
        let present = shared.known().inventory.clone().unwrap_or_default();
        let inventory = Arc::new(listed_beside(last, &present));
        let (window, closed_at) = (row.id.clone(), row.closed_at);
        Ok(Ground { window, closed_at, former, inventory, past })
    }

    /// Plans on a fleet as far as it is so and not otherwise; nothing is stored.
    ///
    /// # Errors
    ///
    /// See [`SteeringError`].
    pub async fn what_if(&self, asked: WhatIf) -> Result<Answer, SteeringError> {
        asked.policy.check()?;
        let shared = Arc::clone(self.shared());
        let thought = tokio::task::spawn_blocking(move || match asked.ground.clone() {
            Some(ground) => shared.answered_then(&asked, &ground),
            None => shared.answered_now(&asked),
        });
        thought.await.map_err(|_| SteeringError::Ended)?
    }
}

impl WhatIf {
    fn answered(&self, situation: &Situation<'_>) -> Result<Answer, SteeringError> {
        let go_on = || {
            let is_late = self.until.is_some_and(|until| Instant::now() >= until);
            !is_late && (self.is_wanted)()
        };
        let told = |better: &Progress| {
            if let Some(progress) = &self.progress {
                progress(better);
            }
        };
        let usual = match self.until {
            Some(until) => {
                Limits::seconds(until.saturating_duration_since(Instant::now()).as_secs())
            }
            None => Limits::usual(situation),
        };
        let progress = self.progress.is_some().then_some(&told as &dyn Fn(&Progress));
        let limits = Limits { go_on: Some(&go_on), progress, ..usual };
        let planned = plan::plan_supposed(situation, &self.supposition, &limits)?;
        Ok(Answer { planned, assumed: plan::assumed(situation, &self.supposition) })
    }
}

impl Shared {
    fn answered_now(&self, asked: &WhatIf) -> Result<Answer, SteeringError> {
        let settings = Settings { policy: asked.policy.clone(), ..self.settings() };
        let (recent, last) = {
            let known = self.known();
            (Arc::clone(&known.recent), Arc::clone(&known.findings))
        };
        // After a restart there are findings before there are windows.
        let findings = if recent.is_empty() {
            last
        } else {
            Arc::new(self.in_context(&settings, |context| inference::infer(&recent, context)))
        };
        let answer = self.in_situation(&settings, |situation| {
            asked.answered(&Situation { findings: &findings, ..*situation })
        });
        answer.unwrap_or_else(|| Ok(Answer::default()))
    }

    fn answered_then(&self, asked: &WhatIf, ground: &Ground) -> Result<Answer, SteeringError> {
        let Settings { catalogue, scope, groups, .. } = &self.settings();
        let policy = &ground.past.timed(&asked.policy);
        let findings =
            ground.past.infer(&Rules { policy, catalogue, scope, groups }, &ground.former);
        let own = self.own.among(&ground.inventory);
        let restraint = Restraint { own, ..Restraint::default() };
        let answer = asked.answered(&Situation {
            now: ground.closed_at,
            findings: &findings,
            inventory: &ground.inventory,
            catalogue,
            policy,
            scope,
            busy: &BTreeSet::new(),
            restraint: &restraint,
        })?;
        let assumed = ground.assumed().into_iter().chain(answer.assumed);
        Ok(Answer { assumed: assumed.collect(), ..answer })
    }

    /// The last windows until a moment, newest first, one more than are looked at.
    async fn rows_until(&self, at: &At) -> Result<Vec<WindowRow>, SteeringError> {
        let then = match at {
            At::Time(then) => *then,
            At::Window(id) => match self.repository.window(id).await? {
                Some(row) => row.closed_at,
                None => return Err(self.no_window(at).await?),
            },
        };
        let rows = self.repository.windows_until(then, WINDOWS_BEFORE + 1).await?;
        if rows.is_empty() { Err(self.no_window(at).await?) } else { Ok(rows) }
    }

    /// What was found when the window before the last one had closed.
    async fn findings_before(&self, rows: &[WindowRow]) -> Result<Findings, SteeringError> {
        let Some(before) = rows.get(1) else { return Ok(Findings::default()) };
        Ok(self.repository.findings(&before.id).await?.unwrap_or_default())
    }

    async fn no_window(&self, at: &At) -> Result<SteeringError, SteeringError> {
        let oldest = self.repository.oldest_window().await?;
        Ok(SteeringError::NoWindow { at: at.clone(), oldest: oldest.map(|row| row.id) })
    }
}
