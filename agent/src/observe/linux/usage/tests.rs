//! What the parts of a look cost. Prints; promises nothing.

use std::process::{Child, Command};

use super::*;
use crate::observe::{naming::Rules, population::Population};

struct Idle(Vec<Child>);

impl Drop for Idle {
    fn drop(&mut self) {
        for child in &mut self.0 {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn used() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

/// CPU of each call, the fastest of some turns: the machine has other work.
#[expect(clippy::print_stdout, reason = "it is there to print")]
fn price(what: &str, mut call: impl FnMut()) {
    let mut best = Duration::MAX;
    for _ in 0..8 {
        let before = used();
        (0..10).for_each(|_| call());
        best = best.min((used() - before) / 10);
    }
    println!("{what}: {best:?}");
}

#[test]
#[ignore = "prints figures; run it alone in a release build"]
#[expect(clippy::print_stdout, reason = "it is there to print")]
fn the_parts_of_a_look_have_a_price() {
    for count in [200, 2000] {
        println!("{count} processes");
        let start = || Command::new("sleep").arg("3600").spawn().unwrap();
        let _idle = Idle((0..count).map(|_| start()).collect());
        let units = Units::read();
        let mut population = Population::default();
        let mut usage = Usage::new();
        let reach = Reach { is_shared: false, is_detailed: true };
        for _ in 0..3 {
            population.update(processes::table(units).unwrap().processes, |pid| {
                processes::traits(pid, false)
            });
            population.name(&Rules::default(), &[]);
            usage.look(&mut population, reach, Some(2));
        }
        price("procfs: all processes, one stat each", || {
            let all = procfs::process::all_processes().unwrap().flatten();
            assert!(all.filter_map(|process| process.stat().ok()).count() > count);
        });
        price("table", || assert!(processes::table(units).unwrap().processes.len() > count));
        let table = processes::table(units).unwrap().processes;
        price("population: update", || {
            population.update(table.clone(), |pid| processes::traits(pid, false));
        });
        price("population: name", || population.name(&Rules::default(), &[]));
        price("look", || usage.look(&mut population, reach, Some(2)));
        price("rows", || drop(population.rows(|key| usage.moved(key))));
        price("take", || drop(usage.take()));
        price("glance with nothing listed", || {
            usage.glanced = None;
            usage.glance(&mut population, units, Some(2));
        });
    }
}
