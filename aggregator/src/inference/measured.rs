//! One machine over the windows held: means, peaks, and what each application needs.

use std::{collections::BTreeMap, sync::OnceLock, time::Duration};

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
    /// What its applications need, once somebody asked: several claims rest on it.
    needs: OnceLock<BTreeMap<AppName, Need>>,
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
        needs: OnceLock::new(),
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
    pub(super) fn needs(&self) -> &BTreeMap<AppName, Need> {
        self.needs.get_or_init(|| self.all_needs())
    }

    fn all_needs(&self) -> BTreeMap<AppName, Need> {
        let mix = self.mix().into_iter().flat_map(|mix| mix.applications.0.keys());
        let names = self.present.applications.keys().chain(mix);
        let believed: Vec<f64> = self.windows.iter().map(|window| believed(window)).collect();
        names.map(|name| (name.clone(), self.need(name, &believed))).collect()
    }

    /// What an application needs; of the CPU that it is told to use so much is believed in each window.
    fn need(&self, name: &AppName, believed: &[f64]) -> Need {
        let used = self.windows.iter().zip(believed).filter_map(|(window, believed)| {
            Some((window.applications.get(name)?, window.guest.watched, *believed))
        });
        let (mut cpu, mut cpu_told) = (Vec::new(), Vec::new());
        for (used, watched, believed) in used.clone() {
            let told = as_share(used.cpu_mean);
            cpu.push((told.map(|told| told * believed), watched));
            cpu_told.push((told, watched));
        }
        let used: Vec<_> = used.map(|(used, watched, _)| (used, watched)).collect();
        let cpu = weighted(cpu.into_iter()).unwrap_or(0.0);
        let cpu_told = weighted(cpu_told.into_iter()).unwrap_or(0.0);
        let is_cut = cpu < cpu_told;
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
            // Rounded down where it is cut: the sum must not pass what the whole machine used.
            cpu_mean: as_millicores(if is_cut { cpu.floor() } else { cpu }),
            cpu_told: is_cut.then(|| as_millicores(cpu_told)),
            cpu_peak: used.iter().map(|(used, _)| used.cpu_peak).max().unwrap_or_default(),
            memory_peak: used.iter().map(|(used, _)| used.memory_peak).max().unwrap_or_default(),
            profile: None,
            cpu_shared_out: None,
            written_per_second: weighted(written),
        }
    }
}

/// Share of the CPU of its applications that is believed of a machine in a window: together they use no
/// more than its hypervisor says that the whole of it did. All of it where the hypervisor does not say,
/// or looked for less than half of the time.
fn believed(window: &JoinedMachine) -> f64 {
    let outside = window
        .outside
        .cpu_mean
        .filter(|_| window.outside.watched.saturating_mul(2) >= window.guest.watched);
    let told = window.applications.values().filter_map(|used| used.cpu_mean);
    let told = Millicores(told.map(|cpu| cpu.0).fold(0, u64::saturating_add));
    match as_share(outside).zip(as_share(Some(told))) {
        Some((outside, told)) if told > outside => outside / told,
        _ => 1.0,
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
