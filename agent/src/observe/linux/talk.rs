//! All of a look that is about sockets: reads them and what was told of them, finds who holds them, and lets
//! the shared reasoning make the table, the flows and their coverage.

use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc};

use ahash::HashMap;
use common::{
    clock::Timestamp,
    id::AppName,
    sample::{Connection, ConnectionKey, Coverage, Flow, FlowKey, ProtocolCounters},
};

use super::{
    conntrack,
    facts::Remarks,
    groups::Groups,
    processes::{self, Units},
    sockets::{self, Reader, Setup},
};
use crate::observe::{
    Inputs,
    connections::{self, Connections, Group, Look},
    holders::{Holders, Wanted},
    naming::{self, Rules},
    population::Population,
    seen::{Kin, Opening, Row, Seen, SocketReader, Sockets, Standing, Told, Traits},
};

/// Most processes named between two passes because they opened a connection.
const MAX_STRANGERS: usize = 8192;

/// Most of them for which /proc is read.
const MAX_READ: usize = 256;

/// Who talks to whom, as this machine sees it.
#[derive(Debug)]
pub(super) struct Talk {
    units: Units,
    sockets: Box<dyn SocketReader>,
    groups: Groups,
    holders: Holders,
    connections: Connections,
    /// Processes that came after the last pass and opened a connection since; `None` of those gone.
    strangers: HashMap<u32, Option<AppName>>,
    /// How many of them were read from /proc.
    read: usize,
}

/// What one look saw of it.
#[derive(Debug)]
pub(super) struct Talked {
    pub(super) connections: BTreeMap<ConnectionKey, Connection>,
    pub(super) flows: BTreeMap<FlowKey, Flow>,
    pub(super) coverage: Coverage,
    pub(super) protocols: Option<ProtocolCounters>,
}

impl Talk {
    /// Of the calling thread's network namespace. Nothing is seen yet, but from now on ends are told,
    /// and `openings` if they are wanted.
    pub(super) fn new(openings: bool, units: Units) -> Self {
        Self {
            units,
            sockets: Box::new(Reader::new(&Setup::new(openings))),
            groups: Groups::new(),
            holders: Holders::default(),
            connections: Connections::default(),
            strangers: HashMap::default(),
            read: 0,
        }
    }

    /// Whether openings are to be told from now on.
    pub(super) fn want_openings(&mut self, wanted: bool) {
        self.sockets.want_openings(wanted);
    }

    /// Fetches what was told, before it is too much to be kept, and while those told of are known that ended
    /// since the last pass over the processes.
    pub(super) fn hear(&mut self, population: &Population, rules: &Rules) {
        let told = self.sockets.told();
        if told == Told::default() {
            return;
        }
        self.meet(&told, population, rules);
        let name_of = named(&self.strangers, population);
        self.connections.hear(told, &name_of);
    }

    /// Names the processes that came after the last pass and opened a connection.
    fn meet(&mut self, told: &Told, population: &Population, rules: &Rules) {
        for Opening { pid, name, .. } in &told.openings {
            let is_new = !self.strangers.contains_key(pid) && self.strangers.len() < MAX_STRANGERS;
            if is_new && population.application_of(*pid).is_none() {
                let named = self.stranger(*pid, population, rules);
                let kin = told.kin.get(pid).filter(|_| named.is_none());
                let named = named.or_else(|| self.of_kin(kin?, name, population, rules));
                self.strangers.insert(*pid, named);
            }
        }
    }

    /// The application of a process that came after the last pass, if it lived until all was read.
    fn stranger(&mut self, pid: u32, population: &Population, rules: &Rules) -> Option<AppName> {
        if self.read >= MAX_READ {
            return None;
        }
        let seen = processes::one(self.units, pid)?;
        self.read += 1;
        Some(population.stranger(&seen, &processes::traits(pid, false)?, rules))
    }

    /// The application of a process that is gone, as far as its ancestor says it.
    fn of_kin(
        &mut self,
        kin: &Kin,
        name: &str,
        population: &Population,
        rules: &Rules,
    ) -> Option<AppName> {
        let known = population.known(kin.ancestor);
        // A copy that did not become another program is what it is a copy of, its ports included.
        if kin.standing == Standing::Inherited && known.is_some_and(|(seen, _)| seen.name == name) {
            return population.application_of(kin.ancestor).cloned();
        }
        let known = known.map(|(seen, traits)| {
            // Of the same tree as its ancestor, as if that were its parent.
            (Seen { parent: kin.ancestor, ..seen.clone() }, traits.clone())
        });
        let (ancestor, traits) = known.or_else(|| {
            let room = self.read < MAX_READ;
            let seen = processes::one(self.units, kin.ancestor).filter(|_| room)?;
            self.read += 1;
            Some((seen, processes::traits(kin.ancestor, false)?))
        })?;
        // One that goes by the same name most likely runs the same file.
        let executable = traits.executable.filter(|_| ancestor.name == name);
        let unit = match &kin.standing {
            Standing::Inherited => traits.unit,
            Standing::In(unit) => Some(unit.clone()),
            Standing::Nowhere | Standing::Unknown => None,
        };
        let seen = Seen { name: name.to_owned(), ..ancestor };
        Some(population.stranger(&seen, &Traits { executable, unit, ..Traits::default() }, rules))
    }

    /// Reads the sockets, names the processes by what they listen on, and makes the table.
    pub(super) fn look(
        &mut self,
        population: &mut Population,
        inputs: &Inputs,
        remarks: &mut Remarks,
        now: Timestamp,
    ) -> Talked {
        self.hear(population, &inputs.rules);
        self.strangers.clear();
        self.read = 0;
        let sockets = self.sockets.read();
        let after = self.sockets.told();
        self.meet(&after, population, &inputs.rules);
        remark(&sockets, remarks);
        let ephemeral = sockets::ephemeral_ports();
        let units = self.units(&sockets.rows);
        population.name(&inputs.rules, &inputs.supervised);
        let by_unit = groups(&units, population, &inputs.rules);
        self.hold(&sockets.rows, &by_unit, population, &ephemeral);
        population.listen(connections::listening(&sockets.rows, &self.holders, &ephemeral));
        population.name(&inputs.rules, &inputs.supervised);
        let look = Look {
            rows: &sockets.rows,
            holders: &self.holders,
            applications: &population.applications(),
            groups: &groups(&units, population, &inputs.rules),
            ephemeral,
            ends_are_told: sockets.ends_are_told,
            now,
        };
        let name_of = named(&self.strangers, population);
        let mut connections = self.connections.look(&look, after, &name_of);
        conntrack::translate(&mut connections);
        Talked {
            connections,
            flows: self.connections.flows(now),
            coverage: self.connections.coverage(&sockets),
            protocols: sockets.protocols,
        }
    }

    /// Finds the holders of the sockets that need one: listeners, by whose ports processes are named, and
    /// those whose unit does not name their application.
    fn hold(
        &mut self,
        rows: &[Row],
        groups: &HashMap<u64, Group>,
        population: &Population,
        ephemeral: &RangeInclusive<u16>,
    ) {
        let group_of = |row: &Row| row.cgroup.and_then(|id| groups.get(&id));
        let is_named = |row: &Row| group_of(row).is_some_and(|group| group.application.is_some());
        let held = rows.iter().filter(|row| row.inode != 0);
        let wanted: Vec<Wanted<'_>> = held
            .filter(|row| row.listens(ephemeral) || !is_named(row))
            .map(|row| Wanted {
                inode: row.inode,
                user: row.user,
                unit: group_of(row).map(|group| group.name.as_str()),
                listens: row.listens(ephemeral),
            })
            .collect();
        self.holders.update(&wanted, &population.candidates(), processes::sockets_of);
    }

    /// The names of the control groups that made the sockets.
    fn units(&mut self, rows: &[Row]) -> HashMap<u64, Arc<str>> {
        let mut units = HashMap::default();
        let mut last = None;
        for row in rows {
            if row.cgroup == last {
                continue;
            }
            last = row.cgroup;
            if let Some(id) = row.cgroup
                && let Some(unit) = self.groups.unit(id)
            {
                units.insert(id, unit);
            }
        }
        units
    }
}

/// Names a process by the last pass, or as it was met since.
fn named(
    strangers: &HashMap<u32, Option<AppName>>,
    population: &Population,
) -> impl Fn(u32) -> Option<AppName> {
    move |pid| {
        let known = population.application_of(pid);
        known.or_else(|| strangers.get(&pid)?.as_ref()).cloned()
    }
}

/// The control groups with their applications.
fn groups(
    units: &HashMap<u64, Arc<str>>,
    population: &Population,
    rules: &Rules,
) -> HashMap<u64, Group> {
    let of_units = population.units();
    let groups = units.iter().map(|(id, unit)| {
        let application = application_of(unit, &of_units, rules);
        (*id, Group { name: unit.to_string(), application })
    });
    groups.collect()
}

/// The application of a unit: that of its processes. A service that has none any more goes by its name.
fn application_of(
    unit: &str,
    of_units: &HashMap<&str, Option<&AppName>>,
    rules: &Rules,
) -> Option<AppName> {
    match of_units.get(unit) {
        Some(application) => application.cloned(),
        None => unit.ends_with(".service").then(|| naming::by_unit(rules, unit)),
    }
}

fn remark(sockets: &Sockets, remarks: &mut Remarks) {
    sockets.source.clone_into(&mut remarks.connections);
    if sockets.left_out > 0 {
        let text = format!("{} rows beyond {}", sockets.left_out, sockets::MAX_ROWS);
        remarks.other.insert("connections_left_out".to_owned(), text);
    }
}
