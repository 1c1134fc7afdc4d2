//! One application's account: what it used so far, by the kernel's count of its groups or by its processes.
//!
//! Both counts run on beside each other, so that the total goes on without a step when the other one takes
//! over. It does so only when the kernel's count was there twice, and back as soon as it is not.

use std::time::Duration;

use common::{
    sample::{Accounting, ApplicationUse},
    units::{Bytes, Millicores},
};

use super::{
    kernel::{Kernel, Told},
    lines::{Spent, Stored},
    span::{Pace, Span},
};
use crate::observe::seen::{Counter, Storage};

/// Which of the two counts a total goes by.
#[derive(Debug, Clone, Copy, Default)]
struct Source {
    is_kernel: bool,
    was_told: bool,
}

/// When a look was, and what there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// Time since the observer began.
    pub(super) at: Duration,
    /// When everything was last looked at before.
    pub(super) before: Option<Duration>,
    /// The time in which a lump was used, which a look may find one look late.
    pub(super) lump: Duration,
    /// All the CPU there is.
    pub(super) most: Millicores,
}

/// One application.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) listed: bool,
    pub(super) processes: u32,
    pub(super) resident: Bytes,
    /// The look that last saw one of its processes.
    pub(super) last_seen: u64,
    pub(super) kernel: Kernel,
    is_known: bool,
    cpu_us: u64,
    cpu_source: Source,
    /// What the kernel counted since the last whole look: the processes' own figures hold it too.
    advanced_us: u64,
    is_storage_known: bool,
    storage: Storage,
    storage_source: Source,
    storage_is_hidden: bool,
    told_storage: Option<Storage>,
    pace: Pace,
    span: Span,
    handed: Span,
}

impl Source {
    /// Decides, and says whether it was the kernel before.
    fn choose(&mut self, is_told: bool, is_new: bool, has_processes: bool) -> bool {
        let was_kernel = self.is_kernel;
        if is_told {
            self.is_kernel = was_kernel || is_new || self.was_told;
        } else if has_processes {
            self.is_kernel = false;
        }
        self.was_told = is_told;
        was_kernel
    }
}

impl Account {
    /// Takes in what a whole look found.
    pub(super) fn look(&mut self, spent: Spent, told: Told, moment: Moment) {
        let is_new = !std::mem::replace(&mut self.is_known, true);
        let was_kernel = self.cpu_source.choose(told.cpu_us.is_some(), is_new, self.processes > 0);
        let by_processes = (spent.seen_ms + spent.lump_ms).saturating_mul(1000);
        match (was_kernel, self.cpu_source.is_kernel) {
            (true, true) => self.add(told.cpu_us.unwrap_or(0)),
            (true, false) => self.add(by_processes.saturating_sub(self.advanced_us)),
            (false, _) => {
                // Of an application that is seen for the first time the kernel knows what ended before.
                let more = told.cpu_in_all_us.filter(|_| is_new && self.cpu_source.is_kernel);
                let lump = spent.lump_ms.saturating_mul(1000);
                let earlier = more.unwrap_or(0).saturating_sub(by_processes);
                self.add(spent.seen_ms.saturating_mul(1000));
                self.cpu_us = self.cpu_us.saturating_add(lump.saturating_add(earlier));
                self.pace.add_lump(lump.saturating_add(earlier), moment.lump);
            }
        }
        self.advanced_us = 0;
        self.told_storage = told.storage;
        self.note(moment);
    }

    /// Takes in what was found between two whole looks.
    pub(super) fn glance(&mut self, spent: Spent, told: Told, moment: Moment) {
        if self.cpu_source.is_kernel {
            let us = told.cpu_us.unwrap_or(0);
            self.advanced_us = self.advanced_us.saturating_add(us);
            self.add(us);
        } else {
            self.add(spent.seen_ms.saturating_mul(1000));
        }
        self.note(moment);
    }

    /// Takes in what its processes moved since the whole look before.
    pub(super) fn look_at_storage(&mut self, stored: Stored) {
        self.storage_is_hidden = stored.is_hidden;
        let is_new = !std::mem::replace(&mut self.is_storage_known, true);
        let told = self.told_storage.take();
        let was_kernel = self.storage_source.choose(told.is_some(), is_new, self.processes > 0);
        if was_kernel && self.storage_source.is_kernel {
            self.storage.add(told.unwrap_or_default());
        } else {
            self.storage.add(stored.fresh);
        }
        // Of an application that is seen for the first time the kernel knows what ended before.
        if is_new && self.storage_source.is_kernel {
            self.storage = told.unwrap_or_default().or_more(stored.fresh);
        }
    }

    /// Its use; peaks and sketches start again from here.
    pub(super) fn hand_out(&mut self) -> ApplicationUse {
        self.handed = std::mem::take(&mut self.span);
        self.span.peak_resident = self.resident;
        let is_known = self.storage_source.is_kernel || !self.storage_is_hidden;
        let is_over = self.processes == 0;
        let bytes = |count: u64| Some(Bytes(count)).filter(|_| is_known);
        ApplicationUse {
            listed: self.listed,
            processes: self.processes,
            cpu_ms: self.cpu_us / 1000,
            peak_cpu: self.handed.peak_cpu,
            resident: self.resident,
            peak_resident: self.handed.peak_resident,
            read: bytes(self.storage.read),
            written: bytes(self.storage.written),
            listening_ports: Vec::new(),
            accounting: self.accounting(),
            working_set: self.kernel.memory().map(|memory| Bytes(memory.working_set)),
            memory_high_water: self.kernel.high_water().map(Bytes),
            devices: self.kernel.devices(is_over),
            stalls: self.kernel.stalls(is_over),
            throttled_us: self.kernel.total(Counter::Throttled, is_over),
            out_of_memory_kills: self.kernel.killed(is_over),
            cpu_quantiles: self.handed.cpu.clone(),
            memory_quantiles: self.handed.memory.clone(),
        }
    }

    /// What was last handed out was lost: it goes into what is handed out next.
    pub(super) fn take_back(&mut self) {
        self.span.merge(&std::mem::take(&mut self.handed));
    }

    /// Whether its CPU is the kernel's count.
    pub(super) const fn goes_by_groups(&self) -> bool {
        self.cpu_source.is_kernel
    }

    /// Whether its bytes read and written are the kernel's count.
    pub(super) const fn stores_by_groups(&self) -> bool {
        self.storage_source.is_kernel
    }

    pub(super) const fn may_be_forgotten(&self) -> bool {
        !self.listed && self.processes == 0
    }

    const fn add(&mut self, us: u64) {
        self.cpu_us = self.cpu_us.saturating_add(us);
        self.pace.add(us);
    }

    fn accounting(&self) -> Accounting {
        match (self.cpu_source.is_kernel, self.kernel.is_whole()) {
            (true, true) => Accounting::Cgroup2,
            (true, false) => Accounting::Cgroup1,
            (false, _) => Accounting::Processes,
        }
    }

    fn note(&mut self, moment: Moment) {
        let memory = self.kernel.memory();
        let mapped = memory.map_or(Bytes(0), |memory| Bytes(memory.resident));
        self.span.peak_resident = self.span.peak_resident.max(self.resident).max(mapped);
        let Some(rate) = self.pace.take(moment.at, moment.before) else { return };
        let rate = rate.min(moment.most);
        self.span.peak_cpu = self.span.peak_cpu.max(rate);
        self.span.cpu.insert(rate.0);
        let working = memory.map_or(self.resident.0, |memory| memory.working_set);
        self.span.memory.insert(working);
    }
}
