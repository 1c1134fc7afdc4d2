//! What the arrays counted of each machine: the operations that its initiator had done on a device,
//! and those that failed. This is the count that neither guest nor hypervisor can give.

use std::collections::{BTreeMap, BTreeSet};

use common::id::VmId;

use super::{addresses::Owners, outside::Counted};
use crate::{
    storage::Totals,
    window::{Look, SamplingWindow},
};

/// What one machine did to one device over a window.
#[derive(Debug, Default)]
pub(super) struct OnDevice {
    pub(super) reads: Counted,
    pub(super) writes: Counted,
    pub(super) read: Counted,
    pub(super) written: Counted,
    pub(super) failed: Counted,
}

impl OnDevice {
    fn take(&mut self, was: &Totals, now: &Totals) {
        let over = now.taken_at.since(was.taken_at);
        self.reads.take(was.reads, now.reads, over);
        self.writes.take(was.writes, now.writes, over);
        self.read.take(was.read.map(|bytes| bytes.0), now.read.map(|bytes| bytes.0), over);
        self.written.take(was.written.map(|bytes| bytes.0), now.written.map(|bytes| bytes.0), over);
        self.failed.take(was.failed, now.failed, over);
    }
}

/// By machine and by device, as `array:device`. Who an initiator is its address says; one that
/// belongs to no machine is a remark.
pub(super) fn counted(
    window: &SamplingWindow,
    owners: &Owners,
    remarks: &mut Vec<String>,
) -> BTreeMap<(VmId, String), OnDevice> {
    let mut counted: BTreeMap<(VmId, String), OnDevice> = BTreeMap::new();
    let names: BTreeSet<&String> =
        window.looks.iter().flat_map(|look| look.arrays.keys()).collect();
    for array in names {
        let holders = holders(&window.looks, array, owners);
        let mut unknown = BTreeSet::new();
        let mut was: BTreeMap<(&str, &str), &Totals> = BTreeMap::new();
        for totals in window.looks.iter().filter_map(|look| look.arrays.get(array)) {
            for now in &totals.totals {
                let Some(initiator) = now.initiator.as_deref() else { continue };
                let Some(before) = was.insert((&now.device, initiator), now) else { continue };
                match holders.get(initiator) {
                    Some(Some(vm)) => {
                        let key = (vm.clone(), format!("{array}:{}", now.device));
                        counted.entry(key).or_default().take(before, now);
                    }
                    _ => drop(unknown.insert(initiator)),
                }
            }
        }
        remarks.extend(unknown.into_iter().map(|initiator| {
            format!("{array}: initiator {initiator} has no address of one machine; what it did is in no record")
        }));
    }
    counted
}

/// The machine behind each initiator, if all of its addresses are of one.
fn holders<'a>(looks: &'a [Look], array: &str, owners: &Owners) -> BTreeMap<&'a str, Option<VmId>> {
    let mut holders: BTreeMap<&str, Option<VmId>> = BTreeMap::new();
    let surveys = looks.iter().filter_map(|look| look.arrays.get(array));
    let devices = surveys.flat_map(|survey| survey.devices.iter());
    for holder in devices.filter_map(|device| device.connections.fact()).flatten() {
        let vms: BTreeSet<Option<&VmId>> =
            holder.addresses.iter().map(|address| owners.remote(*address)).collect();
        let vm = match vms.into_iter().collect::<Vec<_>>().as_slice() {
            [Some(vm)] => Some((*vm).clone()),
            _ => None,
        };
        holders
            .entry(&holder.initiator)
            .and_modify(|known| {
                if *known != vm {
                    *known = None;
                }
            })
            .or_insert(vm);
    }
    holders
}
