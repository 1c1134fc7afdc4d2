//! Machines of namespaces on this host: there is no server and no wire, so that neither ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use aggregator::hypervisor::{
    Allocation, Hypervisor, NEVER_TOUCH,
    namespace::{MachineOrder, NamespaceHypervisor},
};
use async_trait::async_trait;
use common::{
    id::VmId,
    task::Chain,
    units::{Bytes, Millicores},
};
use serde_json::Value;
use tempfile::TempDir;

use super::{Bench, Fault, Held};
use crate::programs::program;

const SOURCE: &str = "0b6f3b0e-1111-4000-8000-00000000c0f1";
const KEPT: &str = "0b6f3b0e-1111-4000-8000-00000000c0f2";

/// Machines in a folder of their own.
#[derive(Debug)]
pub struct NamespaceBench {
    folder: TempDir,
    hypervisor: NamespaceHypervisor,
    source: VmId,
}

fn state(folder: &Path) -> PathBuf {
    folder.join("state")
}

async fn open(folder: &Path) -> Result<NamespaceHypervisor, String> {
    let agent = folder.join("agent.sh");
    fs::write(&agent, "#!/bin/sh\nexec sleep 100000\n").unwrap();
    fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).unwrap();
    let inner = program("sinter-aggregator").map_err(|cause| cause.to_string())?;
    let opened = NamespaceHypervisor::open_with(&state(folder), &agent, &inner).await;
    opened.map_err(|error| Chain(&error).to_string())
}

impl NamespaceBench {
    /// Makes one machine, which runs.
    ///
    /// # Errors
    ///
    /// What it takes.
    pub async fn up() -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("sinter-conformance-").tempdir().unwrap();
        let hypervisor = open(folder.path()).await?;
        let bench = Self { folder, hypervisor, source: SOURCE.parse().unwrap() };
        bench.make(SOURCE, "web", "10.77.0.1/24", &[]).await;
        Ok(bench)
    }

    async fn make(&self, vm: &str, name: &str, address: &str, labels: &[&str]) -> VmId {
        let vm: VmId = vm.parse().unwrap();
        let order = MachineOrder {
            vm: vm.clone(),
            name: name.to_owned(),
            address: address.parse().unwrap(),
            allocation: Allocation {
                cpu: Some(Millicores(500)),
                memory: Some(Bytes::mebi(64)),
                storage: None,
            },
            files: BTreeMap::new(),
            labels: labels.iter().map(|&label| label.to_owned()).collect(),
        };
        self.hypervisor.create(&order).await.unwrap();
        self.hypervisor.start(&vm).await.unwrap();
        vm
    }

    fn records(&self) -> Vec<(PathBuf, Value)> {
        let machines = fs::read_dir(state(self.folder.path()).join("machines")).unwrap();
        let record = |folder: PathBuf| {
            let text = fs::read_to_string(folder.join("machine.json")).ok()?;
            Some((folder, serde_json::from_str(&text).unwrap()))
        };
        machines.filter_map(|entry| record(entry.unwrap().path())).collect()
    }

    /// Ends all of it.
    pub async fn end(self) {
        NamespaceHypervisor::destroy(&state(self.folder.path())).await.unwrap();
    }
}

#[async_trait(?Send)]
impl Bench for NamespaceBench {
    fn adapter(&self) -> &'static str {
        "namespace"
    }

    fn hypervisor(&self) -> &dyn Hypervisor {
        &self.hypervisor
    }

    fn source(&self) -> &VmId {
        &self.source
    }

    async fn machines(&self) -> BTreeMap<String, bool> {
        let one = |(folder, record): (PathBuf, Value)| {
            let name = record["name"].as_str().unwrap().to_owned();
            (name, folder.join("running.json").exists())
        };
        self.records().into_iter().map(one).collect()
    }

    async fn things(&self) -> BTreeSet<String> {
        let folders = self.records().into_iter().map(|(folder, _)| folder.display().to_string());
        let mut things: BTreeSet<String> = folders.collect();
        // Of this folder's groups alone: others may make machines at the same time.
        let text = fs::read_to_string(state(self.folder.path()).join("fabric.json")).unwrap();
        for base in text.split('"').filter(|word| word.contains("/sinter-")) {
            let groups = fs::read_dir(base).into_iter().flatten();
            things.extend(groups.map(|group| group.unwrap().path().display().to_string()));
        }
        things
    }

    async fn keep(&mut self) -> VmId {
        self.make(KEPT, "kept", "10.77.0.2/24", &[NEVER_TOUCH]).await
    }

    /// It goes with all others.
    async fn give_free(&mut self) {}

    async fn go(&mut self) -> Held {
        Err(Fault::NotHere("there is no server, the machines are this host's own".to_owned()))
    }

    async fn come_back(&mut self) {}

    /// What ends is this program; the machines outlive it.
    async fn begin_again(&mut self) -> Held {
        self.hypervisor = open(self.folder.path()).await.map_err(Fault::Wrong)?;
        Ok(())
    }

    fn lose_next_answer(&mut self) -> Held {
        let why = "there is no wire; verbs that are killed are tests/namespace_processes.rs";
        Err(Fault::NotHere(why.to_owned()))
    }

    fn was_lost(&mut self) -> bool {
        false
    }
}
