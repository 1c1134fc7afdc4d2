//! All that is Linux of observing: the readers of /proc, /sys and netlink, and the observer that puts them
//! together. Another platform is another module beside this one; what its readers give is in `seen`.

use std::{collections::BTreeMap, sync::Arc};

use common::{
    clock::Timestamp,
    id::AppName,
    sample::{ApplicationUse, Observation, Software},
};

mod conntrack;
mod counters;
mod devices;
mod extent;
mod facts;
mod groups;
mod mounts;
mod network;
mod openings;
mod processes;
mod run_level;
mod sockets;
mod software;
mod stack;
mod talk;
mod usage;

pub use extent::{Extent, ExtentSource, LIMITS_FILE};
pub use facts::Places;

use counters::Asked;
use facts::{FactsReader, Remarks};
use processes::Units;
use software::SoftwareReader;
use talk::Talk;
use usage::{Reach, Usage};

use super::{Inputs, Measure, Observe, ObserveError, Settings, population::Population};

/// Looks at a Linux guest.
#[derive(Debug)]
pub struct LinuxObserver {
    units: Units,
    extent: ExtentSource,
    cores: Option<u32>,
    population: Population,
    usage: Usage,
    talk: Talk,
    facts: FactsReader,
    software: SoftwareReader,
    tells_arguments: bool,
    ticks: u32,
    /// Processes that the last pass left out because there are too many.
    left_out: usize,
}

impl LinuxObserver {
    /// An observer that has seen nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let units = Units::read();
        Self {
            units,
            extent: settings.extent,
            cores: processes::kernel().cores,
            population: Population::default(),
            usage: Usage::new(),
            talk: Talk::new(settings.scope.openings, units),
            facts: FactsReader::new(settings.places, units.booted_at()),
            tells_arguments: settings.scope.arguments,
            software: SoftwareReader::new(settings.scope, "/".into()),
            ticks: 0,
            left_out: 0,
        }
    }

    /// Reads the process table.
    fn pass(&mut self) -> Result<(), ObserveError> {
        let table = processes::table(self.units).map_err(ObserveError::Processes)?;
        let tells_arguments = self.tells_arguments;
        let traits = |pid| processes::traits(pid, tells_arguments);
        self.population.update(table.processes, traits);
        self.left_out = table.left_out;
        Ok(())
    }

    fn applications(&mut self) -> BTreeMap<AppName, ApplicationUse> {
        let mut uses = self.usage.take();
        for (application, ports) in self.population.ports() {
            if let Some(usage) = uses.get_mut(&application) {
                usage.listening_ports = ports.into_iter().collect();
            }
        }
        uses
    }

    fn remark_on_processes(&self, remarks: &mut Remarks) {
        let beyond = self.left_out;
        let mut text = "kernel threads".to_owned();
        if beyond > 0 {
            text = format!("{text}, and {beyond} processes beyond {}", processes::MAX_PROCESSES);
        }
        remarks.other.insert("processes_left_out".to_owned(), text);
    }
}

impl Observe for LinuxObserver {
    fn observe(&mut self, inputs: &Inputs, now: Timestamp) -> Result<Observation, ObserveError> {
        self.talk.want_openings(!inputs.thrift.has(Measure::NoOpenings));
        self.talk.hear(&self.population, &inputs.rules);
        self.pass()?;
        // Cores come and go while a machine runs.
        let kernel = processes::kernel();
        self.cores = kernel.cores;
        let mut remarks = Remarks::of_services(&inputs.services);
        let talked = self.talk.look(&mut self.population, inputs, &mut remarks, now);
        let (extent, trouble) = self.extent.read();
        let scope = Reach {
            is_shared: extent != Extent::Kernel,
            is_detailed: !inputs.thrift.has(Measure::NoDetail),
        };
        self.usage.look(&mut self.population, scope, self.cores);
        self.remark_on_processes(&mut remarks);
        if let Some(trouble) = trouble {
            remarks.other.insert("limits_not_read".to_owned(), trouble);
        }
        remarks.other.extend(match extent {
            Extent::Kernel => self.software.remarks(),
            Extent::Processes { .. } => SoftwareReader::remarks_of_a_guest_on_a_shared_kernel(),
        });
        let own = processes::own(self.units);
        let applications = self.applications();
        let (protocols, sums) = (talked.protocols, self.usage.sums());
        let asked = Asked { kernel, protocols, sums, own: own.as_ref() };
        Ok(Observation {
            connections: talked.connections,
            flows: talked.flows,
            coverage: Some(talked.coverage),
            processes: inputs
                .thrift
                .rows(self.population.rows(|key| self.usage.moved(key)), &applications),
            services: inputs.services.with(&inputs.supervised),
            applications,
            counters: counters::read(extent, asked),
            facts: self.facts.read(extent, remarks, now),
            mix: inputs.mix.clone(),
            ..Observation::default()
        })
    }

    fn tick(&mut self, inputs: &Inputs) -> Result<(), ObserveError> {
        self.talk.want_openings(!inputs.thrift.has(Measure::NoOpenings));
        self.talk.hear(&self.population, &inputs.rules);
        self.ticks = self.ticks.wrapping_add(1);
        if inputs.thrift.takes_tick(self.ticks) {
            self.usage.glance(&mut self.population, self.units, self.cores);
        }
        Ok(())
    }

    fn software(&mut self, now: Timestamp) -> Option<Arc<Software>> {
        match self.extent.read().0 {
            Extent::Kernel => self.software.look(now),
            // Its file system is that of the host, whose software is not this machine's.
            Extent::Processes { .. } => None,
        }
    }

    fn lost(&mut self) {
        self.usage.take_back();
    }
}
