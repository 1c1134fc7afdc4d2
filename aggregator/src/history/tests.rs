//! What windows leave behind.

use common::{sketch::Sketch, units::Millicores};

use super::*;
use crate::{
    hypervisor::Allocation,
    join::{JoinedMachine, Outcome, Party, Record, Traffic, Use, Used},
};

const LENGTH: u64 = 300;

pub(super) fn limits() -> Limits {
    Limits {
        window: Duration::from_secs(LENGTH),
        cycle: Duration::from_secs(7 * 86_400),
        edges: 100,
    }
}

fn vm(name: &str) -> VmId {
    name.parse().unwrap()
}

fn name(name: &str) -> AppName {
    name.parse().unwrap()
}

pub(super) fn key(port: u16) -> EdgeKey {
    let party = |vm_name: &str| Party::Machine { vm: vm(vm_name), application: None };
    EdgeKey { client: party("web"), server: party("store"), port }
}

pub(super) fn traffic(opened: u64, exchanges: Option<u64>, watched: u64) -> Traffic {
    Traffic { opened, exchanges, watched: Duration::from_secs(watched), ..Traffic::default() }
}

fn used(cpu: u64, memory_mib: u64) -> Used {
    Used {
        seen: 1,
        cpu_mean: Some(Millicores(cpu)),
        cpu_peak: Millicores(cpu),
        memory_peak: Bytes::mebi(memory_mib),
        ..Used::default()
    }
}

/// Window number `number` with two machines, watched throughout.
pub(super) fn window(number: u64) -> Joined {
    let from = Timestamp::from_millis(number * LENGTH * 1_000);
    let machine = JoinedMachine {
        has_agent: true,
        coverage: 1.0,
        guest: Use { watched: Duration::from_secs(LENGTH), ..Use::default() },
        ..JoinedMachine::default()
    };
    Joined {
        window: format!("w-{number}").parse().unwrap(),
        from,
        to: from + Duration::from_secs(LENGTH),
        sampled_every: Duration::from_secs(1),
        machines: [(vm("web"), machine.clone()), (vm("store"), machine)].into(),
        edges: BTreeMap::new(),
        records: Vec::new(),
        remarks: Vec::new(),
    }
}

pub(super) fn with(number: u64, port: u16, traffic: Traffic) -> Joined {
    Joined { edges: [(key(port), traffic)].into(), ..window(number) }
}

pub(super) fn of(windows: &[Joined]) -> History {
    let mut history = History::new(limits());
    windows.iter().for_each(|window| history.take(window));
    history
}

/// Connections and exchanges by slot.
fn counts(history: &History, resolution: Resolution) -> Vec<Option<(u64, Option<u64>)>> {
    let slots = history.edge(&key(1)).unwrap().slots(resolution);
    slots.map(|slot| slot.map(|counts| (counts.connections, counts.exchanges))).collect()
}

#[test]
fn a_quiet_slot_is_nought_and_one_that_nobody_watched_is_not_known() {
    let mut unwatched = window(1_003);
    for machine in unwatched.machines.values_mut() {
        machine.guest.watched = Duration::ZERO;
    }
    let history = of(&[
        window(1_000),
        with(1_001, 1, traffic(7, Some(90), LENGTH)),
        window(1_002),
        unwatched,
        window(1_004),
    ]);

    let quiet = Some((0, Some(0)));
    let seen = Some((7, Some(90)));
    assert_eq!(counts(&history, Resolution::Window), [quiet, seen, quiet, None, quiet]);
    let edge = history.edge(&key(1)).unwrap();
    let hour: Vec<Counts> = edge.slots(Resolution::Hour).flatten().collect();
    assert_eq!(hour.iter().map(|hour| hour.watched).sum::<Duration>().as_secs(), 4 * LENGTH);
    assert_eq!(edge.first_seen(), window(1_001).from);
    assert_eq!(edge.last_seen(), window(1_001).to);
}

#[test]
fn exchanges_that_nobody_counted_are_not_nought() {
    let history = of(&[with(1_000, 1, traffic(7, None, LENGTH)), window(1_001)]);
    assert_eq!(counts(&history, Resolution::Window), [Some((7, None)), Some((0, None))]);
}

#[test]
fn the_hour_and_the_day_under_way_add_up_exactly() {
    // 12 windows are the hour that begins at number 996.
    let windows: Vec<Joined> = (996..1_008)
        .map(|number| with(number, 1, traffic(100_001, Some(1_000_003), LENGTH)))
        .collect();
    let history = of(&windows);
    let sum = Some((12 * 100_001, Some(12 * 1_000_003)));
    assert_eq!(counts(&history, Resolution::Hour), [sum]);
    assert_eq!(counts(&history, Resolution::Day), [sum]);
}

#[test]
fn the_same_window_twice_changes_nothing() {
    let first = [with(1_000, 1, traffic(7, Some(90), LENGTH)), window(1_001)];
    let once = of(&first);
    let mut twice = once.clone();
    first.iter().for_each(|window| twice.take(window));
    assert_eq!(once, twice);
}

#[test]
fn a_late_window_goes_where_it_belongs() {
    let all: Vec<Joined> =
        (1_000..1_020).map(|n| with(n, 1, traffic(n - 990, Some(n - 995), LENGTH))).collect();
    let in_order = of(&all);
    let mut late = all.clone();
    let first = late.remove(0);
    let other = late.remove(7);
    late.extend([other, first]);
    let late = of(&late);
    for resolution in [Resolution::Window, Resolution::Hour, Resolution::Day] {
        assert_eq!(counts(&late, resolution), counts(&in_order, resolution));
    }
    let ids = |history: &History| history.windows().map(|w| w.window.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&late), ids(&in_order));
}

#[test]
fn a_window_older_than_all_that_are_remembered_is_counted_and_left_out() {
    let windows: Vec<Joined> = (1_000..1_400).map(window).collect();
    let mut history = of(&windows);
    let before = history.clone();
    history.take(&with(900, 1, traffic(7, None, LENGTH)));
    assert_eq!(history.left_out().late_windows, 1);
    assert!(history.edge(&key(1)).is_none());
    assert_eq!(history.windows().count(), before.windows().count());
}

/// Two months of a busy edge whose every figure is told.
#[test]
fn an_edge_takes_two_kibibytes_at_most() {
    let mut history = History::new(limits());
    let per_day = 86_400 / LENGTH;
    for number in 0..61 * per_day {
        let mut busy = traffic(1_000 + number % 977, Some(123_456 + number), LENGTH);
        let from = number * LENGTH * 1_000;
        busy.starts = (0..256).map(|n| Timestamp::from_millis(from + n * 1_000)).collect();
        history.take(&with(number, 1, busy));
    }
    let edge = history.edge(&key(1)).unwrap();
    assert_eq!(edge.slots(Resolution::Window).flatten().count(), WINDOWS);
    assert_eq!(edge.slots(Resolution::Hour).flatten().count(), HOURS);
    assert_eq!(edge.slots(Resolution::Day).flatten().count(), DAYS);
    assert_eq!(edge.starts().count(), 128);
    assert!(edge.room() <= 2_048, "{} bytes", edge.room());
}

#[test]
fn an_edge_seen_once_takes_little() {
    let history = of(&[with(1_000, 1, traffic(1, None, LENGTH))]);
    let room = history.edge(&key(1)).unwrap().room();
    assert!(room <= 320, "{room} bytes");
}

#[test]
fn edges_beyond_the_limit_are_counted_and_left_out() {
    let mut history = History::new(Limits { edges: 3, ..limits() });
    let edges = (1..=5).map(|port| (key(port), traffic(1, None, LENGTH))).collect();
    history.take(&Joined { edges, ..window(1_000) });
    assert_eq!(history.edges().count(), 3);
    assert_eq!(history.left_out().edges, 2);
}

#[test]
fn what_was_not_seen_for_a_cycle_is_forgotten_but_not_the_memory_that_was_too_little() {
    let mut first = with(1_000, 1, traffic(7, None, LENGTH));
    let store = first.machines.get_mut(&vm("store")).unwrap();
    store.out_of_memory = Some(1);
    store.allocation = Allocation { memory: Some(Bytes::mebi(512)), ..Allocation::default() };
    store.applications.insert(name("db"), used(100, 300));
    let mut history = of(&[first]);
    assert!(history.application(&vm("store"), &name("db")).is_some());

    history.take(&window(1_000 + 8 * 288));

    assert!(history.application(&vm("store"), &name("db")).is_none());
    history.take(&window(1_000 + 230 * 288));
    assert!(history.edge(&key(1)).is_none());
    let floor = |app: Option<&AppName>| history.memory_floor(&vm("store"), app).unwrap().memory;
    assert_eq!(floor(None), Bytes::mebi(512));
    assert_eq!(floor(Some(&name("db"))), Bytes::mebi(300));
}

#[test]
fn another_length_of_windows_keeps_the_hours_and_days() {
    let mut history = of(&[with(1_000, 1, traffic(7, Some(8), LENGTH))]);
    history.set_limits(Limits { window: Duration::from_secs(60), ..limits() });
    let edge = history.edge(&key(1)).unwrap();
    assert_eq!(edge.slots(Resolution::Window).count(), 0);
    assert_eq!(counts(&history, Resolution::Hour), [Some((7, Some(8)))]);
}

#[test]
fn demand_is_known_by_the_hour_of_the_day() {
    let windows = (0..288 * 3).map(|number| {
        let mut joined = window(number);
        // By night it needs 2 cores, by day a tenth of one.
        let cpu = if (number % 288) < 72 { 2_000 } else { 100 };
        let mut night = used(cpu, 64);
        (0..30).for_each(|_| night.cpu_quantiles.insert(cpu));
        joined.machines.get_mut(&vm("web")).unwrap().applications.insert(name("batch"), night);
        joined
    });
    let history = of(&windows.collect::<Vec<_>>());
    let application = history.application(&vm("web"), &name("batch")).unwrap();
    assert_eq!(application.demand().hours_known(), 24);
    for (hour, demand) in application.demand().hours().iter().enumerate() {
        let exact = if hour < 6 { 2_000.0 } else { 100.0 };
        let told = demand.cpu(0.95).unwrap().0 as f64;
        assert!((told - exact).abs() <= exact / 50.0, "hour {hour}: {told}");
        assert!(demand.memory(0.99).is_some());
    }
    let mut expected = Sketch::default();
    expected.insert(Bytes::mebi(64).0);
    let memory = application.demand().hours()[3].memory(0.99);
    assert_eq!(memory.map(|memory| memory.0), expected.quantile(0.99));
    let last = application.windows(limits().window).last().unwrap().unwrap();
    assert_eq!((last.cpu_mean, last.memory_peak), (Some(Millicores(100)), Bytes::mebi(64)));
}

#[test]
fn operations_are_summed_by_kind_and_the_week_apart_from_all_time() {
    let record = |outcome, count| Record {
        key: "w/1".into(),
        vm: vm("store"),
        application: Some(name("db")),
        operation: "write".into(),
        target: "vda".into(),
        size_class: Some(12),
        outcome,
        count,
        bytes: Some(count * 4_096),
        source: "agent".into(),
    };
    let windows = (0..10).map(|day| {
        let mut joined = window(day * 288);
        let store = joined.machines.get_mut(&vm("store")).unwrap();
        store.applications.insert(name("db"), used(100, 300));
        joined.records = vec![record(Outcome::Ok, 10), record(Outcome::Failed, 1)];
        joined
    });
    let history = of(&windows.collect::<Vec<_>>());
    let db = history.application(&vm("store"), &name("db")).unwrap();
    let all: Vec<_> =
        db.operations().map(|(key, sum)| (key.outcome, sum.count, sum.bytes)).collect();
    assert_eq!(all, [(Outcome::Ok, 100, 409_600), (Outcome::Failed, 10, 40_960)]);
    let last = window(9 * 288);
    let week = db.week((last.from, last.to));
    assert_eq!(week.kinds.iter().map(|(_, sum)| sum.count).collect::<Vec<_>>(), [70, 7]);
    assert_eq!(week.over.as_secs(), 6 * 86_400 + LENGTH);
    assert_eq!(db.kinds_left_out(), 0);
}

#[test]
fn a_kind_that_was_not_seen_of_late_is_summed_over_the_same_days_as_the_others() {
    let record = |operation: &str| Record {
        key: "w/1".into(),
        vm: vm("store"),
        application: Some(name("db")),
        operation: operation.into(),
        target: "vda".into(),
        size_class: None,
        outcome: Outcome::Ok,
        count: 1,
        bytes: None,
        source: "agent".into(),
    };
    let windows = (0..12).map(|day| {
        let mut joined = window(day * 288);
        let store = joined.machines.get_mut(&vm("store")).unwrap();
        store.applications.insert(name("db"), used(100, 300));
        joined.records = vec![record("read")];
        if day < 8 {
            joined.records.push(record("write"));
        }
        joined
    });
    let windows: Vec<_> = windows.collect();
    let history = of(&windows);
    let db = history.application(&vm("store"), &name("db")).unwrap();
    let sums = |last: &Joined| -> Vec<u64> {
        let week = db.week((last.from, last.to));
        week.kinds.iter().map(|(_, sum)| sum.count).collect()
    };
    // Of the days 5 to 11, writes are on 5, 6 and 7.
    assert_eq!(sums(&windows[11]), [7, 3]);
    assert_eq!(sums(&window(30 * 288)), [0, 0]);
    let young = of(&windows[..2]);
    let young = young.application(&vm("store"), &name("db")).unwrap();
    let over = young.week((windows[1].from, windows[1].to)).over;
    assert_eq!(over.as_secs(), 86_400 + LENGTH, "no longer than it is known");
}

#[test]
fn both_sides_and_their_differences_are_remembered() {
    let mut joined = window(1_000);
    let web = joined.machines.get_mut(&vm("web")).unwrap();
    let cpu =
        |cpu| Use { cpu_mean: Some(Millicores(cpu)), cpu_peak: Some(Millicores(cpu)), ..web.guest };
    (web.guest, web.outside) = (cpu(150), cpu(200));
    let history = of(&[joined]);
    let web = history.machine(&vm("web")).unwrap();
    let told: Vec<_> = web.differences().map(|differ| (differ.cpu, differ.memory)).collect();
    assert_eq!(told, [(Some(-0.25), None)]);
    let hour = usize::try_from(1_000 * LENGTH / 3_600 % 24).unwrap();
    assert_eq!(web.hour(hour).outside.cpu_peak, Some(Millicores(200)));
    assert_eq!(web.hour((hour + 1) % 24).outside.windows, 0);
}
