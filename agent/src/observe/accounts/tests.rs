//! What goes into an account, and what must not go in twice.

use common::clock::Timestamp;

use super::*;

const SECOND: Option<Duration> = Some(Duration::from_secs(1));
const TWO_CORES: Millicores = Millicores(2000);

fn name(text: &str) -> AppName {
    text.parse().unwrap()
}

fn key(pid: u32) -> ProcessKey {
    ProcessKey { pid, started_at: Timestamp::from_millis(u64::from(pid)) }
}

struct Guest {
    accounts: Accounts,
    names: Vec<AppName>,
    at: Duration,
}

/// pid, parent, index of the application, CPU, waited, MiB.
type Row = (u32, u32, usize, u64, u64, u64);

impl Guest {
    fn new(names: &[&str]) -> Self {
        let names = names.iter().map(|n| name(n)).collect();
        Self { accounts: Accounts::default(), names, at: Duration::ZERO }
    }

    fn look(&mut self, elapsed: Option<Duration>, rows: &[Row]) {
        let charges: Vec<_> = rows.iter().map(|row| self.charge(row)).collect();
        self.take_in(elapsed, &charges, &BTreeMap::new());
    }

    fn take_in(
        &mut self,
        elapsed: Option<Duration>,
        living: &[Charge<'_>],
        groups: &BTreeMap<AppName, Vec<Reading>>,
    ) {
        self.at += elapsed.unwrap_or_default();
        self.accounts.look(&Look { living, groups, at: self.at, most: TWO_CORES });
    }

    fn charge(&self, row: &Row) -> Charge<'static> {
        let application: &'static AppName = Box::leak(Box::new(self.names[row.2].clone()));
        Charge {
            key: key(row.0),
            parent: row.1,
            application,
            listed: false,
            cpu_ms: row.3,
            waited_ms: row.4,
            resident: Bytes::mebi(row.5),
        }
    }

    fn uses(&mut self) -> BTreeMap<AppName, ApplicationUse> {
        self.accounts.take_uses()
    }

    fn cpu(&mut self, of: &str) -> u64 {
        self.uses()[&name(of)].cpu_ms
    }
}

#[test]
fn an_ended_process_stays_counted() {
    let mut guest = Guest::new(&["job"]);
    guest.look(None, &[(10, 1, 0, 500, 0, 8)]);

    guest.look(SECOND, &[]);

    let job = &guest.uses()[&name("job")];
    assert_eq!((job.cpu_ms, job.processes, job.resident), (500, 0, Bytes(0)));
}

#[test]
fn a_number_used_again_is_another_process() {
    let mut guest = Guest::new(&["job"]);
    guest.look(None, &[(10, 1, 0, 500, 0, 8)]);
    let mut again = guest.charge(&(10, 1, 0, 20, 0, 8));
    again.key.started_at = Timestamp::from_millis(99);

    guest.take_in(SECOND, &[again], &BTreeMap::new());

    assert_eq!(guest.cpu("job"), 520);
}

#[test]
fn peaks_between_two_samples_are_kept_once() {
    let mut guest = Guest::new(&["web"]);
    guest.look(None, &[(10, 1, 0, 0, 0, 10)]);
    guest.look(SECOND, &[(10, 1, 0, 900, 0, 90)]);
    guest.look(SECOND, &[(10, 1, 0, 910, 0, 20)]);

    let first = guest.uses()[&name("web")].clone();
    guest.look(SECOND, &[(10, 1, 0, 920, 0, 20)]);
    let second = guest.uses()[&name("web")].clone();

    assert_eq!((first.peak_cpu, first.peak_resident), (Millicores(900), Bytes::mebi(90)));
    assert_eq!((first.resident, first.cpu_ms), (Bytes::mebi(20), 910));
    assert_eq!((second.peak_cpu, second.peak_resident), (Millicores(10), Bytes::mebi(20)));
}

#[test]
fn what_was_used_before_the_first_look_is_no_peak() {
    let mut guest = Guest::new(&["old"]);
    guest.look(None, &[(10, 1, 0, 1_000_000, 0, 10)]);
    let old = guest.uses()[&name("old")].clone();
    assert_eq!((old.cpu_ms, old.peak_cpu), (1_000_000, Millicores(0)));
}

#[test]
fn no_peak_is_higher_than_all_the_cores() {
    let mut guest = Guest::new(&["web"]);
    guest.look(None, &[(10, 1, 0, 0, 0, 10)]);
    guest.look(Some(Duration::from_millis(250)), &[(10, 1, 0, 1000, 0, 10)]);
    assert_eq!(guest.uses()[&name("web")].peak_cpu, TWO_CORES);
}

#[test]
fn a_child_that_no_look_saw_is_counted_through_its_parent() {
    let mut guest = Guest::new(&["shell"]);
    guest.look(None, &[(10, 1, 0, 100, 0, 8)]);

    guest.look(SECOND, &[(10, 1, 0, 100, 300, 8)]);
    guest.look(SECOND, &[(10, 1, 0, 100, 300, 8)]);

    assert_eq!(guest.cpu("shell"), 400);
    assert_eq!(guest.accounts.busy_ms(), 400);
}

#[test]
fn a_child_that_was_seen_is_not_counted_again_through_its_parent() {
    // The three orders in which a look can meet the child's end and the parent's wait.
    let parent_first = [
        vec![(10, 1, 0, 100, 0, 8), (11, 10, 0, 700, 0, 8)],
        vec![(10, 1, 0, 100, 0, 8)],
        vec![(10, 1, 0, 100, 700, 8)],
    ];
    let together = [
        vec![(10, 1, 0, 100, 0, 8), (11, 10, 0, 700, 0, 8)],
        vec![(10, 1, 0, 100, 700, 8)],
        vec![(10, 1, 0, 100, 700, 8)],
    ];
    let child_first = [
        vec![(10, 1, 0, 100, 0, 8), (11, 10, 0, 700, 0, 8)],
        vec![(10, 1, 0, 100, 700, 8), (11, 10, 0, 700, 0, 8)],
        vec![(10, 1, 0, 100, 700, 8)],
    ];
    for looks in [parent_first, together, child_first] {
        let mut guest = Guest::new(&["shell"]);
        guest.look(None, &looks[0]);
        guest.look(SECOND, &looks[1]);
        for _ in 0..4 {
            guest.look(SECOND, &looks[2]);
        }
        assert_eq!(guest.cpu("shell"), 800, "{looks:?}");
    }
}

#[test]
fn the_last_slice_of_an_ended_child_is_its_own_applications() {
    let mut guest = Guest::new(&["agent", "report"]);
    guest.look(None, &[(10, 1, 0, 100, 0, 8), (11, 10, 1, 700, 0, 8)]);

    guest.look(SECOND, &[(10, 1, 0, 100, 740, 8)]);
    guest.look(SECOND, &[(10, 1, 0, 100, 740, 8)]);

    assert_eq!(guest.cpu("report"), 740);
    assert_eq!(guest.cpu("agent"), 100);
}

#[test]
fn the_last_slice_is_the_childs_that_used_most_of_those_that_ended_together() {
    let mut guest = Guest::new(&["agent", "report", "list"]);
    guest.look(None, &[(10, 1, 0, 0, 0, 8), (11, 10, 1, 700, 0, 8), (12, 10, 2, 10, 0, 8)]);

    for _ in 0..3 {
        guest.look(SECOND, &[(10, 1, 0, 0, 750, 8)]);
    }

    assert_eq!((guest.cpu("report"), guest.cpu("list"), guest.cpu("agent")), (740, 10, 0));
}

#[test]
fn a_whole_tree_that_ends_at_once_is_counted_once() {
    // 11 is the child of 10, 12 of 11. The first process of the guest waits for the orphan.
    let mut guest = Guest::new(&["init", "agent", "report"]);
    let before =
        [(1, 0, 0, 5, 0, 1), (10, 1, 1, 50, 0, 8), (11, 10, 2, 400, 0, 8), (12, 11, 2, 300, 0, 8)];
    guest.look(None, &before);

    for _ in 0..4 {
        guest.look(SECOND, &[(1, 0, 0, 5, 300, 1), (10, 1, 1, 50, 400, 8)]);
    }

    assert_eq!(guest.cpu("report"), 700);
    assert_eq!((guest.cpu("init"), guest.cpu("agent")), (5, 50));
    assert_eq!(guest.accounts.busy_ms(), 755);
}

#[test]
fn totals_do_not_move_when_a_process_is_named_anew() {
    let mut guest = Guest::new(&["python3", "report"]);
    guest.look(None, &[(10, 1, 0, 400, 0, 8)]);

    guest.look(SECOND, &[(10, 1, 1, 450, 0, 8)]);

    assert_eq!((guest.cpu("python3"), guest.cpu("report")), (400, 50));
}

#[test]
fn storage_of_an_ended_child_is_not_counted_again_through_its_parent() {
    let mut guest = Guest::new(&["shell"]);
    let moved = |read| Some(Storage { read, written: 0 });
    guest.look(None, &[(10, 1, 0, 0, 0, 8), (11, 10, 0, 0, 0, 8)]);
    guest.accounts.look_at_storage(&[(key(10), moved(100)), (key(11), moved(4000))]);

    guest.look(SECOND, &[(10, 1, 0, 0, 0, 8)]);
    guest.accounts.look_at_storage(&[(key(10), moved(4150))]);

    assert_eq!(guest.uses()[&name("shell")].read, Some(Bytes(4150)));
    assert_eq!(guest.accounts.storage().read, 4150);
}

#[test]
fn storage_that_may_not_be_read_is_unknown_and_not_zero() {
    let mut guest = Guest::new(&["shell"]);
    guest.look(None, &[(10, 1, 0, 0, 0, 8)]);
    guest.accounts.look_at_storage(&[(key(10), None)]);
    let shell = guest.uses()[&name("shell")].clone();
    assert_eq!((shell.read, shell.written), (None, None));
}

#[test]
fn names_of_what_ran_once_do_not_pile_up() {
    let names: Vec<String> = (0..MAX_APPLICATIONS + 10).map(|i| format!("once-{i}")).collect();
    let mut guest = Guest::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for index in 0..names.len() {
        let pid = u32::try_from(index).unwrap() + 10;
        guest.look(SECOND, &[(pid, 1, index, 10, 0, 1)]);
    }
    let uses = guest.uses();
    assert_eq!(uses.len(), MAX_APPLICATIONS);
    assert!(!uses.contains_key(&name("once-0")));
}

fn in_groups(of: &str, path: &str, identity: u64, cpu_us: u64) -> BTreeMap<AppName, Vec<Reading>> {
    use crate::observe::seen::{Counter, Group, GroupUse, Tree};
    let group = Group { tree: Tree::Whole, path: path.to_owned() };
    let counters = [(Counter::Cpu, cpu_us)].into();
    let seen = GroupUse { identity, counters, ..GroupUse::default() };
    let reading = Reading { group, origin: groups::Origin::New, seen };
    [(name(of), vec![reading])].into()
}

impl Guest {
    fn look_with(&mut self, rows: &[Row], groups: &BTreeMap<AppName, Vec<Reading>>) {
        let charges: Vec<_> = rows.iter().map(|row| self.charge(row)).collect();
        self.take_in(SECOND, &charges, groups);
    }

    fn glance(&mut self, rows: &[Row], groups: &BTreeMap<AppName, Vec<Reading>>) {
        let living: Vec<_> = rows.iter().map(|row| self.charge(row)).collect();
        self.at += Duration::from_secs(1);
        let look = Look { living: &living, groups, at: self.at, most: TWO_CORES };
        self.accounts.glance(&look);
    }
}

#[test]
fn the_kernels_count_is_taken_with_what_ended_before() {
    let mut guest = Guest::new(&["web"]);
    guest.look_with(&[(10, 1, 0, 400, 0, 8)], &in_groups("web", "/web", 1, 900_000));
    let web = guest.uses()[&name("web")].clone();
    assert_eq!((web.cpu_ms, web.peak_cpu), (900, Millicores(0)));
    assert_eq!(web.accounting, common::sample::Accounting::Cgroup2);

    guest.look_with(&[(10, 1, 0, 410, 0, 8)], &in_groups("web", "/web", 1, 1_400_000));
    let web = guest.uses()[&name("web")].clone();
    assert_eq!((web.cpu_ms, web.peak_cpu), (1400, Millicores(500)));
}

#[test]
fn the_total_goes_on_without_a_step_when_the_source_changes() {
    let mut guest = Guest::new(&["web"]);
    let nothing = BTreeMap::new();
    guest.look_with(&[(10, 1, 0, 400, 0, 8)], &nothing);
    // The kernel's count is there, with a past that is another's figure; at the second time it is taken.
    guest.look_with(&[(10, 1, 0, 500, 0, 8)], &in_groups("web", "/web", 1, 9_000_000));
    assert_eq!(guest.cpu("web"), 500);
    guest.look_with(&[(10, 1, 0, 600, 0, 8)], &in_groups("web", "/web", 1, 9_100_000));
    assert_eq!(guest.cpu("web"), 600);
    guest.look_with(&[(10, 1, 0, 700, 0, 8)], &in_groups("web", "/web", 1, 9_250_000));
    assert_eq!(guest.cpu("web"), 750);

    // Between two looks the group went on; then it is shared, and the processes' own figures follow.
    guest.glance(&[], &in_groups("web", "/web", 1, 9_300_000));
    assert_eq!(guest.cpu("web"), 800);
    guest.look_with(&[(10, 1, 0, 830, 0, 8)], &nothing);
    assert_eq!(guest.cpu("web"), 880);
    guest.look_with(&[(10, 1, 0, 840, 0, 8)], &nothing);
    assert_eq!(guest.cpu("web"), 890);
}

#[test]
fn a_restart_of_the_unit_neither_changes_the_source_nor_steps() {
    let mut guest = Guest::new(&["web"]);
    guest.look_with(&[(10, 1, 0, 400, 0, 8)], &in_groups("web", "/web", 1, 400_000));
    guest.look_with(&[], &BTreeMap::new());
    let stopped = guest.uses()[&name("web")].clone();
    assert_eq!(stopped.accounting, common::sample::Accounting::Cgroup2);

    guest.look_with(&[(20, 1, 0, 50, 0, 8)], &in_groups("web", "/web", 2, 70_000));

    assert_eq!(guest.cpu("web"), 470);
}

#[test]
fn sketches_hold_every_tick_and_start_again_with_each_sample() {
    let mut guest = Guest::new(&["web"]);
    guest.look(None, &[(10, 1, 0, 0, 0, 10)]);
    for tick in 1..=9 {
        guest.glance(&[(10, 1, 0, tick * 100, 0, 10)], &BTreeMap::new());
    }
    guest.look(SECOND, &[(10, 1, 0, 1800, 0, 10)]);

    let first = guest.uses()[&name("web")].clone();
    let second = guest.uses()[&name("web")].clone();

    assert_eq!((first.cpu_quantiles.count(), first.memory_quantiles.count()), (10, 10));
    let median = first.cpu_quantiles.quantile(0.5).unwrap();
    assert!(median.abs_diff(100) <= 2, "{median}");
    assert_eq!(first.peak_cpu, Millicores(900));
    assert!(second.cpu_quantiles.is_empty() && second.memory_quantiles.is_empty());
}

#[test]
fn what_got_lost_is_in_the_next_one() {
    let mut guest = Guest::new(&["web"]);
    guest.look(None, &[(10, 1, 0, 0, 0, 10)]);
    guest.look(SECOND, &[(10, 1, 0, 900, 0, 90)]);
    guest.uses();

    guest.accounts.take_back();
    guest.look(SECOND, &[(10, 1, 0, 910, 0, 20)]);
    let web = guest.uses()[&name("web")].clone();

    assert_eq!((web.peak_cpu, web.peak_resident), (Millicores(900), Bytes::mebi(90)));
    assert_eq!(web.cpu_quantiles.count(), 2);
    assert_eq!(guest.uses()[&name("web")].peak_cpu, Millicores(0));
}

#[test]
fn too_short_a_time_makes_no_rate_and_nothing_of_it_is_lost() {
    let mut guest = Guest::new(&["web"]);
    guest.look(None, &[(10, 1, 0, 0, 0, 10)]);
    guest.look(Some(Duration::from_millis(990)), &[(10, 1, 0, 0, 0, 10)]);
    guest.look(Some(Duration::from_millis(10)), &[(10, 1, 0, 10, 0, 10)]);
    guest.look(Some(Duration::from_millis(990)), &[(10, 1, 0, 20, 0, 10)]);

    let web = guest.uses()[&name("web")].clone();

    assert_eq!((web.peak_cpu, web.cpu_quantiles.count()), (Millicores(20), 2));
}

#[test]
fn a_glance_between_two_looks_counts_nothing_twice() {
    let mut guest = Guest::new(&["shell"]);
    guest.look(None, &[(10, 1, 0, 100, 0, 8), (11, 10, 0, 700, 0, 8)]);
    // The child ends after the glance, and the parent waits for it.
    guest.glance(&[(10, 1, 0, 120, 0, 8), (11, 10, 0, 750, 0, 8)], &BTreeMap::new());
    for _ in 0..4 {
        guest.look(SECOND, &[(10, 1, 0, 120, 760, 8)]);
    }
    assert_eq!(guest.cpu("shell"), 880);
    assert_eq!(guest.accounts.busy_ms(), 880);
}
