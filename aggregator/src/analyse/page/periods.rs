//! Edges that are used in a period, the surest first.

use crate::inference::Findings;

/// Nothing where no edge has one.
pub(super) const fn told(_findings: &Findings) -> String {
    String::new()
}
