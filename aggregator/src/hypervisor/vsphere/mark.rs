//! What we write into a machine's settings, and how operators label machines.
//!
//! Operators write labels, divided by blanks or commas, into the custom attribute `sinter.labels`, or
//! words that begin with `sinter:` anywhere into a machine's notes.

use std::collections::BTreeSet;

use common::id::{PlanId, VmId};

/// The setting of a clone.
pub(super) const MARK: &str = "sinter.machine";
/// The setting of a machine that a clone took the place of.
pub(super) const DISPLACED: &str = "sinter.displaced";
/// Where a guest's agent finds its enrolment ticket: the guest's tools read settings of that kind.
pub(super) const TICKET: &str = "guestinfo.sinter.ticket";
/// The custom attribute of operators.
pub(super) const LABELS: &str = "sinter.labels";
/// How words of ours begin in notes.
const PREFIX: &str = "sinter:";

/// The mark of a clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    /// The clone itself: whoever copies it copies the mark too.
    pub(super) of: VmId,
    /// What it was cloned from.
    pub(super) cloned_from: VmId,
    /// The plan it was cloned for.
    pub(super) plan: PlanId,
    /// Whether all of it was changed that is to be other than the source's.
    pub(super) is_whole: bool,
}

fn part<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split_whitespace().find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

impl Mark {
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(Self {
            of: part(text, "of")?.parse().ok()?,
            cloned_from: part(text, "cloned-from")?.parse().ok()?,
            plan: part(text, "plan")?.parse().ok()?,
            is_whole: part(text, "whole") == Some("yes"),
        })
    }

    /// As a setting. No id has a blank in it.
    pub(super) fn setting(&self) -> (String, String) {
        let Self { of, cloned_from, plan, is_whole } = self;
        let whole = if *is_whole { "yes" } else { "no" };
        (MARK.to_owned(), format!("of={of} cloned-from={cloned_from} plan={plan} whole={whole}"))
    }
}

/// How a machine was before a clone took its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Displaced {
    /// The clone.
    pub(super) by: VmId,
    /// MACs of the links that were unplugged for that.
    pub(super) unplugged: BTreeSet<String>,
}

impl Displaced {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let unplugged = part(text, "unplugged").unwrap_or_default();
        let unplugged = unplugged.split(',').filter(|mac| !mac.is_empty()).map(str::to_owned);
        Some(Self { by: part(text, "by")?.parse().ok()?, unplugged: unplugged.collect() })
    }

    pub(super) fn setting(&self) -> (String, String) {
        let unplugged = self.unplugged.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        (DISPLACED.to_owned(), format!("by={} unplugged={unplugged}", self.by))
    }

    /// An empty value takes a setting away.
    pub(super) fn no_setting() -> (String, String) {
        (DISPLACED.to_owned(), String::new())
    }
}

/// Labels of operators, in an attribute and in notes.
pub(super) fn labels(attribute: Option<&str>, notes: &str) -> BTreeSet<String> {
    let divided = |c: char| c.is_whitespace() || c == ',';
    let written = attribute.into_iter().flat_map(|text| text.split(divided));
    // Within a sentence.
    let words = notes.split(divided).map(|word| word.trim_matches(|c: char| ".;:!?()".contains(c)));
    let noted = words.filter(|word| word.starts_with(PREFIX));
    written.chain(noted).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mark = Mark {
            of: "c".parse().unwrap(),
            cloned_from: "s".parse().unwrap(),
            plan: "plan-1".parse().unwrap(),
            is_whole: true,
        };
        assert_eq!(Mark::parse(&mark.setting().1), Some(mark));
        assert_eq!(Mark::parse("of=c plan=p"), None);
        let unplugged =
            BTreeSet::from(["00:50:56:00:00:01", "00:50:56:00:00:02"].map(str::to_owned));
        let displaced = Displaced { by: "c".parse().unwrap(), unplugged };
        assert_eq!(Displaced::parse(&displaced.setting().1), Some(displaced));
        let none = Displaced { by: "c".parse().unwrap(), unplugged: BTreeSet::new() };
        assert_eq!(Displaced::parse(&none.setting().1), Some(none));
    }

    #[test]
    fn labels_stand_in_an_attribute_or_in_notes() {
        let found = labels(Some("gold, silver"), "ask Ann (sinter:never-touch).\nsinter:x;");
        let expected = ["gold", "silver", "sinter:never-touch", "sinter:x"].map(str::to_owned);
        assert_eq!(found, BTreeSet::from(expected));
        assert_eq!(labels(None, "never-touch"), BTreeSet::new());
    }
}
