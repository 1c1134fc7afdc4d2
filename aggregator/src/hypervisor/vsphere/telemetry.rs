//! Running totals of machines, added up from vSphere's samples of twenty seconds.
//!
//! vSphere tells rates and sums over each sample and keeps an hour of them, and no totals since a
//! machine was started. A total here begins with the first look at a machine; each look asks for the
//! samples since the last one it has. Where samples are missing in between, a total is not known at
//! that look and goes on from there.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use common::{
    clock::{Clock as _, SystemClock, Timestamp},
    id::VmId,
    task::Chain,
    units::Bytes,
};
use futures::{StreamExt as _, future::join_all, stream};
use jiff::Timestamp as Moment;
use tokio::sync::Mutex;
use tracing::warn;
use vsphere_soap::{Client, Error, Moref, PerfQuery, Series};

use super::{VsphereHypervisor, site::Site};
use crate::hypervisor::{HypervisorError, Telemetry, sites};

/// Machines asked about in one call.
const BATCH: usize = 100;
/// Calls under way at once.
const AT_ONCE: usize = 4;
/// The catalogue of counters changes with a centre's version alone.
const CATALOGUE_PERIOD: Duration = Duration::from_secs(3_600);

/// What a figure's samples say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// So many in the whole sample.
    Sum,
    /// So many in each second.
    PerSecond,
    /// So many kilobytes in each second.
    KbPerSecond,
    /// Kilobytes at that moment.
    KbNow,
}

/// A figure: its counters, the better one first, which instances of it, and what they say.
struct Figure {
    counters: [&'static str; 2],
    instance: &'static str,
    unit: Unit,
}

const fn figure(counters: [&'static str; 2], instance: &'static str, unit: Unit) -> Figure {
    Figure { counters, instance, unit }
}

/// In the order of [`totals`]. Disks are counted each, whence `*`; the others as one.
const FIGURES: [Figure; 9] = [
    figure(["cpu.used.summation", "cpu.run.summation"], "", Unit::Sum),
    figure(["mem.active.average", "mem.active.average"], "", Unit::KbNow),
    figure(["net.received.average", "net.bytesRx.average"], "", Unit::KbPerSecond),
    figure(["net.transmitted.average", "net.bytesTx.average"], "", Unit::KbPerSecond),
    figure(["virtualDisk.read.average", "datastore.read.average"], "*", Unit::KbPerSecond),
    figure(["virtualDisk.write.average", "datastore.write.average"], "*", Unit::KbPerSecond),
    figure(
        ["virtualDisk.numberReadAveraged.average", "datastore.numberReadAveraged.average"],
        "*",
        Unit::PerSecond,
    ),
    figure(
        ["virtualDisk.numberWriteAveraged.average", "datastore.numberWriteAveraged.average"],
        "*",
        Unit::PerSecond,
    ),
    figure(["disk.commandsAborted.summation", "disk.commandsAborted.summation"], "*", Unit::Sum),
];

/// Numbers of the figures' counters at one centre; `None` of one that it does not know.
type Counters = [Option<i32>; FIGURES.len()];

/// What was added up so far.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The counters, and since when.
    counters: Option<(tokio::time::Instant, Counters)>,
    machines: BTreeMap<Moref, Account>,
}

/// One machine's.
#[derive(Debug, Clone, Default)]
struct Account {
    /// The last sample that was taken in, by vSphere's clock.
    last: Option<Moment>,
    /// When that was, by our clock.
    taken_at: Timestamp,
    /// In units of the figure, in thousandths, so that what a short sample says is not lost.
    thousandths: [Option<u128>; FIGURES.len()],
}

impl VsphereHypervisor {
    pub(super) async fn totals(&self) -> Result<BTreeMap<VmId, Telemetry>, HypervisorError> {
        let asked = self.sites.iter().map(|site| async move {
            site.totals().await.inspect_err(|error| {
                let cause = Chain(error).to_string();
                warn!(centre = site.name, cause, "centre told no totals");
            })
        });
        sites::totals(join_all(asked).await)
    }
}

impl Site {
    async fn totals(&self) -> Result<Vec<(VmId, Telemetry)>, HypervisorError> {
        self.refresh().await?;
        let running: BTreeMap<Moref, VmId> = {
            let known = self.known.lock().await;
            let machines = known.iter().flat_map(|known| &known.machines);
            let running = machines.filter(|(_, machine)| machine.is_on && !machine.is_template);
            running.filter_map(|(of, machine)| Some((of.clone(), machine.uuid.clone()?))).collect()
        };
        let (client, ledger) = (Arc::clone(&self.client), Arc::clone(&self.ledger));
        Ok(self.to_its_end(look(client, ledger, running)).await??)
    }
}

async fn look(
    client: Arc<Client>,
    ledger: Arc<Mutex<Ledger>>,
    running: BTreeMap<Moref, VmId>,
) -> Result<Vec<(VmId, Telemetry)>, Error> {
    let mut ledger = ledger.lock().await;
    let counters = ledger.counters(&client).await?;
    let ours = SystemClock.now();
    let clocks = Clocks { ours, theirs: client.now().await? };
    ledger.machines.retain(|of, _| running.contains_key(of));
    let told = samples(&client, &ledger, &running, &counters).await?;
    let mut totals = Vec::with_capacity(told.len());
    for (of, series) in told {
        let Some(vm) = running.get(&of) else { continue };
        let account = ledger.machines.entry(of).or_default();
        totals.extend(account.take(&series, &counters, &clocks).map(|told| (vm.clone(), told)));
    }
    Ok(totals)
}

/// What was sampled since the last look; of some machines, where others' could not be had.
async fn samples(
    client: &Arc<Client>,
    ledger: &Ledger,
    running: &BTreeMap<Moref, VmId>,
    counters: &Counters,
) -> Result<Vec<(Moref, Series)>, Error> {
    let metrics = counters.iter().zip(&FIGURES);
    let metrics: Vec<(i32, &'static str)> =
        metrics.filter_map(|(id, figure)| Some(((*id)?, figure.instance))).collect();
    let last = |of: &Moref| ledger.machines.get(of).and_then(|account| account.last);
    let machines: Vec<&Moref> = running.keys().collect();
    let mut batches = Vec::new();
    for batch in machines.chunks(BATCH) {
        let queries = batch.iter().map(|of| PerfQuery { of: (*of).clone(), after: last(of) });
        batches.push(ask(Arc::clone(client), queries.collect(), metrics.clone()));
    }
    let answers = stream::iter(batches).buffer_unordered(AT_ONCE).collect::<Vec<_>>();
    let (mut told, mut failed) = (Vec::new(), None);
    for answer in answers.await {
        match answer {
            Ok(series) => told.extend(series),
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) if told.is_empty() => Err(error),
        _ => Ok(told),
    }
}

async fn ask(
    client: Arc<Client>,
    queries: Vec<PerfQuery>,
    metrics: Vec<(i32, &'static str)>,
) -> Result<Vec<(Moref, Series)>, Error> {
    client.samples(&queries, &metrics).await
}

/// The same moment by two clocks.
struct Clocks {
    ours: Timestamp,
    theirs: Moment,
}

impl Clocks {
    /// A moment of vSphere's by our clock.
    fn to_ours(&self, moment: Moment) -> Timestamp {
        let behind = self.theirs.duration_since(moment).as_millis();
        let ours = i128::from(self.ours.as_millis()).saturating_sub(behind);
        Timestamp::from_millis(u64::try_from(ours).unwrap_or(0))
    }
}

impl Ledger {
    /// The counters, from the centre's catalogue.
    async fn counters(&mut self, client: &Client) -> Result<Counters, Error> {
        if let Some((at, counters)) = self.counters
            && at.elapsed() < CATALOGUE_PERIOD
        {
            return Ok(counters);
        }
        let catalogue = client.counters().await?;
        let known: BTreeMap<&str, i32> =
            catalogue.iter().map(|counter| (counter.name.as_str(), counter.id)).collect();
        let counters =
            FIGURES.map(|figure| figure.counters.iter().find_map(|name| known.get(name).copied()));
        self.counters = Some((tokio::time::Instant::now(), counters));
        Ok(counters)
    }
}

impl Account {
    /// Takes new samples in; what is known then. `None` before the first.
    fn take(&mut self, series: &Series, counters: &Counters, clocks: &Clocks) -> Option<Telemetry> {
        // In no order, and those that were taken in already may be told again.
        let mut new: Vec<usize> = (0..series.at.len())
            .filter(|at| self.last.is_none_or(|last| series.at[*at].0 > last))
            .collect();
        new.sort_by_key(|at| series.at[*at].0);
        let mut active = None;
        let mut has_gap = [false; FIGURES.len()];
        for at in new {
            let (moment, seconds) = series.at[at];
            let span = Span::of(self.last, moment, seconds);
            for (number, figure) in FIGURES.iter().enumerate() {
                let value = counters[number].and_then(|id| sum(series, id, at));
                if figure.unit == Unit::KbNow {
                    active = value;
                } else {
                    has_gap[number] |= !self.add(number, value, &span);
                }
            }
            self.last = Some(moment);
            // By the clocks of now, once: told again a moment later, it would be a span without any use.
            self.taken_at = clocks.to_ours(moment);
        }
        self.last?;
        let taken_at = self.taken_at;
        let known = |number: usize| self.thousandths[number].filter(|_| !has_gap[number]);
        Some(totals(taken_at, active, known))
    }

    /// Adds what a sample says of a figure; whether its total is known over that time.
    fn add(&mut self, number: usize, value: Option<u64>, span: &Span) -> bool {
        let Some(value) = value else { return false };
        if self.last.is_none() {
            // The first sample begins the count.
            self.thousandths[number] = Some(0);
            return true;
        }
        let more = FIGURES[number].unit.thousandths(value, span);
        let total = self.thousandths[number].unwrap_or(0);
        self.thousandths[number] = Some(total.saturating_add(more));
        span.is_next
    }
}

/// The time that a sample tells of.
struct Span {
    /// How much of it is new, in milliseconds.
    over: u128,
    /// All of it.
    whole: u128,
    /// Whether it follows the last one: one that is a whole sample late lacks its forerunner.
    is_next: bool,
}

impl Span {
    fn of(last: Option<Moment>, moment: Moment, seconds: u32) -> Self {
        let whole = i128::from(seconds) * 1_000;
        let since = last.map_or(0, |last| moment.duration_since(last).as_millis());
        Self {
            over: since.clamp(0, whole).unsigned_abs(),
            whole: whole.unsigned_abs(),
            is_next: since < whole * 2,
        }
    }
}

impl Unit {
    /// How far a total goes in what is new of a sample.
    fn thousandths(self, value: u64, span: &Span) -> u128 {
        let value = u128::from(value);
        match self {
            Self::Sum => value * 1_000 * span.over / span.whole.max(1),
            Self::PerSecond => value * span.over,
            Self::KbPerSecond => value * 1_024 * span.over,
            Self::KbNow => 0,
        }
    }
}

/// What all instances of a counter say of one moment; `None` if one of them says nothing.
fn sum(series: &Series, counter: i32, at: usize) -> Option<u64> {
    let mut instances = series.values.range((counter, String::new())..(counter + 1, String::new()));
    let first = (*instances.next()?.1.get(at)?)?;
    instances.try_fold(first, |sum, (_, values)| sum.checked_add((*values.get(at)?)?))
}

fn totals(
    taken_at: Timestamp,
    active_kb: Option<u64>,
    known: impl Fn(usize) -> Option<u128>,
) -> Telemetry {
    let count = |number| known(number).and_then(|total| u64::try_from(total / 1_000).ok());
    let bytes = |number| count(number).map(Bytes);
    Telemetry {
        taken_at,
        cpu_ms: count(0),
        // What the guest touched lately: the page cache that nobody reads is not in it.
        memory_used: active_kb.map(|kb| Bytes(kb.saturating_mul(1_024))),
        received: bytes(2),
        sent: bytes(3),
        read: bytes(4),
        written: bytes(5),
        read_operations: count(6),
        write_operations: count(7),
        failed_operations: count(8),
        // Only the guest knows.
        out_of_memory: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: i32 = 1;
    const WRITTEN: i32 = 6;

    fn counters() -> Counters {
        let mut counters = [None; FIGURES.len()];
        (counters[0], counters[5]) = (Some(CPU), Some(WRITTEN));
        counters
    }

    fn at(second: i64) -> Moment {
        Moment::from_second(1_000_000 + second).unwrap()
    }

    fn clocks() -> Clocks {
        Clocks { ours: Timestamp::from_millis(5_000_000), theirs: at(100) }
    }

    /// A moment, its CPU, and what each disk wrote.
    type Sample = (i64, u64, Option<u64>);

    /// Samples of so many milliseconds of CPU and, on two disks, kilobytes a second.
    fn series(samples: &[Sample]) -> Series {
        let column = |of: fn(&Sample) -> Option<u64>| samples.iter().map(of).collect();
        Series {
            at: samples.iter().map(|(second, ..)| (at(*second), 20)).collect(),
            values: BTreeMap::from([
                ((CPU, String::new()), column(|(_, cpu, _)| Some(*cpu))),
                ((WRITTEN, "scsi0:0".to_owned()), column(|(.., kb)| *kb)),
                ((WRITTEN, "scsi0:1".to_owned()), column(|(.., kb)| *kb)),
            ]),
        }
    }

    #[test]
    fn samples_add_up_in_whatever_order_they_come_and_none_counts_twice() {
        let mut account = Account::default();
        let mut take =
            |samples: &[Sample]| account.take(&series(samples), &counters(), &clocks()).unwrap();
        assert_eq!(take(&[(0, 500, Some(1))]).cpu_ms, Some(0), "the first begins the count");

        let told = take(&[(40, 300, Some(3)), (20, 1_000, Some(2)), (0, 500, Some(1))]);

        assert_eq!(told.cpu_ms, Some(1_300));
        assert_eq!(told.written, Some(Bytes(2 * (3 + 2) * 20 * 1_024)));
        assert_eq!(told.taken_at, Timestamp::from_millis(5_000_000 - 60_000));
        assert_eq!((told.received, told.read_operations), (None, None));
        assert_eq!(take(&[(40, 300, Some(3))]).cpu_ms, Some(1_300));
    }

    #[test]
    fn where_samples_are_missing_a_total_is_not_known_and_goes_on_from_there() {
        let mut account = Account::default();
        let mut take =
            |samples: &[Sample]| account.take(&series(samples), &counters(), &clocks()).unwrap();
        take(&[(0, 500, Some(1))]);
        assert_eq!(take(&[(60, 100, Some(1))]).cpu_ms, None);
        let told = take(&[(80, 100, None)]);
        assert_eq!((told.cpu_ms, told.written), (Some(200), None));
        assert!(take(&[(100, 100, Some(1))]).written.is_some());
    }

    #[test]
    fn a_sample_that_overlaps_counts_for_what_is_new_of_it() {
        let mut account = Account::default();
        account.take(&series(&[(0, 0, Some(0))]), &counters(), &clocks());
        let told = account.take(&series(&[(5, 1_000, Some(0))]), &counters(), &clocks());
        assert_eq!(told.unwrap().cpu_ms, Some(250));
    }
}
