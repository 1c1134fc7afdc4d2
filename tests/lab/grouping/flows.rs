//! The flow log of a made-up fleet: busy machines with several services each, half of whose edges are
//! pools that stay open, and jobs that call services of their own accord.

use std::collections::{BTreeMap, BTreeSet};

use algorithms::packing::Random;

use super::Pairs;

/// How a dependency shows. One that left no trace, for nobody called who depends and nothing stays open, is in
/// no log, and no method is held to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trace {
    /// By short flows.
    Short,
    /// By requests on a pool.
    Pool,
    /// By a pool that is held open, over which nothing was asked.
    QuietPool,
}

impl Trace {
    pub(super) const ALL: [(Self, &'static str); 3] = [
        (Self::Short, "short flows"),
        (Self::Pool, "pools that are asked"),
        (Self::QuietPool, "pools that nothing was asked over"),
    ];
}

const MACHINES: usize = 20;
const SERVICES: usize = 4;
/// Length of the log, in seconds.
pub(super) const LENGTH: f64 = 600.0;
/// Requests from outside to each entry service, per second.
const REQUESTS: f64 = 2.0;
/// Share of edges that are pools.
const POOLED: f64 = 0.5;
/// Share of short flows whose process nobody caught.
const UNATTRIBUTED: f64 = 0.02;

/// A service: its machine and its place on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Service {
    pub(super) machine: usize,
    pub(super) port: u16,
}

/// What each service calls when it is called.
type Calls = BTreeMap<Service, Vec<Service>>;

/// One flow, as it goes over the wire.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flow {
    pub(super) begin: f64,
    pub(super) end: f64,
    /// The machine that opened it; `None` from outside.
    pub(super) from: Option<usize>,
    pub(super) to: Service,
    /// The process that opened it, if it was caught: a service's port, or 0 for a job.
    pub(super) process: Option<u16>,
}

/// All flows, requests on pools by whom and to whom, and what is true.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) flows: Vec<Flow>,
    /// When each pool carried a request, by who opened it.
    pub(super) exchanges: BTreeMap<(Service, Service), Vec<f64>>,
    /// Who depends on whom, by how that shows.
    pub(super) truth: BTreeMap<(Service, Service), Trace>,
    /// Dependencies that left no trace.
    pub(super) untraced: usize,
}

impl Log {
    /// The log of a seed.
    pub(super) fn of(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let calls = calls(&mut random);
        let meant: Pairs =
            calls.iter().flat_map(|(from, to)| to.iter().map(|to| (*from, *to))).collect();
        let pooled: Pairs = meant.iter().copied().filter(|_| random.share() < POOLED).collect();
        let quiet = pooled.iter().map(|edge| (*edge, Trace::QuietPool)).collect();
        let mut log =
            Self { flows: Vec::new(), exchanges: BTreeMap::new(), truth: quiet, untraced: 0 };
        for (from, to) in &pooled {
            log.flows.push(Flow {
                begin: 0.0,
                end: LENGTH,
                from: Some(from.machine),
                to: *to,
                process: Some(from.port),
            });
        }
        for entry in calls.keys().filter(|service| service.port == 8000) {
            let mut at = gap(&mut random, REQUESTS);
            while at < LENGTH {
                log.request(&mut random, (&calls, &pooled), None, (*entry, at));
                at += gap(&mut random, REQUESTS);
            }
        }
        log.untraced = meant.len() - log.truth.len();
        log.jobs(&mut random, &calls);
        log.flows.sort_by(|a, b| a.begin.total_cmp(&b.begin));
        log
    }

    /// One request to a service, and what it calls in turn; says when it was answered.
    fn request(
        &mut self,
        random: &mut Random,
        (calls, pooled): (&Calls, &Pairs),
        from: Option<Service>,
        (to, begin): (Service, f64),
    ) -> f64 {
        let mut at = begin + 0.001 + 0.004 * random.share();
        for next in calls.get(&to).into_iter().flatten() {
            // Now and then the answer is in a cache.
            if random.share() < 0.8 {
                at = self.request(random, (calls, pooled), Some(to), (*next, at));
            }
            at += 0.001 * random.share();
        }
        let end = at + 0.001;
        if let Some(edge) = from.map(|from| (from, to)).filter(|edge| pooled.contains(edge)) {
            self.exchanges.entry(edge).or_default().push(begin);
            self.truth.insert(edge, Trace::Pool);
            return end;
        }
        if let Some(from) = from {
            self.truth.insert((from, to), Trace::Short);
        }
        let caught = random.share() >= UNATTRIBUTED;
        let process = from.filter(|_| caught).map(|from| from.port);
        self.flows.push(Flow { begin, end, from: from.map(|from| from.machine), to, process });
        end
    }

    /// A job on every machine, which calls a service of another one.
    fn jobs(&mut self, random: &mut Random, calls: &Calls) {
        let services: Vec<Service> = calls.keys().copied().collect();
        for machine in 0..MACHINES {
            let to = services[random.below(services.len())];
            if to.machine == machine {
                continue;
            }
            let mut begin = gap(random, 1.0);
            while begin < LENGTH {
                let process = Some(0).filter(|_| random.share() >= UNATTRIBUTED);
                let end = begin + 0.005;
                self.flows.push(Flow { begin, end, from: Some(machine), to, process });
                begin += gap(random, 1.0);
            }
        }
    }
}

/// Who calls whom: those with a low port those with a higher one, on other machines.
fn calls(random: &mut Random) -> Calls {
    let mut calls = BTreeMap::new();
    for machine in 0..MACHINES {
        for place in 0..SERVICES {
            let port = 8000 + u16::try_from(place).unwrap_or(0);
            let mut to = BTreeSet::new();
            if place + 1 < SERVICES {
                for _ in 0..1 + random.below(2) {
                    let other = (machine + 1 + random.below(MACHINES - 1)) % MACHINES;
                    to.insert(Service { machine: other, port: port + 1 });
                }
            }
            calls.insert(Service { machine, port }, to.into_iter().collect());
        }
    }
    calls
}

fn gap(random: &mut Random, rate: f64) -> f64 {
    -(1.0 - random.share()).ln() / rate
}
