//! The closed loop on real virtual machines: QEMU guests with systemd, nginx and redis of Debian, the
//! shipped agent in each, and the shipped aggregator over libvirt. A plan moves a unit from one guest
//! to another; first it goes bad after its promotion and everything is as it was, then it stays, and
//! a guest is given less.
//!
//! It takes a folder of vmlab scripts and tells its story as `dev` does:
//! `SINTER_VMLAB=/path/to/vmlab VMLAB_STATE=/var/cache/vmlab cargo test -p sinter-lab --test kvm_loop
//! -- --ignored --nocapture`

mod real;

use std::{
    collections::BTreeSet,
    env,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use aggregator::hypervisor::{Machine, Power};
use lab::{demonstration::left_out, vmlab::lacking};
use real::{
    FAULT, Farm, PATIENCE, aggregator::Aggregator, state, state::State, story::Story, until,
};
use serde_json::Value;

/// Windows that an emulated guest fills, thresholds that it can hold. What a guest says of its CPU and
/// what its emulator takes differ by far more than a real machine's would.
const POLICY: [&str; 17] = [
    "window_seconds=20",
    "sample_period_ms=3000",
    "windows_needed=2",
    "coverage_minimum=0.5",
    "headroom=0.15",
    "housekeeping_cpu_share=0.2",
    "trust_tolerance=100",
    "trial_seconds=15",
    "trial_latency_ms=5000",
    "trial_success_minimum=0.8",
    "trial_use_maximum=1.0",
    "patience_seconds=240",
    "audit_windows=2",
    "audit_tolerance=0.9",
    "cooldown_windows=1",
    "gain_per_disruption=0.2",
    "shrink_margin=1.5",
];

/// How often a plan is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The agent, linked so that it needs nothing of the guest.
fn agent() -> PathBuf {
    if let Some(built) = env::var_os("SINTER_STATIC_AGENT") {
        return built.into();
    }
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let built = Command::new(root.join("packaging/build-agent.sh")).status().unwrap();
    assert!(built.success(), "the static agent could not be built");
    target.join("x86_64-unknown-linux-gnu/agent/sinter-agent")
}

/// What everything happens between.
struct Scene {
    story: Story,
    // Before the farm, on whose network it is.
    aggregator: Aggregator,
    farm: Farm,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it takes ten minutes of both cores, and came to its end once in three runs"]
async fn a_unit_moves_between_real_machines_and_the_way_back_leaves_all_as_it_was() {
    if let Some(lacking) = lacking() {
        let test = "a_unit_moves_between_real_machines_and_the_way_back_leaves_all_as_it_was";
        left_out(test, &lacking);
        return;
    }
    let mut scene = set_up();
    let plan = scene.proposed("consolidate", &BTreeSet::new());
    let before = scene.state("before it").await;
    scene.approve(&plan);
    let ended = scene.follow(&plan, Some(FAULT));
    assert_eq!(ended["stage"], "rolled_back", "{ended:#}");
    scene.is_as_before(&before).await;
    scene.no_clone_is_left().await;

    let mut known = BTreeSet::from([id(&plan)]);
    let plan = scene.proposed("consolidate", &known);
    scene.approve(&plan);
    let ended = scene.follow(&plan, None);
    assert_eq!(ended["stage"], "completed", "{ended:#}");
    scene.has_moved(&plan).await;
    scene.no_clone_is_left().await;
    known.insert(id(&plan));

    // Memory is cheap: what it gains is less than a plan must gain by default.
    scene.aggregator.ctl(&["policy", "set", "gain_per_disruption=0.02"]).unwrap();
    let plan = scene.proposed("shrink", &known);
    scene.approve(&plan);
    let ended = scene.follow(&plan, None);
    assert_eq!(ended["stage"], "completed", "{ended:#}");
    scene.is_given_less(&plan).await;
    scene.no_clone_is_left().await;
    scene.audit_log();
}

/// The host, the aggregator, four guests whose agents enrolled.
fn set_up() -> Scene {
    let story = Story::begin();
    let farm = Farm::up();
    let home = farm.folder.path().join("aggregator");
    let introduction = {
        let aggregator = Aggregator::start(&home, &farm.vmlab.socket());
        let mut set = vec!["policy", "set"];
        set.extend(POLICY);
        aggregator.ctl(&set).unwrap();
        let catalogue = concat!(env!("CARGO_MANIFEST_DIR"), "/real/catalogue.toml");
        aggregator.ctl(&["catalogue", "set", catalogue]).unwrap();
        aggregator.introduction()
    };
    story.tell("a host with libvirt is up; authority, policy, catalogue and join token are made");
    for line in farm.boot(&agent(), &introduction) {
        story.tell(line);
    }
    // Only now: a guest that boots is a guest at its peak, and would be remembered so.
    let aggregator = Aggregator::start(&home, &farm.vmlab.socket());
    let scene = Scene { story, aggregator, farm };
    until("four agents to send samples", || {
        let agents = scene.aggregator.ctl(&["agents", "list"]).ok()?;
        thread::sleep(LOOK_EVERY);
        (agents["agents"].as_array()?.len() == 4).then_some(())
    });
    scene.story.tell("four agents have enrolled");
    scene
}

fn id(plan: &Value) -> String {
    plan["plan"].as_str().unwrap_or_default().to_owned()
}

fn rows<'a>(of: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    of[name].as_array().into_iter().flatten()
}

fn text(of: &Value, name: &str) -> String {
    of[name].as_str().unwrap_or_default().to_owned()
}

impl Scene {
    /// A plan of that goal that is none of `known`, told with what it rests on.
    fn proposed(&mut self, goal: &str, known: &BTreeSet<String>) -> Value {
        let mut window = String::new();
        let is_new = |plan: &&Value| {
            plan["goal"] == goal && plan["stage"] == "proposed" && !known.contains(&id(plan))
        };
        let plan = until(&format!("a plan to {goal}"), || {
            thread::sleep(LOOK_EVERY);
            self.tell_window(&mut window);
            let plans = self.aggregator.ctl(&["plans"]).ok()?;
            rows(&plans, "plans").find(is_new).cloned()
        });
        self.story.tell(self.aggregator.told(&["graph"]).unwrap());
        self.story.tell(self.aggregator.told(&["plan", "show", &id(&plan)]).unwrap());
        plan
    }

    /// Why nothing is planned yet, once for each window.
    fn tell_window(&self, last: &mut String) {
        let Ok(findings) = self.aggregator.ctl(&["findings"]) else { return };
        let window = text(&findings, "window");
        if window != *last {
            let candidates = self.aggregator.told(&["candidates"]).unwrap_or_default();
            self.story.tell(format!("window {window} closed\n{candidates}"));
            *last = window;
        }
    }

    async fn state(&self, when: &str) -> State {
        let begun = Instant::now();
        loop {
            if let Some(state) = State::now(&self.farm).await {
                self.story.tell(format!("state of the fleet {when}: {}", state.hash()));
                return state;
            }
            assert!(begun.elapsed() < PATIENCE, "some guest does not answer");
        }
    }

    fn approve(&self, plan: &Value) {
        self.aggregator.ctl(&["plan", "approve", &id(plan)]).unwrap();
    }

    /// Tells the course of a plan to its end. A `fault` is put into the guest that took something in,
    /// once the new mix is live there, and taken away at the end.
    fn follow(&self, plan: &Value, fault: Option<&str>) -> Value {
        let taker = rows(plan, "moves").next().map(|moved| text(moved, "to"));
        let mut fault = fault.zip(taker);
        let (mut told, mut planted) = (0, None);
        let mut moved_at = Instant::now();
        let ended = loop {
            thread::sleep(LOOK_EVERY);
            assert!(moved_at.elapsed() < PATIENCE, "waited in vain for the plan to go on");
            let Ok(shown) = self.aggregator.ctl(&["plan", "show", &id(plan)]) else { continue };
            let now = &shown["plan"];
            for entry in rows(now, "course").skip(told) {
                self.story.tell(text(entry, "text"));
                told += 1;
                moved_at = Instant::now();
            }
            let is_audited =
                rows(now, "steps").any(|step| step["phase"] == "audit" && step["state"] == "asked");
            if is_audited && let Some((file, guest)) = fault.take() {
                self.farm.run(&guest, &format!("touch {file}")).unwrap();
                self.story.tell(format!("a fault is put into {guest}: its report is of no use"));
                planted = Some((file, guest));
            }
            let ends = ["completed", "rolled_back", "rejected", "superseded", "stranded"];
            if ends.iter().any(|end| now["stage"] == *end) {
                break now.clone();
            }
        };
        for measured in rows(&ended, "measurements") {
            let mark = if measured["passed"] == true { "right" } else { "WRONG" };
            let (name, value) = (text(measured, "name"), &measured["value"]);
            let (unit, most) = (text(measured, "unit"), text(measured, "threshold"));
            self.story.tell(format!("  {name}: {value} {unit}, {most}: {mark}"));
        }
        if let Some((file, guest)) = planted {
            self.farm.run(&guest, &format!("rm -f {file}")).unwrap();
        }
        ended
    }

    /// Machines that were off boot again and settle.
    async fn is_as_before(&self, before: &State) {
        let begun = Instant::now();
        loop {
            let now = State::now(&self.farm).await;
            if now.as_ref() == Some(before) {
                let hash = before.hash();
                self.story.tell(format!(
                    "restored: machines, units, limits, addresses and disks are as before ({hash})"
                ));
                return;
            }
            let difference = now.map(|now| before.difference(&now));
            assert!(begun.elapsed() < PATIENCE, "not as before: {difference:?}");
        }
    }

    async fn machine(&self, name: &str) -> Machine {
        let machines = state::machines(&self.farm).await;
        machines.into_iter().find(|machine| machine.name == name).unwrap()
    }

    async fn no_clone_is_left(&self) {
        let machines = state::machines(&self.farm).await;
        let names: Vec<_> = machines.iter().map(|machine| machine.name.as_str()).collect();
        assert_eq!(BTreeSet::from_iter(names), BTreeSet::from(["g1", "g2", "g3", "g4"]));
        let networks = self.farm.vmlab.virsh(&["net-list", "--all", "--name"]).unwrap();
        let networks: BTreeSet<_> = networks.split_whitespace().collect();
        assert_eq!(networks, BTreeSet::from(["management", "vmlab"]));
    }

    /// The report runs where it was moved to, and the guest it left is off.
    async fn has_moved(&self, plan: &Value) {
        let moved = rows(plan, "moves").next().unwrap();
        let (from, to) = (text(moved, "from"), text(moved, "to"));
        let says = self.farm.run(&to, "curl -s http://127.0.0.1:9100/health").unwrap();
        assert_eq!(says.trim(), "well");
        assert_eq!(self.machine(&from).await.power, Power::Off);
        self.story.tell(format!("report runs in {to}, {from} is off; the plan is completed"));
    }

    /// libvirt says the same as the plan.
    async fn is_given_less(&self, plan: &Value) {
        let change = rows(plan, "changes").next().unwrap();
        let machine = self.machine(&text(change, "name")).await;
        let (before, after) = (&change["allocation_before"], &change["allocation_after"]);
        let cpu = machine.allocation.cpu.map(|cpu| cpu.0);
        let memory = machine.allocation.memory.map(|memory| memory.0);
        assert_eq!(cpu, after["cpu_millicores"].as_u64(), "{change:#}");
        assert_eq!(memory, after["memory_bytes"].as_u64(), "{change:#}");
        assert_ne!(before, after);
        let name = &machine.name;
        self.story.tell(format!("libvirt gives {name} {:?} now", machine.allocation));
    }

    /// What was done and by whom, in an unbroken chain.
    fn audit_log(&self) {
        self.aggregator.told(&["audit", "--verify"]).unwrap();
        self.story.tell(self.aggregator.told(&["audit", "--last", "12"]).unwrap());
    }
}
