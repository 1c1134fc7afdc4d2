//! What agents say became of a list.

use common::{
    id::VmId,
    mix::EffectiveMix,
    task::Chain,
    wire::{
        BadMessage, LONGEST_PATH,
        agent::v1::{ApplyReport, ApplyStage},
    },
};
use tracing::{error, info};

use super::{Hub, intake::Bad};
use crate::repository::{ListState, StoredList};

impl Hub {
    /// Takes a report in: remembered first, then heard by who waits for it.
    pub(super) async fn take_report(&self, vm: &VmId, report: ApplyReport) -> Result<(), Bad> {
        let bad = |bad: BadMessage| Bad::new("bad_report", bad.to_string());
        let generation = report.generation;
        let mix: Option<EffectiveMix> = report
            .mix
            .map(TryInto::try_into)
            .transpose()
            .map_err(|told: BadMessage| bad(told.within("mix")))?;
        let reason = reason(report.reason).map_err(bad)?;
        let answer = answer(report.stage, reason).map_err(bad)?;
        let guest = self.machines.of(vm);
        if let Some(mix) = mix {
            let is_of_it = mix.generation == generation;
            if answer == Some(ListState::Applied) && !is_of_it {
                let told = format!("mix.generation is {}, applied is {generation}", mix.generation);
                return Err(Bad::new("bad_report", told));
            }
            guest.note_mix(mix);
        }
        if let Some(answer) = answer {
            info!(%vm, generation, ?answer, "configuration list answered");
            self.keep_report(vm, generation, &answer).await;
            guest.note_answer(generation, answer);
        }
        Ok(())
    }

    async fn keep_report(&self, vm: &VmId, generation: u64, answer: &ListState) {
        let stored = match self.repository.list(vm, generation).await {
            Ok(stored) => stored,
            Err(cause) => {
                error!(%vm, generation, cause = %Chain(&cause), "answer could not be remembered");
                return;
            }
        };
        // A list that was answered keeps its answer, and one we never offered has none.
        let Some(offered) = stored.filter(|list| list.state == ListState::Offered) else { return };
        let answered = StoredList { state: answer.clone(), ..offered };
        if let Err(cause) = self.repository.put_list(&answered).await {
            error!(%vm, generation, cause = %Chain(&cause), "answer could not be remembered");
        }
    }
}

/// What people read on the console: bounded, and without orders to it.
fn reason(text: String) -> Result<String, BadMessage> {
    if text.len() > LONGEST_PATH {
        let value = format!("{} bytes long", text.len());
        return Err(BadMessage::new("reason", value, "send at most 4096 bytes"));
    }
    Ok(text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect())
}

/// The answer a stage is; `None` while the agent is at it.
fn answer(stage: i32, reason: String) -> Result<Option<ListState>, BadMessage> {
    let unknown = |value: String| BadMessage::new("stage", value, "send a stage of the protocol");
    let stage = ApplyStage::try_from(stage).map_err(|_| unknown(stage.to_string()))?;
    Ok(match stage {
        ApplyStage::Unspecified => return Err(unknown(stage.as_str_name().to_owned())),
        ApplyStage::Verified | ApplyStage::Applying => None,
        ApplyStage::Applied => Some(ListState::Applied),
        ApplyStage::Refused => Some(ListState::Refused { reason }),
        ApplyStage::Undone => Some(ListState::Undone { reason }),
        ApplyStage::Stranded => Some(ListState::Stranded { reason }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_nobody_knows_is_named() {
        assert_eq!(answer(99, String::new()).unwrap_err().value, "99");
        assert_eq!(answer(0, String::new()).unwrap_err().value, "APPLY_STAGE_UNSPECIFIED");
    }

    #[test]
    fn an_agent_that_is_at_it_has_not_answered() {
        assert_eq!(answer(2, String::new()), Ok(None));
        assert_eq!(answer(3, String::new()), Ok(Some(ListState::Applied)));
    }
}
