//! What is known of one centre: read whole once, then kept by what changed.

use std::collections::{BTreeMap, BTreeSet};

use tracing::debug;
use vsphere_soap::{Change, Client, Error, Moref, Update, Watch, Watched};

use super::facts::{DATASTORE, DatastoreFacts, HOST, HostFacts, LAYOUT, MACHINE, MachineFacts};
use super::progress::Progress;

/// All that is watched.
#[derive(Debug)]
pub(super) struct Known {
    watch: Watch,
    pub(super) machines: BTreeMap<Moref, MachineFacts>,
    pub(super) hosts: BTreeMap<Moref, HostFacts>,
    pub(super) datastores: BTreeMap<Moref, DatastoreFacts>,
    /// Names of networks by the value of their reference.
    pub(super) networks: BTreeMap<String, String>,
}

fn machine_paths() -> Vec<&'static str> {
    MACHINE.into_iter().chain([LAYOUT]).collect()
}

impl Known {
    async fn begin(client: &Client, progress: &Progress) -> Result<Self, Error> {
        let machine = machine_paths();
        let watched: [Watched<'_>; 5] = [
            ("VirtualMachine", &machine),
            ("HostSystem", &HOST),
            ("Datastore", &DATASTORE),
            ("Network", &["name"]),
            ("DistributedVirtualPortgroup", &["name"]),
        ];
        let watch = Watch::begin(client, &watched).await?;
        progress.begin(watch.count(client).await?);
        Ok(Self {
            watch,
            machines: BTreeMap::new(),
            hosts: BTreeMap::new(),
            datastores: BTreeMap::new(),
            networks: BTreeMap::new(),
        })
    }

    /// What there is now. What was known is of use as long as its session lasts; whoever fails
    /// leaves nothing behind, so that the next one begins anew.
    pub(super) async fn refresh(
        held: &mut Option<Self>,
        client: &Client,
        progress: &Progress,
    ) -> Result<(), Error> {
        if let Some(mut known) = held.take()
            && known.watch.is_current(client).await?
        {
            match known.catch_up(client, progress).await {
                Ok(()) => {
                    *held = Some(known);
                    return Ok(());
                }
                // What was made in a session ends with it, or is thrown away in need.
                Err(error) if error.is(&["NotAuthenticated", "ManagedObjectNotFound"]) => {
                    debug!(%error, "inventory read anew");
                }
                Err(error) => {
                    known.watch.end(client).await;
                    return Err(error);
                }
            }
        }
        let mut known = Self::begin(client, progress).await?;
        let read = known.catch_up(client, progress).await;
        progress.end();
        match read {
            Ok(()) => *held = Some(known),
            Err(error) => {
                known.watch.end(client).await;
                return Err(error);
            }
        }
        Ok(())
    }

    async fn catch_up(&mut self, client: &Client, progress: &Progress) -> Result<(), Error> {
        let (mut changed, mut entered) = (BTreeSet::new(), BTreeSet::new());
        let mut is_anew = false;
        loop {
            let page = self.watch.next(client).await?;
            for update in page.updates {
                if update.change == Change::Enter {
                    is_anew |= self.knows(&update.of);
                    entered.insert(update.of.clone());
                }
                changed.extend(self.take(update));
                progress.one_more();
            }
            if !page.has_more {
                break;
            }
        }
        if is_anew {
            self.forget_gone(client, &entered).await?;
        }
        self.read_anew(client, changed).await
    }

    fn knows(&self, of: &Moref) -> bool {
        let is_device = self.hosts.contains_key(of) || self.datastores.contains_key(of);
        is_device || self.machines.contains_key(of) || self.networks.contains_key(&of.value)
    }

    /// A server that lets come what is there already may be telling all of it anew, and some lose the
    /// leaving over that; or it does so with one object alone. So what it did not name is asked for:
    /// what is gone has no answer. Names of networks are of no harm when they stay.
    async fn forget_gone(
        &mut self,
        client: &Client,
        entered: &BTreeSet<Moref>,
    ) -> Result<(), Error> {
        let unnamed = |of: &&Moref| !entered.contains(*of);
        let asked: [(&str, &str, Vec<Moref>); 3] = [
            ("VirtualMachine", "name", self.machines.keys().filter(unnamed).cloned().collect()),
            ("HostSystem", "name", self.hosts.keys().filter(unnamed).cloned().collect()),
            ("Datastore", "name", self.datastores.keys().filter(unnamed).cloned().collect()),
        ];
        for (kind, path, unnamed) in asked {
            if unnamed.is_empty() {
                continue;
            }
            let there = client.properties(kind, &unnamed, &[path]).await?;
            let there: BTreeSet<Moref> = there.into_iter().map(|object| object.of).collect();
            for gone in unnamed.iter().filter(|of| !there.contains(of)) {
                self.machines.remove(gone);
                self.hosts.remove(gone);
                self.datastores.remove(gone);
            }
        }
        Ok(())
    }

    /// Takes a change in; gives a machine of which more may have changed than was told.
    fn take(&mut self, update: Update) -> Option<Moref> {
        let Update { of, change, properties } = update;
        if change == Change::Leave {
            self.machines.remove(&of);
            self.hosts.remove(&of);
            self.datastores.remove(&of);
            self.networks.remove(&of.value);
            return None;
        }
        let told = properties.iter().map(|(path, value)| (path.as_str(), value.as_ref()));
        match of.kind.as_str() {
            "VirtualMachine" => {
                let machine = self.machines.entry(of.clone()).or_default();
                let version = machine.version.clone();
                told.for_each(|(path, value)| machine.take(path, value));
                let is_other = change == Change::Modify && machine.version != version;
                return is_other.then_some(of);
            }
            "HostSystem" => {
                let host = self.hosts.entry(of).or_default();
                told.for_each(|(path, value)| host.take(path, value));
            }
            "Datastore" => {
                let datastore = self.datastores.entry(of).or_default();
                told.for_each(|(path, value)| datastore.take(path, value));
            }
            _ => {
                let names = told.filter(|(path, _)| *path == "name");
                for name in names.filter_map(|(_, value)| value) {
                    self.networks.insert(of.value.clone(), name.text.clone());
                }
            }
        }
        None
    }

    /// A machine whose configuration has another version is read again: servers tell that version
    /// always, and not always all that came with it.
    async fn read_anew(&mut self, client: &Client, changed: BTreeSet<Moref>) -> Result<(), Error> {
        if changed.is_empty() {
            return Ok(());
        }
        let changed: Vec<Moref> = changed.into_iter().collect();
        for object in client.properties("VirtualMachine", &changed, &machine_paths()).await? {
            let facts = MachineFacts::of(&object);
            // One that is gone meanwhile stays gone.
            self.machines.entry(object.of).and_modify(|known| *known = facts);
        }
        Ok(())
    }
}
