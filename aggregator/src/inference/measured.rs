//! One machine over the windows held: means, peaks, and what each application needs.

use std::{collections::BTreeMap, time::Duration};

use common::{
    id::{AppName, VmId},
    mix::EffectiveMix,
    sketch::Sketch,
    units::{Bytes, Millicores},
};
use rayon::prelude::*;

use super::Need;
use crate::join::{Joined, JoinedMachine, Use};

/// One machine, oldest window first.
#[derive(Debug)]
pub(super) struct Measured<'a> {
    pub(super) vm: &'a VmId,
    pub(super) present: &'a JoinedMachine,
    windows: Vec<&'a JoinedMachine>,
    needed: usize,
}

/// The machines of the last window, over all windows.
pub(super) fn measured<'a>(windows: &[&'a Joined], needed: usize) -> Vec<Measured<'a>> {
    let Some(present) = windows.last().copied() else { return Vec::new() };
    let machines: Vec<_> = present.machines.iter().collect();
    let each = machines.into_par_iter().map(|(vm, present)| Measured {
        vm,
        present,
        windows: windows.iter().filter_map(|window| window.machines.get(vm)).collect(),
        needed,
    });
    each.collect()
}

impl<'a> Measured<'a> {
    /// The last windows that know it, as many as are needed to act.
    pub(super) fn recent(&self) -> &[&'a JoinedMachine] {
        &self.windows[self.windows.len().saturating_sub(self.needed)..]
    }

    /// Time its agent watched it, over all windows.
    pub(super) fn watched(&self) -> Duration {
        self.windows.iter().map(|window| window.guest.watched).sum()
    }

    /// The mix it ran when that was last known.
    pub(super) fn mix(&self) -> Option<&'a EffectiveMix> {
        self.windows.iter().rev().find_map(|window| window.mix.as_ref())
    }

    /// CPU at its peak, by the larger of both sides: a guest that says less than it uses must not
    /// be given less.
    pub(super) fn cpu_peak(&self) -> Option<Millicores> {
        let sides = self.windows.iter().flat_map(|window| [window.guest, window.outside]);
        sides.filter_map(|side| side.cpu_peak.max(side.cpu_mean)).max()
    }

    /// CPU on average, by the larger of both sides.
    pub(super) fn cpu_mean(&self) -> Option<Millicores> {
        let guest = mean_cpu(self.windows.iter().map(|window| &window.guest));
        guest.max(mean_cpu(self.windows.iter().map(|window| &window.outside)))
    }

    /// Memory at its peak, by the larger of both sides.
    pub(super) fn memory_peak(&self) -> Option<Bytes> {
        let sides = self.windows.iter().flat_map(|window| [window.guest, window.outside]);
        sides.filter_map(|side| side.memory_peak).max()
    }

    /// Times it ran out of memory, over all windows; `None` if nobody counted.
    pub(super) fn out_of_memory(&self) -> Option<u64> {
        let counted = self.windows.iter().filter_map(|window| window.out_of_memory);
        counted.reduce(u64::saturating_add)
    }

    /// What each application that is there now, or belongs to the mix, needs.
    pub(super) fn needs(&self) -> BTreeMap<AppName, Need> {
        let mix = self.mix().into_iter().flat_map(|mix| mix.applications.0.keys());
        let names = self.present.applications.keys().chain(mix);
        names.map(|name| (name.clone(), self.need(name))).collect()
    }

    fn need(&self, name: &AppName) -> Need {
        let used: Vec<_> = self
            .windows
            .iter()
            .filter_map(|window| Some((window.applications.get(name)?, window.guest.watched)))
            .collect();
        let cpu = weighted(used.iter().map(|(used, watched)| (as_share(used.cpu_mean), *watched)));
        let written = used.iter().map(|(used, watched)| (used.written_per_second, *watched));
        let (mut cpu_quantiles, mut memory_quantiles) = (Sketch::default(), Sketch::default());
        for (used, _) in &used {
            cpu_quantiles.merge(&used.cpu_quantiles);
            memory_quantiles.merge(&used.memory_quantiles);
        }
        Need {
            cpu_95: cpu_quantiles.quantile(0.95).map(Millicores),
            cpu_99: cpu_quantiles.quantile(0.99).map(Millicores),
            working_set_peak: memory_quantiles.quantile(1.0).map(Bytes),
            cpu_mean: as_millicores(cpu.unwrap_or(0.0)),
            cpu_peak: used.iter().map(|(used, _)| used.cpu_peak).max().unwrap_or_default(),
            memory_peak: used.iter().map(|(used, _)| used.memory_peak).max().unwrap_or_default(),
            profile: None,
            cpu_shared_out: None,
            written_per_second: weighted(written),
        }
    }
}

/// Mean CPU of one side over windows, weighted by how long each was watched.
pub(super) fn mean_cpu<'b>(sides: impl Iterator<Item = &'b Use>) -> Option<Millicores> {
    weighted(sides.map(|side| (as_share(side.cpu_mean), side.watched))).map(as_millicores)
}

/// Mean weighted by time; what is not known has no weight.
pub(super) fn weighted(values: impl Iterator<Item = (Option<f64>, Duration)>) -> Option<f64> {
    let (mut sum, mut weight) = (0.0, 0.0);
    for (value, over) in values {
        if let Some(value) = value {
            sum += value * over.as_secs_f64();
            weight += over.as_secs_f64();
        }
    }
    (weight > 0.0).then(|| sum / weight)
}

#[expect(clippy::cast_precision_loss, reason = "no machine has 2^52 cores")]
fn as_share(cpu: Option<Millicores>) -> Option<f64> {
    cpu.map(|cpu| cpu.0 as f64)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a mean of unsigned amounts is none below zero, and a float to u64 saturates"
)]
fn as_millicores(cpu: f64) -> Millicores {
    Millicores(cpu.round() as u64)
}
