//! One set of promises that every adapter to a hypervisor keeps, held to each of them: the same words
//! against machines of namespaces, a real libvirt with a real guest, and a simulated vCenter.
//!
//! ```text
//!  property ─> Bench ─┬─ namespace   this host
//!                     ├─ libvirt     libvirtd, and somebody before its socket who loses answers
//!                     └─ vsphere     vcsim, and somebody before its port who does
//! ```

mod libvirt;
mod namespace;
mod property;
mod vsphere;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use aggregator::hypervisor::{CloneOrder, Hypervisor, HypervisorError, Inventory, Machine};
use async_trait::async_trait;
use comfy_table::{Table, presets};
use common::{
    id::{NetworkId, VmId},
    task::Chain,
};
use serde_json::Value;

pub use self::{
    libvirt::LibvirtBench, namespace::NamespaceBench, property::Property, vsphere::VsphereBench,
};

/// The uuid of every clone that is made here.
const CLONE: &str = "0b6f3b0e-1111-4000-8000-00000000c0f0";
/// The network that every clone is tried in.
const TRIAL: &str = "conformance-1";

/// Why a property does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The adapter broke its promise.
    Wrong(String),
    /// There is nothing here to hold it to.
    NotHere(String),
}

impl From<HypervisorError> for Fault {
    fn from(error: HypervisorError) -> Self {
        Self::Wrong(Chain(&error).to_string())
    }
}

/// What became of a property.
pub type Held = Result<(), Fault>;

/// An adapter with a vendor behind it, and the vendor's own tools.
#[async_trait(?Send)]
pub trait Bench {
    /// The adapter's name.
    fn adapter(&self) -> &'static str;

    /// The adapter, on a wire that can be broken.
    fn hypervisor(&self) -> &dyn Hypervisor;

    /// A machine of somebody's, which runs.
    fn source(&self) -> &VmId;

    /// Names of all machines and whether they run, as the vendor's own tools tell.
    async fn machines(&self) -> BTreeMap<String, bool>;

    /// Whatever a clone could leave behind, as the vendor's own tools tell.
    async fn things(&self) -> BTreeSet<String>;

    /// A machine that runs and that its operator keeps for themselves from now on.
    async fn keep(&mut self) -> VmId;

    /// Takes away what [`Self::keep`] wrote or made.
    async fn give_free(&mut self);

    /// Ends the vendor's server; its machines stay as they are if it lets them.
    async fn go(&mut self) -> Held;

    /// The way back of [`Self::go`].
    async fn come_back(&mut self);

    /// Ends whatever stands between us and the machines, and begins it again.
    async fn begin_again(&mut self) -> Held {
        self.go().await?;
        self.come_back().await;
        Ok(())
    }

    /// Loses the answer to the next call that changes something, once that was done.
    fn lose_next_answer(&mut self) -> Held;

    /// Loses none any more; gives whether one was lost.
    fn was_lost(&mut self) -> bool;
}

/// What all properties begin with.
async fn order(bench: &dyn Bench) -> Result<CloneOrder, HypervisorError> {
    order_of(bench, bench.source()).await
}

async fn order_of(bench: &dyn Bench, source: &VmId) -> Result<CloneOrder, HypervisorError> {
    let host = machine(bench, source).await?.host;
    Ok(CloneOrder {
        source: source.clone(),
        clone: clone(),
        name: "conformance".to_owned(),
        host,
        plan: "plan-1".parse().unwrap(),
        allocation: aggregator::hypervisor::Allocation::default(),
        ticket: "ticket-of-a-trial".to_owned(),
    })
}

fn clone() -> VmId {
    CLONE.parse().unwrap()
}

fn trial() -> NetworkId {
    TRIAL.parse().unwrap()
}

async fn machine(bench: &dyn Bench, vm: &VmId) -> Result<Machine, HypervisorError> {
    let Inventory { mut machines, .. } = bench.hypervisor().inventory().await?;
    let reason = format!("the inventory has no {vm}");
    machines.remove(vm).ok_or(HypervisorError::Refused { reason })
}

/// What one adapter made of every property.
#[derive(Debug)]
pub struct Column {
    /// The adapter's name.
    pub adapter: &'static str,
    /// What it made of each, in the order of [`Property::ALL`]; or what it takes to find out.
    pub held: Result<Vec<Held>, String>,
}

impl Column {
    /// Whether a promise was broken.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        let is_wrong = |held: &Held| matches!(held, Err(Fault::Wrong(_)));
        self.held.as_ref().is_ok_and(|held| held.iter().any(is_wrong))
    }
}

/// Holds an adapter to every property. Each leaves all as it was, also where it is broken.
pub async fn hold(bench: &mut dyn Bench) -> Column {
    let mut held = Vec::new();
    for property in Property::ALL {
        let outcome = property.hold(bench).await;
        clear_up(bench).await;
        held.push(outcome);
    }
    Column { adapter: bench.adapter(), held: Ok(held) }
}

/// What a property left that broke off.
async fn clear_up(bench: &dyn Bench) {
    let hypervisor = bench.hypervisor();
    let is_left = |inventory: Inventory| inventory.machines.contains_key(&clone());
    if !hypervisor.inventory().await.is_ok_and(is_left) {
        return;
    }
    // One that serves is refused, and only then the source is asked back, which may take a minute.
    if hypervisor.remove(&clone()).await.is_err() {
        // Whatever fails here shows in the next property.
        drop(hypervisor.restore(bench.source(), &clone()).await);
        drop(hypervisor.remove(&clone()).await);
    }
}

/// Holds every adapter to every property, one after the other.
pub async fn all() -> Vec<Column> {
    let mut columns = Vec::new();
    columns.push(match NamespaceBench::up().await {
        Ok(mut bench) => {
            let column = hold(&mut bench).await;
            bench.end().await;
            column
        }
        Err(lacking) => Column { adapter: "namespace", held: Err(lacking) },
    });
    columns.push(match VsphereBench::up().await {
        Ok(mut bench) => hold(&mut bench).await,
        Err(lacking) => Column { adapter: "vsphere", held: Err(lacking) },
    });
    columns.push(match LibvirtBench::up() {
        Ok(mut bench) => hold(&mut bench).await,
        Err(lacking) => Column { adapter: "libvirt", held: Err(lacking) },
    });
    columns
}

/// What became of a property, as one word and the reason for it.
fn told<'a>(held: Result<&'a Held, &'a String>) -> (&'static str, Option<&'a str>) {
    match held {
        Ok(Ok(())) => ("right", None),
        Ok(Err(Fault::Wrong(why))) => ("WRONG", Some(why.as_str())),
        Ok(Err(Fault::NotHere(why))) => ("not here", Some(why.as_str())),
        Err(_) => ("LEFT OUT", None),
    }
}

/// Columns as one document for scripts.
#[must_use]
pub fn json(columns: &[Column]) -> Value {
    let one = |column: &Column| {
        let properties = Property::ALL.into_iter().enumerate().map(|(at, property)| {
            let (outcome, why) = told(column.held.as_ref().map(|held| &held[at]));
            serde_json::json!({ "property": property.words(), "outcome": outcome, "why": why })
        });
        let properties: Vec<Value> = properties.collect();
        let lacking = column.held.as_ref().err();
        serde_json::json!({
            "adapter": column.adapter, "lacking": lacking, "properties": properties,
        })
    };
    columns.iter().map(one).collect()
}

/// Columns as a table, with a line for whatever is not right.
#[must_use]
pub fn table(columns: &[Column]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    let names = columns.iter().map(|column| column.adapter.to_uppercase());
    table.set_header(["PROPERTY".to_owned()].into_iter().chain(names));
    let mut reasons = String::new();
    for (at, property) in Property::ALL.into_iter().enumerate() {
        let mut row = vec![property.words().to_owned()];
        for Column { adapter, held } in columns {
            let (word, why) = told(held.as_ref().map(|held| &held[at]));
            row.push(word.to_owned());
            if let Some(why) = why {
                let _infallible =
                    writeln!(reasons, "{adapter}, {}: {word}: {why}", property.words());
            }
        }
        table.add_row(row);
    }
    for Column { adapter, held } in columns {
        if let Err(lacking) = held {
            let _infallible = writeln!(reasons, "LEFT OUT: all of {adapter}: {lacking}");
        }
    }
    let lines: String = table.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
    lines + &reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_not_right_is_said_with_its_reason() {
        let count = Property::ALL.len();
        let wrong = |at: usize| match at {
            0 => Err(Fault::Wrong("two machines are missing".to_owned())),
            1 => Err(Fault::NotHere("it has no counters".to_owned())),
            _ => Ok(()),
        };
        let columns = [
            Column { adapter: "one", held: Ok((0..count).map(wrong).collect()) },
            Column { adapter: "other", held: Err("SINTER_OTHER is not set".to_owned()) },
        ];

        let told = table(&columns);

        assert!(columns[0].is_wrong() && !columns[1].is_wrong());
        let first = Property::ALL[0].words();
        assert!(told.contains(&format!("one, {first}: WRONG: two machines are missing")));
        assert!(told.contains("not here: it has no counters"), "{told}");
        assert!(told.contains("LEFT OUT: all of other: SINTER_OTHER is not set"), "{told}");
        assert_eq!(told.lines().count(), 1 + count + 3);
    }
}
