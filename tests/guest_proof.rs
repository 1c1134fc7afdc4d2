//! The agent in real virtual machines, with a kernel, systemd and control groups of their own: what
//! it says is held to what is known of the traffic, to systemd, to dpkg and to the kernel.
//!
//! It takes a folder of vmlab scripts: `SINTER_VMLAB=/path/to/vmlab VMLAB_STATE=/var/cache/vmlab
//! cargo test -p sinter-lab --test guest_proof -- --nocapture`

mod guest;

use std::{collections::BTreeSet, env, path::PathBuf, process::Command};

use guest::{Farm, Walls};
use lab::{demonstration::left_out, vmlab::lacking};
use serde_json::Value;

/// Operations of each kind of traffic.
const TIMES: u64 = 25;
/// Bytes of a write of the traffic program.
const BLOCK: u64 = 65_536;
/// Serial of the disk that is plugged in.
const SERIAL: &str = "SINTER-PROOF-7";

/// What of the doctor's checks says whether all can be observed. There is no aggregator to be reached.
const OBSERVES: [&str; 7] = [
    "right to hear of the network",
    "right to see processes",
    "right to read files",
    "process table",
    "trace of openings",
    "control groups",
    "systemd",
];

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

/// The rows of a table in which each of these fields is so.
fn rows<'a>(seen: &'a Value, table: &str, fields: &[(&str, &str)]) -> Vec<&'a Value> {
    let is_so = |row: &&Value| {
        fields.iter().all(|(field, wanted)| match &row[field] {
            Value::String(text) => text == wanted,
            Value::Number(number) => number.to_string().as_str() == *wanted,
            _ => false,
        })
    };
    seen[table].as_array().into_iter().flatten().filter(is_so).collect()
}

fn sum(rows: &[&Value], field: &str) -> u64 {
    rows.iter().filter_map(|row| row[field].as_u64()).sum()
}

/// Flows of one application in one direction at one port.
fn flows<'a>(seen: &'a Value, direction: &str, application: &str, port: &str) -> Vec<&'a Value> {
    rows(seen, "flows", &[("direction", direction), ("application", application), ("port", port)])
}

struct Paper(Vec<(String, String, String, bool)>);

impl Paper {
    fn line(&mut self, what: &str, truth: impl ToString, said: impl ToString, is_right: bool) {
        self.0.push((what.to_owned(), truth.to_string(), said.to_string(), is_right));
    }

    fn same<T: ToString + PartialEq>(&mut self, what: &str, truth: T, said: T) {
        let is_right = truth == said;
        self.line(what, truth, said, is_right);
    }

    fn show(&self) {
        println!("{:52} {:>24} {:>24}", "", "TRUE", "SAID");
        for (what, truth, said, is_right) in &self.0 {
            let mark = if *is_right { "" } else { "  WRONG" };
            println!("{what:52} {truth:>24} {said:>24}{mark}");
        }
        assert!(self.0.iter().all(|(_, _, _, is_right)| *is_right), "what the agent says is wrong");
    }
}

#[test]
fn what_the_agent_says_of_real_machines_is_true() {
    if let Some(lacking) = lacking() {
        left_out("what_the_agent_says_of_real_machines_is_true", &lacking);
        return;
    }
    let farm = Farm::up(&agent());
    let mut paper = Paper(Vec::new());
    farm.plug("g1", SERIAL);
    farm.observe("g1", Walls::Observing);
    farm.observe("g2", Walls::None);

    traffic(&farm);
    let have_ended = |flows: Vec<&Value>| sum(&flows, "closed") >= TIMES;
    let g1 = farm.until("g1", "the client's side", |seen| {
        have_ended(flows(seen, "outbound", "proof-shop", "80"))
            && have_ended(flows(seen, "outbound", "proof-cart", "6379"))
    });
    let g2 = farm.until("g2", "the server's side", |seen| {
        have_ended(flows(seen, "inbound", "nginx", "80"))
            && have_ended(flows(seen, "inbound", "redis-server", "6379"))
    });

    edges(&mut paper, &g1, &g2);
    holders(&mut paper, &g1, &g2);
    accounts(&mut paper, &farm, &g1);
    inventory(&mut paper, &farm, &g1);
    for guest in ["g1", "g2"] {
        unit(&mut paper, &farm, guest);
    }
    paper.show();
}

/// Short connections of two units, one that stays, and writes, all of it known by number.
fn traffic(farm: &Farm) {
    let to = Farm::address(2);
    let start = |unit: &str, command: &str| {
        farm.run("g1", &format!("systemd-run -q --unit={unit} sh -c '{command}'"));
    };
    start("proof-hold", &format!("exec vmlab-traffic hold {to} 6379 600"));
    // The unit stays, so that its control group does.
    start("proof-disk", &format!("vmlab-traffic disk /root {TIMES} 0; sleep 600"));
    for (unit, kind) in [("proof-shop", "http"), ("proof-cart", "redis-set")] {
        let command = format!("vmlab-traffic {kind} {to} {TIMES} 0.05");
        let said = farm.run("g1", &format!("systemd-run -q --pipe --wait --unit={unit} {command}"));
        assert!(said.contains(&format!("{TIMES} of {TIMES}")), "{said}");
    }
}

fn edges(paper: &mut Paper, g1: &Value, g2: &Value) {
    let shop = flows(g1, "outbound", "proof-shop", "80");
    let cart = flows(g1, "outbound", "proof-cart", "6379");
    // Programs that live for milliseconds: they are known by the unit that started them.
    let by_unit = sum(&shop, "opened") + sum(&cart, "opened");
    paper.same("of all connections, given to their unit", 2 * TIMES, by_unit);
    paper.same("of them given to the programs' own names", 0, {
        let of = |program| sum(&rows(g1, "flows", &[("application", program)]), "opened");
        of("curl") + of("redis-cli")
    });
    let (nginx, redis) =
        (flows(g2, "inbound", "nginx", "80"), flows(g2, "inbound", "redis-server", "6379"));
    paper.same("connections proof-shop -> nginx, client's side", TIMES, sum(&shop, "opened"));
    paper.same("connections proof-shop -> nginx, server's side", TIMES, sum(&nginx, "opened"));
    paper.same("connections proof-cart -> redis, client's side", TIMES, sum(&cart, "opened"));
    // The one that stays is there too.
    paper.same("connections to redis, server's side", TIMES + 1, sum(&redis, "opened"));
    paper.same("of them ended", TIMES, sum(&redis, "closed"));
    // Where it is known only how many each of two programs opened, what they carried is nobody's.
    let shop = rows(g1, "flows", &[("direction", "outbound"), ("port", "80")]);
    let cart = rows(g1, "flows", &[("direction", "outbound"), ("port", "6379")]);
    paper.same("bytes shop -> nginx, at both ends", sum(&shop, "sent"), sum(&nginx, "received"));
    paper.same("bytes nginx -> shop, at both ends", sum(&nginx, "sent"), sum(&shop, "received"));
    paper.same("bytes cart -> redis, at both ends", sum(&cart, "sent"), sum(&redis, "received"));
    paper.same("bytes redis -> cart, at both ends", sum(&redis, "sent"), sum(&cart, "received"));
    for (guest, seen) in [("g1", g1), ("g2", g2)] {
        let coverage = &seen["coverage"];
        paper.same(
            &format!("ends are told in {guest}"),
            &Value::from(true),
            &coverage["ends_are_told"],
        );
        paper.same(
            &format!("openings are told in {guest}"),
            &Value::from(true),
            &coverage["opens_are_told"],
        );
        let (due, seen) = (coverage["due"].as_u64(), coverage["seen"].as_u64());
        let is_right = due.is_some() && seen.map(|seen| seen * 100) >= due.map(|due| due * 99);
        paper.line(
            &format!("connections seen of those due in {guest}"),
            format!("{due:?}"),
            format!("{seen:?}"),
            is_right,
        );
    }
}

fn holders(paper: &mut Paper, g1: &Value, g2: &Value) {
    let held = |seen: &Value, application: &str, state: &str| {
        let rows = rows(seen, "connections", &[("state", state)]);
        rows.iter()
            .filter(|row| row["holder"].to_string().contains(&format!("\"{application}\"")))
            .count()
    };
    let listens = |seen: &Value, application: &str| held(seen, application, "LISTEN") > 0;
    paper.same("nginx listens", true, listens(g2, "nginx"));
    paper.same("redis-server listens", true, listens(g2, "redis-server"));
    paper.same("proof-hold holds its connection", 1, held(g1, "proof-hold", "ESTABLISHED"));
    paper.same("redis-server holds the other end", 1, held(g2, "redis-server", "ESTABLISHED"));
    for (name, unit) in [("nginx", "nginx.service"), ("redis-server", "redis-server.service")] {
        let units: BTreeSet<String> = rows(g2, "processes", &[("name", name)])
            .iter()
            .map(|row| row["unit"].as_str().unwrap_or("none").to_owned())
            .collect();
        paper.same(
            &format!("unit of {name}"),
            unit.to_owned(),
            units.into_iter().collect::<Vec<_>>().join(" "),
        );
    }
}

fn accounts(paper: &mut Paper, farm: &Farm, g1: &Value) {
    let shown = farm.run("g1", "systemctl show -p CPUUsageNSec -p MemoryCurrent redis-server");
    let property = |name: &str| -> u64 {
        let line = shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.and_then(|value| value.parse().ok()).unwrap_or_default()
    };
    let redis = &g1["applications"]["redis-server"];
    paper.same("redis-server's account", "cgroup2", redis["accounting"].as_str().unwrap_or("none"));
    let (truth, said) =
        (property("CPUUsageNSec") / 1_000_000, redis["cpu_ms"].as_u64().unwrap_or(0));
    // systemd was asked some seconds later.
    let is_near = said <= truth && said + 200 + truth / 5 >= truth;
    paper.line("CPU of redis-server, ms", truth, said, is_near);
    let truth = property("MemoryCurrent");
    let said = redis["working_set"].as_u64().unwrap_or(0);
    paper.line(
        "memory of redis-server: all charged, working set",
        truth,
        said,
        said > 0 && said <= truth + truth / 4,
    );
    let disk = &g1["applications"]["proof-disk"];
    let written = disk["devices"]["vda"]["written"].as_u64().unwrap_or(0);
    let writes = disk["devices"]["vda"]["writes"].as_u64().unwrap_or(0);
    // The file system writes something of its own beside them.
    paper.line(
        "bytes proof-disk wrote to vda",
        TIMES * BLOCK,
        written,
        (TIMES * BLOCK..=2 * TIMES * BLOCK).contains(&written),
    );
    paper.line("operations of proof-disk on vda, at least", TIMES, writes, writes >= TIMES);
}

fn inventory(paper: &mut Paper, farm: &Farm, g1: &Value) {
    let format = "${db:Status-Abbrev}|${Package}|${Architecture}|${Version}\\n";
    let listed = farm.run("g1", &format!("dpkg-query -W -f '{format}'"));
    let truth: BTreeSet<String> = listed
        .lines()
        .filter_map(|line| line.strip_prefix("ii ")?.strip_prefix('|'))
        .map(str::to_owned)
        .collect();
    let field = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let said: BTreeSet<String> = g1["software"]["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| {
            [field(row, "name"), field(row, "architecture"), field(row, "version")].join("|")
        })
        .collect();
    paper.line("packages", truth.len(), said.len(), truth == said && !truth.is_empty());
    let serials: Vec<_> = g1["facts"]["block_devices"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|device| device["serial"].as_str())
        .collect();
    paper.line(
        "serial of the disk that was plugged in",
        SERIAL,
        serials.join(" "),
        serials.contains(&SERIAL),
    );
    let uuid = farm.run("g1", "cat /sys/class/dmi/id/product_uuid").trim().to_lowercase();
    paper.same(
        "product uuid",
        uuid.as_str(),
        g1["facts"]["product_uuid"].as_str().unwrap_or("none"),
    );
    let services = &g1["services"];
    let active = ["nginx.service", "redis-server.service"]
        .iter()
        .filter(|name| services[**name]["state"] == "active")
        .count();
    println!("services: {}", g1["facts"]["services_source"]);
    paper.same("of nginx and redis, services that are active", 2, active);
}

/// The agent as its own unit runs it.
fn unit(paper: &mut Paper, farm: &Farm, guest: &str) {
    let shown = farm.run(guest, "systemctl show -p ActiveState -p NRestarts --value sinter-agent");
    let mut words: Vec<&str> = shown.split_whitespace().collect();
    words.sort_unstable();
    let what = format!("sinter-agent.service in {guest}: starts again, state");
    paper.same(&what, "0 active", words.join(" ").as_str());
    let report = farm.doctor(guest);
    let checks = report["checks"].as_array().into_iter().flatten();
    for check in checks.clone() {
        println!("{guest}: {} {}: {}", check["verdict"], check["name"], check["found"]);
    }
    let passed: BTreeSet<&str> = checks
        .filter(|check| check["verdict"] == "pass")
        .filter_map(|check| check["name"].as_str())
        .collect();
    for name in OBSERVES {
        let is_passed = passed.contains(name);
        paper.line(&format!("doctor in {guest}, {name}"), "pass", is_passed, is_passed);
    }
    let security = farm.run(guest, "systemd-analyze security --no-pager sinter-agent.service");
    let overall = security.lines().rev().find(|line| line.contains("Overall exposure"));
    println!("{guest}: {}", overall.unwrap_or(&security).trim());
}
