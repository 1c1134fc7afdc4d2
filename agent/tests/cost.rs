//! What a tick and a sample cost in CPU beside so many idle processes. Prints; promises nothing.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use agent::observe::{Inputs, LinuxObserver, Observe, Rule, Rules, Settings};
use common::clock::{Clock, SystemClock};

/// Idle processes, all ended with this.
struct Idle(Vec<Child>);

impl Idle {
    fn new(count: usize) -> Self {
        let sleep = || Command::new("sleep").arg("3600").stdin(Stdio::null()).spawn().unwrap();
        Self((0..count).map(|_| sleep()).collect())
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        for child in &mut self.0 {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// CPU this thread used so far.
fn used() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

fn each(times: u32, mut call: impl FnMut()) -> Duration {
    let before = used();
    (0..times).for_each(|_| call());
    (used() - before) / times
}

#[test]
#[ignore = "prints figures; run it alone in a release build"]
#[expect(clippy::print_stdout, reason = "it is there to print")]
fn a_tick_and_a_sample_have_a_price() {
    let listed = Rule {
        application: "sleepers".parse().unwrap(),
        executable: Some("/usr/bin/sleep".to_owned()),
        unit: None,
        port: None,
    };
    for (what, rules) in [("none listed", vec![]), ("all listed", vec![listed])] {
        let inputs = Inputs { rules: Rules(rules), ..Inputs::default() };
        for count in [200, 2000] {
            let _idle = Idle::new(count);
            let mut observer = LinuxObserver::new(Settings::default());
            for _ in 0..3 {
                observer.observe(&inputs, SystemClock.now()).unwrap();
            }
            let sample = each(50, || {
                observer.observe(&inputs, SystemClock.now()).unwrap();
            });
            let tick = each(40, || {
                // A tick right after the one before is left out where it would cost too much.
                std::thread::sleep(Duration::from_millis(if count > 200 { 500 } else { 50 }));
                observer.tick(&inputs).unwrap();
            });
            println!("{what}, {count} processes: tick {tick:?}, sample {sample:?}");
        }
    }
}
