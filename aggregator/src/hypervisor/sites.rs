//! What the sites of one vendor answer, put together.

use std::collections::BTreeMap;

use common::id::VmId;

use super::{HypervisorError, Telemetry};

/// The totals of all machines. Those of some sites are better than of none: what is missing is not known, never
/// zero.
pub(super) fn totals(
    answers: Vec<Result<Vec<(VmId, Telemetry)>, HypervisorError>>,
) -> Result<BTreeMap<VmId, Telemetry>, HypervisorError> {
    let (mut all, mut failed) = (BTreeMap::new(), None);
    let mut has_answer = false;
    for answer in answers {
        match answer {
            Ok(totals) => {
                has_answer = true;
                all.extend(totals);
            }
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) if !has_answer => Err(error),
        _ => Ok(all),
    }
}
