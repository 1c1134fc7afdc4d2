//! The small fleet: what each machine is, what runs on it, and what the operator says of it.
//!
//! ```text
//!  visitor ─> web ─> api ─> store        report: a job nobody depends on
//!                                        idle: nothing      lingering: half-closed connections
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use common::{
    id::VmId,
    units::{Bytes, Millicores},
};
use ipnet::{IpNet, Ipv4Net};

use crate::{
    catalogue::Catalogue,
    hypervisor::{Allocation, namespace::MachineOrder},
};

/// Where the workload lies in a machine: its own disk, so that a clone has it too.
const WORKLOAD: &str = "/opt/sinter/sinter-workload";
/// While this file is in a machine, `report` does not work there.
pub(super) const FAULT: &str = "/var/report.fault";
/// What `visit` is called.
pub(super) const VISITOR: &str = "visitor";

const WEB: u16 = 8080;
const API: u16 = 8081;
const STORE: u16 = 8082;
const REPORT: u16 = 9100;
const WORKER: u16 = 9200;

/// Machines that everybody gets.
const NAMED: [&str; 6] = ["web", "api", "store", "report", "idle", "lingering"];

/// Where machine number `index` is on the production network.
fn address(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, u8::try_from(index + 11).unwrap_or(u8::MAX))
}

fn network(address: Ipv4Addr) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(address, 24))
}

fn of(name: &str) -> Ipv4Addr {
    address(NAMED.iter().position(|named| *named == name).unwrap_or_default())
}

/// What agents are told so that they find and trust the aggregator.
#[derive(Debug)]
pub(super) struct Introduction {
    pub(super) aggregator: SocketAddr,
    pub(super) fingerprint: String,
    pub(super) token: String,
}

/// An application as a guest defines it.
struct Definition {
    name: &'static str,
    words: Vec<String>,
    settings: &'static str,
    health: String,
}

fn http(port: u16) -> String {
    format!("kind = \"http\"\nport = {port}\npath = \"/health\"\n")
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(ToOwned::to_owned).collect()
}

fn definition(name: &str) -> Option<Definition> {
    let (api, store, web) = (of("api"), of("store"), of("web"));
    let (name, command, settings, health) = match name {
        "web" => (
            "web",
            format!("serve --listen 0.0.0.0:{WEB} --call {api}:{API} --cpu-ms 2 --memory-mib 4"),
            "",
            http(WEB),
        ),
        "api" => (
            "api",
            format!(
                "serve --listen 0.0.0.0:{API} --call {store}:{STORE} --cpu-ms 3 --memory-mib 6"
            ),
            "",
            http(API),
        ),
        "store" => (
            "store",
            format!(
                "serve --listen 0.0.0.0:{STORE} --cpu-ms 1 --memory-mib 8 --write-bytes 4096 \
                 --write-to /var/store.data"
            ),
            "",
            http(STORE),
        ),
        "report" => (
            "report",
            format!(
                "job --every-ms ${{every_ms}} --health 0.0.0.0:{REPORT} --cpu-ms 20 --memory-mib 6 \
                 --fault-file {FAULT}"
            ),
            "settings = { every_ms = \"2000\" }\n",
            http(REPORT),
        ),
        "lingering" => (
            "lingering",
            format!("linger --connect {web}:{WEB} --count 3"),
            "",
            "kind = \"running\"\n".to_owned(),
        ),
        name if name.starts_with("worker") => (
            "worker",
            format!(
                "job --every-ms 500 --call {store}:{STORE} --health 0.0.0.0:{WORKER} --cpu-ms 2 \
                 --memory-mib 4"
            ),
            "",
            http(WORKER),
        ),
        _ => return None,
    };
    Some(Definition { name, words: words(&command), settings, health })
}

fn defined(definition: &Definition, autostart: bool) -> String {
    let Definition { name, words, settings, health } = definition;
    let words: String = words.iter().map(|word| format!(", \"{word}\"")).collect();
    format!(
        "[{name}]\ndriver = \"process\"\ncommand = [\"{WORKLOAD}\"{words}]\n\
         {settings}autostart = {autostart}\n[{name}.health]\n{health}\n"
    )
}

/// The guest's own list of what may run there: its own application, and the one that may come.
fn applications(machine: &str) -> String {
    let own = definition(machine);
    let report = definition("report").filter(|_| machine != "report");
    let own = own.iter().map(|definition| defined(definition, true));
    let others = report.iter().map(|definition| defined(definition, false));
    own.chain(others).collect()
}

/// The budget is wide: the demonstration samples often, and may be a build that nobody made quick.
fn agent(introduction: &Introduction) -> String {
    let Introduction { aggregator, fingerprint, token } = introduction;
    format!(
        "aggregator = \"{aggregator}\"\n\
         authority_fingerprint = \"{fingerprint}\"\n\
         token = \"{token}\"\n\
         apply = true\n\
         dmi = \"/run/sinter/dmi\"\n\
         spool_mib = 16\n\
         services = \"agent\"\n\
         [budget]\n\
         cpu_percent = 50\n\
         memory_mib = 256\n"
    )
}

/// All machines. `workload` is the program that their applications are.
pub(super) fn machines(
    count: u16,
    introduction: &Introduction,
    workload: &[u8],
) -> Result<Vec<MachineOrder>, common::id::IdError> {
    let mut names: Vec<String> = NAMED.iter().map(|name| (*name).to_owned()).collect();
    for number in 1..=usize::from(count).saturating_sub(NAMED.len()) {
        let sort = if number % 2 == 0 { "idle" } else { "worker" };
        names.push(format!("{sort}-{number}"));
    }
    let mut orders = Vec::with_capacity(names.len());
    for (index, name) in names.into_iter().enumerate() {
        let vm: VmId = uuid::Uuid::new_v4().to_string().parse()?;
        let mut files: BTreeMap<PathBuf, (u32, Vec<u8>)> = BTreeMap::new();
        let mut file = |path: &str, mode, contents: Vec<u8>| {
            files.insert(PathBuf::from(path), (mode, contents));
        };
        file("/etc/sinter/agent.toml", 0o600, agent(introduction).into_bytes());
        file("/etc/sinter/applications.toml", 0o644, applications(&name).into_bytes());
        file(WORKLOAD, 0o755, workload.to_vec());
        orders.push(MachineOrder {
            vm,
            name,
            address: network(address(index)),
            allocation: Allocation {
                cpu: Some(Millicores(250)),
                memory: Some(Bytes::mebi(128)),
                storage: None,
            },
            files,
            labels: BTreeSet::new(),
        });
    }
    Ok(orders)
}

/// The visitor from outside: where it is, and the words of its command after the program.
pub(super) fn visitor() -> (IpNet, Vec<String>) {
    let web = SocketAddr::new(IpAddr::V4(of("web")), WEB);
    (network(Ipv4Addr::new(10, 77, 0, 250)), words(&format!("visit --call {web} --rate 5")))
}

/// What the operator says of the fleet's applications: `report` may move, the rest may not.
pub(super) const CATALOGUE: &str = r#"
[web]
class = "web"
rules = [{ port = 8080 }]
serves = { 8080 = { http_get = { path = "/health" } } }

[api]
class = "business"
rules = [{ port = 8081 }]
serves = { 8081 = { http_get = { path = "/health" } } }

[store]
class = "database"
rules = [{ port = 8082 }]
serves = { 8082 = { http_get = { path = "/health" } } }
keeps_data = true

[report]
class = "batch"
rules = [{ port = 9100 }]
serves = { 9100 = { http_get = { path = "/health" } } }
movable = true

[worker]
class = "batch"
rules = [{ port = 9200 }]
pinned = true
"#;

/// [`CATALOGUE`], read.
pub(super) fn catalogue() -> Result<Catalogue, toml::de::Error> {
    toml::from_str(CATALOGUE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn introduction() -> Introduction {
        Introduction {
            aggregator: "100.64.0.1:7401".parse().unwrap(),
            fingerprint: "ab".repeat(32),
            token: "sinter-x".to_owned(),
        }
    }

    #[test]
    fn the_catalogue_is_right_and_only_report_may_move() {
        let catalogue = catalogue().unwrap();
        let movable: Vec<_> =
            catalogue.0.iter().filter(|(_, application)| application.movable).collect();
        assert_eq!(movable.len(), 1);
        assert_eq!(movable[0].0.as_str(), "report");
    }

    #[test]
    fn every_machine_may_run_report_and_one_does() {
        let orders = machines(9, &introduction(), b"program").unwrap();
        let starts = |order: &MachineOrder| {
            let text = &order.files[&PathBuf::from("/etc/sinter/applications.toml")].1;
            let table: toml::Table = std::str::from_utf8(text).unwrap().parse().unwrap();
            table["report"]["autostart"].as_bool().unwrap()
        };
        let starting: Vec<_> = orders.iter().filter(|order| starts(order)).collect();
        assert_eq!(orders.len(), 9);
        assert_eq!(starting.len(), 1);
        assert_eq!(starting[0].name, "report");
    }

    #[test]
    fn no_two_machines_share_an_address() {
        let orders = machines(super::super::MOST_MACHINES, &introduction(), b"").unwrap();
        let addresses: BTreeSet<_> = orders.iter().map(|order| order.address.addr()).collect();
        assert_eq!(addresses.len(), orders.len());
        assert!(!addresses.contains(&visitor().0.addr()));
    }
}
