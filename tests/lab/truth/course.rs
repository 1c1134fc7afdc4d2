//! The course that tests and figures run: who serves, who calls whom and how, and how it is watched.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use common::sample::Protocol;

use super::{
    compare::{Addresses, Said, Score, True, from_flows, from_rows, score, truth},
    group::Group,
    look::{Order, Report},
    machines::{Machine, NOBODY, Network},
    processes::{Actor, Stage, Watch},
    script::{Calling, Ending, Script, Serving, Spawning, Storing, Told},
};
use crate::figure::Failure;

/// One who watches every machine.
#[derive(Debug, Clone, Copy)]
pub struct Watching {
    /// Its name among the others of a run.
    pub name: &'static str,
    /// Time between two looks.
    pub every: Duration,
    /// Plain pollers look at the same moments.
    pub pollers: bool,
    /// A command before the looking process's own.
    pub wrapper: &'static [&'static str],
    /// It gets no CPU while the course runs.
    pub starved: bool,
}

impl Watching {
    /// A look every so many seconds, with all rights.
    #[must_use]
    pub const fn every(name: &'static str, seconds: u64) -> Self {
        Self {
            name,
            every: Duration::from_secs(seconds),
            pollers: false,
            wrapper: &[],
            starved: false,
        }
    }

    /// With plain pollers beside it.
    #[must_use]
    pub const fn with_pollers(self) -> Self {
        Self { pollers: true, ..self }
    }

    /// Without the right to be told of sockets that end.
    #[must_use]
    pub const fn without_net_admin(self) -> Self {
        Self { wrapper: &["setpriv", "--bounding-set", "-net_admin"], ..self }
    }

    /// Without any CPU while the course runs.
    #[must_use]
    pub const fn starved(self) -> Self {
        Self { starved: true, ..self }
    }

    /// Without the right to look into what other processes hold.
    #[must_use]
    pub const fn without_ptrace(self) -> Self {
        Self { wrapper: &["setpriv", "--bounding-set", "-sys_ptrace"], ..self }
    }
}

/// One application on one machine.
#[derive(Debug, Clone)]
pub struct Part {
    /// The machine.
    pub machine: &'static str,
    /// Its name.
    pub application: &'static str,
    /// What it does.
    pub script: Script,
}

/// A run that is over.
#[derive(Debug)]
pub struct Run {
    /// What was true.
    pub truth: True,
    /// What the processes told, where something went otherwise than it should.
    pub troubles: Vec<String>,
    /// What every watch saw, by machine.
    pub reports: BTreeMap<&'static str, BTreeMap<String, Report>>,
    addresses: Addresses,
}

impl Run {
    /// What the agents of that watch say.
    #[must_use]
    pub fn said(&self, watch: &str) -> Said {
        self.reports.get(watch).map(|all| from_flows(all, &self.addresses)).unwrap_or_default()
    }

    /// How good what the agents of that watch say is.
    #[must_use]
    pub fn score(&self, watch: &str) -> Score {
        score(&self.truth, &self.said(watch))
    }

    /// How good what a plain poller saw beside that watch is.
    #[must_use]
    pub fn score_of_poller(&self, watch: &str, poller: &str) -> Score {
        let Some(reports) = self.reports.get(watch) else { return Score::default() };
        let tables = reports
            .iter()
            .map(|(machine, report)| {
                (machine.clone(), report.polled.get(poller).cloned().unwrap_or_default())
            })
            .collect();
        score(&self.truth, &from_rows(&tables, &self.addresses))
    }
}

/// Runs `parts` on `network` while all of `watches` look; `lab` is the program `sinter-lab`.
///
/// # Errors
///
/// If a process does not come up or does not tell.
pub fn run(
    lab: &Path,
    network: &Network,
    parts: Vec<Part>,
    watches: &[Watching],
) -> Result<Run, Failure> {
    let folder = tempfile::Builder::new().prefix("sinter-truth-").tempdir()?;
    let stage = Stage::new(lab, folder.path());
    let mut actors = Vec::new();
    for part in parts {
        let namespace = Some(network.machine(part.machine).namespace.clone());
        let mut script = Script { namespace, ..part.script };
        if let Some(storing) = &mut script.stores {
            storing.file = folder.path().join(&storing.file);
        }
        actors.push(stage.actor(part.machine, part.application, script)?);
    }
    let watching = watch(&stage, network, watches)?;
    let starved = || watching.iter().filter(|(watching, ..)| watching.starved);
    starved().try_for_each(|(_, _, watch)| watch.stop())?;
    actors.iter_mut().try_for_each(Actor::go)?;
    actors.iter_mut().try_for_each(Actor::done)?;
    starved().try_for_each(|(_, _, watch)| watch.go_on())?;
    let mut reports: BTreeMap<&'static str, BTreeMap<String, Report>> = BTreeMap::new();
    for (watching, machine, watch) in watching {
        reports.entry(watching.name).or_default().insert(machine, watch.report()?);
    }
    let told = actors.into_iter().map(Actor::told).collect::<Result<Vec<Told>, Failure>>()?;
    let addresses = addresses(network);
    let troubles = |one: &Told| {
        let name = one.application.clone();
        one.done.troubles.clone().into_iter().map(move |text| format!("{name}: {text}"))
    };
    let troubles = told.iter().flat_map(troubles).collect();
    Ok(Run { truth: truth(&told, &addresses), troubles, reports, addresses })
}

type Watched = (Watching, String, Watch);

fn watch(stage: &Stage, network: &Network, all: &[Watching]) -> Result<Vec<Watched>, Failure> {
    let mut watching = Vec::new();
    for one in all {
        for machine in &network.machines {
            let order = Order {
                namespace: machine.namespace.clone(),
                every_ms: u64::try_from(one.every.as_millis()).unwrap_or(u64::MAX),
                pollers: one.pollers,
            };
            let name = format!("look-{}-{}", one.name, machine.name);
            let watch = stage.looker(&name, &order, one.wrapper)?;
            watching.push((*one, machine.name.clone(), watch));
        }
    }
    Ok(watching)
}

fn addresses(network: &Network) -> Addresses {
    let of = |machine: &Machine| {
        let name = machine.name.clone();
        [(IpAddr::V4(machine.v4), name.clone()), (IpAddr::V6(machine.v6), name)]
    };
    Addresses(network.machines.iter().flat_map(of).collect())
}

/// Programs that live for one connection of a millisecond: as many of each of two services, which call the
/// same server by programs of the same name.
#[must_use]
pub fn short_lived(
    network: &Network,
    services: [(&'static str, &Group); 2],
    times: u32,
) -> Vec<Part> {
    let server = network.machine("back").at(5432);
    let serves = vec![tcp(everywhere(5432))];
    let database = Script { serves, ..Script::default() };
    let mut parts = vec![Part { machine: "back", application: "database", script: database }];
    for (application, group) in services {
        let call = Calling::short(server, 1, 0);
        let spawning = Spawning { program: "fetch".to_owned(), call, times, gap_ms: 20 };
        let group = Some(group.folder().to_owned());
        let script = Script { group, spawns: vec![spawning], ..Script::default() };
        parts.push(Part { machine: "front", application, script });
    }
    parts
}

/// The machines of [`everything`].
pub const MACHINES: [&str; 3] = ["front", "middle", "back"];

fn everywhere(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)
}

fn tcp(listen: SocketAddr) -> Serving {
    Serving { protocol: Protocol::Tcp, listen }
}

/// Every kind of connection, over about so many seconds: a millisecond long and all along, pooled,
/// failed, reset, UDP, either family and mapped, closed by either side; and operations on a disk.
#[must_use]
pub fn everything(network: &Network, seconds: u32) -> Vec<Part> {
    let (middle, back) = (network.machine("middle"), network.machine("back"));
    let own = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6379);
    let part = |machine, application, serves: Vec<Serving>, calls: Vec<Calling>| Part {
        machine,
        application,
        script: Script { serves, calls, ..Script::default() },
    };
    let storing = Storing { file: "database.file".into(), writes: 100, reads: 400 };
    let mut database = part("back", "database", vec![tcp(everywhere(5432))], Vec::new());
    database.script.stores = Some(storing);
    let udp = Serving { protocol: Protocol::Udp, ..tcp(everywhere(5300)) };
    vec![
        database,
        part("back", "queue", vec![tcp(everywhere(5672))], Vec::new()),
        part("back", "resolver", vec![udp], Vec::new()),
        part("middle", "cache", vec![tcp(everywhere(6379))], Vec::new()),
        part(
            "middle",
            "api",
            vec![tcp(everywhere(8080))],
            vec![
                Calling::pooled(back.at(5432), seconds * 20, 50),
                Calling::short(back.at_v6(5432), seconds * 5, 200),
                Calling::short(own, seconds * 10, 100),
            ],
        ),
        part(
            "front",
            "web",
            Vec::new(),
            vec![
                Calling::short(middle.at(8080), seconds * 20, 50),
                Calling::pooled(middle.at(8080), seconds * 10, 100).ending(Ending::Stays),
                Calling::short(back.at(5672), seconds * 10, 100).ending(Ending::ServerFirst),
            ],
        ),
        part(
            "front",
            "crawler",
            Vec::new(),
            vec![
                Calling::short(middle.at(8080), seconds * 10, 100),
                Calling::short(middle.at(9), seconds, 1_000),
            ],
        ),
        part(
            "front",
            "mailer",
            Vec::new(),
            vec![
                Calling::short(middle.at(6379), seconds * 5, 200).ending(Ending::Reset),
                Calling::short(SocketAddr::new(IpAddr::V4(NOBODY), 80), seconds / 2, 1_000),
                Calling::short(back.at(5300), seconds * 2, 500).over_udp(),
                Calling::pooled(back.at(5300), seconds * 10, 100).over_udp(),
            ],
        ),
        part(
            "front",
            "probe",
            Vec::new(),
            vec![
                Calling::short(back.at_mapped(5432), seconds * 5, 200),
                Calling::short(back.at_v6(5672), seconds * 5, 200).ending(Ending::ServerFirst),
            ],
        ),
    ]
}
