//! Which pushes of collectors stand in the audit log: the first of each collector for each array, and
//! those that are refused, but no more than one an hour. Neither a collector that tells of its array
//! every minute nor one that goes on being refused fills what is kept for ever.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use common::clock::Timestamp;
use tonic::{Code, Status};

/// One refusal of a collector at an array in this time.
const QUIET: Duration = Duration::from_secs(3_600);
/// Pairs of collector and array that are remembered; certificates are given by the operator, and an
/// array that nobody knows counts as one.
const MOST: usize = 10_000;

/// What stands in the log of one collector at one array.
#[derive(Debug, Default)]
struct Written {
    is_taken: bool,
    refused_at: Option<Timestamp>,
}

/// What stands in the log since this service began.
#[derive(Debug, Default)]
pub(super) struct Pushes(Mutex<BTreeMap<(String, String), Written>>);

impl Pushes {
    /// What is to be written of a push, if anything is: action and detail.
    pub(super) fn note<T>(
        &self,
        by: &str,
        array: Option<&str>,
        at: Timestamp,
        outcome: &Result<T, Status>,
    ) -> Option<(&'static str, String)> {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (by.to_owned(), array.unwrap_or_default().to_owned());
        if !written.contains_key(&key) && written.len() >= MOST {
            return None;
        }
        let written = written.entry(key).or_default();
        match outcome {
            Ok(_) => {
                let is_first = !std::mem::replace(&mut written.is_taken, true);
                is_first.then(|| ("storage push", "first since the service began".to_owned()))
            }
            // Of what is ours nobody is accused.
            Err(status) if matches!(status.code(), Code::Internal | Code::Unavailable) => None,
            Err(status) => {
                let is_quiet = written.refused_at.is_some_and(|last| at.since(last) < QUIET);
                if is_quiet {
                    return None;
                }
                written.refused_at = Some(at);
                Some(("storage push refused", status.message().to_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_push_is_written_and_of_refusals_one_an_hour() {
        let pushes = Pushes::default();
        let at = |seconds: u64| Timestamp::from_millis(seconds * 1_000);
        let refused = || Err::<(), _>(Status::permission_denied("not its array"));
        let written = |by: &str, seconds, outcome: Result<(), Status>| {
            pushes.note(by, Some("filer"), at(seconds), &outcome).map(|(action, _)| action)
        };

        assert_eq!(written("a", 0, Ok(())), Some("storage push"));
        assert_eq!(written("a", 60, Ok(())), None);
        assert_eq!(written("b", 60, Ok(())), Some("storage push"));
        assert_eq!(written("a", 100, refused()), Some("storage push refused"));
        assert_eq!(written("a", 101, refused()), None);
        assert_eq!(written("a", 102, Ok(())), None);
        assert_eq!(written("a", 3_700, refused()), Some("storage push refused"));
        assert_eq!(written("a", 9_000, Err(Status::internal("ours"))), None);
    }
}
