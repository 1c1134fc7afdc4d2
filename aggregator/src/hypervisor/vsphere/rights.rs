//! What a centre lets us do: the privileges that the README lists, each asked for by name.

use std::collections::BTreeSet;

use async_trait::async_trait;
use common::task::Chain;
use vsphere_soap::{Error, Watch, Watched};

use super::{VsphereHypervisor, site::Site};
use crate::hypervisor::check::{
    Check, Finding,
    Need::{self, Act, Observe, Reach},
    Standing,
};

/// Of a network's type whose links are known by a number of its own, not by a name.
const OPAQUE: &str = "OpaqueNetwork";

/// Every privilege that we use on the root folder, and what does not work without it.
const PRIVILEGES: [(Need, &str, &str); 17] = [
    (Observe, "System.View", "nothing is seen"),
    (Observe, "System.Read", "hosts, machines and counters are not seen"),
    (Act, "VirtualMachine.Provisioning.Clone", "no clone is made, so that no plan is tried"),
    (Act, "VirtualMachine.Inventory.CreateFromExisting", "no clone is made"),
    (Act, "VirtualMachine.Inventory.Delete", "clones stay after their trial"),
    (Act, "VirtualMachine.Config.CPUCount", "CPUs are not changed"),
    (Act, "VirtualMachine.Config.Memory", "memory is not changed"),
    (Act, "VirtualMachine.Config.Resource", "limits are not changed"),
    (Act, "VirtualMachine.Config.EditDevice", "no clone is isolated or promoted"),
    (Act, "VirtualMachine.Config.Settings", "no clone gets a uuid of its own"),
    (Act, "VirtualMachine.Config.AdvancedConfig", "no clone is marked as ours, so none is made"),
    (Act, "VirtualMachine.Interact.PowerOn", "no clone starts, and no source comes back"),
    (Act, "VirtualMachine.Interact.PowerOff", "no clone is stopped, and none is promoted"),
    (Act, "Resource.AssignVMToPool", "no clone is made"),
    (Act, "Datastore.AllocateSpace", "no clone is made"),
    (Act, "Network.Assign", "no clone is isolated or promoted"),
    (Act, "Host.Config.Network", "no network for a trial is made"),
];

#[async_trait]
impl Check for VsphereHypervisor {
    async fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for site in self.sites.iter() {
            site.check(&mut findings).await;
        }
        findings
    }
}

impl Site {
    async fn check(&self, findings: &mut Vec<Finding>) {
        let (address, login) = standings(self.client.session().await);
        let goes_on = login == Some(Standing::Granted);
        findings.push(Finding::new(Reach, "address and certificate", address, "nothing works"));
        if let Some(login) = login {
            findings.push(Finding::new(Reach, "user and password", login, "nothing works"));
        }
        if goes_on {
            self.check_privileges(findings).await;
            self.check_uplinks(findings).await;
        }
    }

    async fn check_privileges(&self, findings: &mut Vec<Finding>) {
        let names = PRIVILEGES.map(|(_, name, _)| name);
        let told = match self.client.session().await {
            Ok(session) => match session.content.object("rootFolder") {
                Ok(root) => self.client.privileges(&root, &names).await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        for (need, name, cost) in PRIVILEGES {
            let standing = match &told {
                Ok(told) => match told.get(name) {
                    Some(true) => Standing::Granted,
                    Some(false) => {
                        let remedy = "add it to the user's role there, passed on to what is below";
                        Standing::Missing(format!("not granted on the root folder; {remedy}"))
                    }
                    None => Standing::Unknown("not told by this server".to_owned()),
                },
                Err(error) => {
                    Standing::Unknown(format!("not told by this server: {}", Chain(error)))
                }
            };
            findings.push(Finding::new(need, name, standing, cost));
        }
    }

    async fn check_uplinks(&self, findings: &mut Vec<Finding>) {
        if self.uplinks.is_empty() {
            return;
        }
        let seen = self.network_names().await;
        for uplink in &self.uplinks {
            let standing = match &seen {
                Ok((names, _)) if names.contains(uplink) => Standing::Granted,
                Ok((_, true)) => {
                    Standing::Unknown("no network has that name, an opaque one may".to_owned())
                }
                Ok(_) => Standing::Missing("no network that we see has that name".to_owned()),
                Err(error) => Standing::Unknown(Chain(error).to_string()),
            };
            let cost = "a trial takes from the clone its way to the aggregator";
            findings.push(Finding::new(Act, format!("uplink {uplink}"), standing, cost));
        }
    }

    /// Names of all networks, and whether there are any that are not known by theirs.
    async fn network_names(&self) -> Result<(BTreeSet<String>, bool), Error> {
        let watched: [Watched<'_>; 2] =
            [("Network", &["name"]), ("DistributedVirtualPortgroup", &["name"])];
        let mut watch = Watch::begin(&self.client, &watched).await?;
        let (mut names, mut has_opaque) = (BTreeSet::new(), false);
        loop {
            let page = watch.next(&self.client).await?;
            for update in page.updates {
                has_opaque |= update.of.kind == OPAQUE;
                let told = update.properties.into_iter().filter_map(|(_, value)| value);
                names.extend(told.map(|value| value.text));
            }
            if !page.has_more {
                watch.end(&self.client).await;
                return Ok((names, has_opaque));
            }
        }
    }
}

/// Whether somebody whom we believe answers, and whether we are let in; `None` if that was not
/// asked.
fn standings<T>(session: Result<T, Error>) -> (Standing, Option<Standing>) {
    let missing = |error: &Error| Standing::Missing(Chain(error).to_string());
    match session {
        Ok(_) => (Standing::Granted, Some(Standing::Granted)),
        // Read once somebody answered.
        Err(error @ (Error::Fault { .. } | Error::Login(_))) => {
            (Standing::Granted, Some(missing(&error)))
        }
        Err(error) => (missing(&error), None),
    }
}
