//! The history in pieces, so that it can be kept without being one value of a gigabyte.

use serde::{Deserialize, Serialize};

use super::{
    AppName, ApplicationHistory, BTreeMap, Corrections, EdgeKey, EdgeRings, Folded, History,
    LeftOut, Limits, MachineHistory, MemoryFloor, Timestamp, VmId,
};

/// Entries of one piece: of edges and applications some megabytes.
const ENTRIES: usize = 1_024;

/// A piece of a history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// What there is but once.
    Head {
        /// The limits.
        limits: Limits,
        /// The windows remembered one by one.
        windows: Vec<Folded>,
        /// When what was not seen was last forgotten.
        swept_at: Timestamp,
        /// What was left out.
        left_out: LeftOut,
    },
    /// Memory that was too little.
    Floors(Vec<((VmId, Option<AppName>), MemoryFloor)>),
    /// What trials and audits taught of predictions.
    Corrections(Corrections),
    /// Edges.
    Edges(Vec<(EdgeKey, EdgeRings)>),
    /// Applications.
    Applications(Vec<((VmId, AppName), ApplicationHistory)>),
    /// Machines.
    Machines(Vec<(VmId, MachineHistory)>),
}

impl History {
    /// All of it, piece by piece; [`History::of_parts`] makes it whole again.
    pub fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        let head = Part::Head {
            limits: self.limits,
            windows: self.windows.values().cloned().collect(),
            swept_at: self.swept_at,
            left_out: self.left_out,
        };
        std::iter::once(head)
            .chain(pieces(&self.floors).map(Part::Floors))
            .chain(std::iter::once(Part::Corrections(self.corrections.clone())))
            .chain(pieces(&self.edges).map(Part::Edges))
            .chain(pieces(&self.applications).map(Part::Applications))
            .chain(pieces(&self.machines).map(Part::Machines))
    }

    /// The history whose pieces these are; `None` if its head is missing.
    pub fn of_parts(parts: impl IntoIterator<Item = Part>) -> Option<Self> {
        let mut history = None;
        let mut others = Vec::new();
        for part in parts {
            match (part, &mut history) {
                (Part::Head { limits, windows, swept_at, left_out }, _) => {
                    let windows = windows.into_iter().map(|window| (window.from, window));
                    let windows = windows.collect();
                    history = Some(Self { windows, swept_at, left_out, ..Self::new(limits) });
                }
                (part, Some(history)) => history.add(part),
                (part, None) => others.push(part),
            }
        }
        let mut history = history?;
        others.into_iter().for_each(|part| history.add(part));
        Some(history)
    }

    fn add(&mut self, part: Part) {
        match part {
            Part::Head { .. } => {}
            Part::Floors(floors) => self.floors.extend(floors),
            Part::Corrections(corrections) => self.corrections = corrections,
            Part::Edges(edges) => self.edges.extend(edges),
            Part::Applications(applications) => self.applications.extend(applications),
            Part::Machines(machines) => self.machines.extend(machines),
        }
    }
}

fn pieces<K: Clone + Ord, V: Clone>(
    all: &BTreeMap<K, V>,
) -> impl Iterator<Item = Vec<(K, V)>> + '_ {
    let mut entries = all.iter();
    std::iter::from_fn(move || {
        let piece: Vec<(K, V)> = entries
            .by_ref()
            .take(ENTRIES)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        (!piece.is_empty()).then_some(piece)
    })
}
