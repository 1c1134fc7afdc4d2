//! What a host lets us do: every observing call is made once, and rights to act are shown by acts
//! that leave all as it is.
//!
//! libvirt tells nobody what they may do. A connection that may only read, or a user whom its access
//! rules hold back, is refused by an error of its own. What would change something, such as starting
//! a machine, is not tried: where the rules are finer than reading and writing, they are not seen.

use std::collections::BTreeSet;

use async_trait::async_trait;
use common::task::Chain;
use libvirt_rpc::{
    Domain, Error, Network, Pool, Volume, XmlKind,
    address::Transport,
    code::{ACCESS_DENIED, AUTH_FAILED, OPERATION_DENIED, OPERATION_INVALID, VOLUME_EXISTS},
    xml::Element,
};

use super::{LibvirtHypervisor, description, layers::volume_xml, site::Site, tag};
use crate::hypervisor::{
    NEVER_TOUCH,
    check::{
        Check, Finding,
        Need::{self, Act, Observe, Reach},
        Standing,
    },
    namespace::beside,
};

/// Machines, networks or pools that are tried before it is said that none can be had.
const TRIED: usize = 8;

#[async_trait]
impl Check for LibvirtHypervisor {
    async fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for site in self.sites.iter() {
            site.check(&mut findings).await;
        }
        findings
    }
}

/// What a host has to try rights on.
#[derive(Default)]
struct There {
    /// With their descriptions.
    machines: Vec<(Domain, Element)>,
    networks: Vec<Network>,
    pools: Vec<Pool>,
    /// Names that a link may lead into.
    plugs: BTreeSet<String>,
}

/// Notes whether a call was answered; gives what it told.
fn answered<T>(
    findings: &mut Vec<Finding>,
    (need, what, cost): (Need, &str, &str),
    done: Result<T, Error>,
) -> Option<T> {
    let standing = match &done {
        Ok(_) => Standing::Granted,
        Err(error @ Error::Refused(_)) => Standing::Missing(error.to_string()),
        Err(error) => Standing::Unknown(Chain(error).to_string()),
    };
    findings.push(Finding::new(need, what, standing, cost));
    done.ok()
}

/// Whether an act that changes nothing may be done; a refusal for another reason says nothing.
fn standing_of(done: Result<(), Error>) -> Standing {
    match done {
        Ok(()) => Standing::Granted,
        // libvirt looks at rights before it looks at states: a network that is defined nowhere, for
        // one, cannot come up with its host.
        Err(error) if error.is(&[OPERATION_INVALID]) => Standing::Granted,
        Err(error) if error.is(&[ACCESS_DENIED, OPERATION_DENIED, AUTH_FAILED]) => {
            let remedy = "let this user read and write, by the socket's group or an access rule";
            Standing::Missing(format!("{error}; {remedy}"))
        }
        Err(error) => Standing::Unknown(Chain(&error).to_string()),
    }
}

impl Site {
    async fn check(&self, findings: &mut Vec<Finding>) {
        let connected = self.client.connect().await;
        let reached = match &connected {
            Ok(()) => Standing::Granted,
            Err(error) => Standing::Missing(Chain(error).to_string()),
        };
        let what = "address, certificate and user";
        findings.push(Finding::new(Reach, what, reached, "nothing works"));
        if connected.is_err() {
            return;
        }
        let there = self.check_observing(findings).await;
        self.check_acting(&there, findings).await;
        for uplink in &self.uplinks {
            let standing = match there.plugs.contains(uplink) {
                true => Standing::Granted,
                false => Standing::Missing("there is no such network or bridge".to_owned()),
            };
            let cost = "a trial takes from the clone its way to the aggregator";
            findings.push(Finding::new(Act, format!("uplink {uplink}"), standing, cost));
        }
    }

    async fn check_observing(&self, findings: &mut Vec<Finding>) -> There {
        const HOST: &str = "the host is not seen";
        let client = &self.client;
        let mut there = There::default();
        answered(findings, (Observe, "name of the host", HOST), client.hostname().await);
        answered(findings, (Observe, "uuid of the host", HOST), client.capabilities().await);
        answered(findings, (Observe, "size of the host", HOST), client.node_info().await);
        let what = (Observe, "counters of machines", "what machines use is not known");
        answered(findings, what, client.stats().await);
        let what = (Observe, "links of the host", "the host's own addresses are not known");
        let links = answered(findings, what, client.interfaces().await).unwrap_or_default();
        there.plugs.extend(links.into_iter().map(|(name, _)| name));
        let what = (Observe, "networks", "what machines are plugged into is not known");
        there.networks = answered(findings, what, client.networks().await).unwrap_or_default();
        there.plugs.extend(there.networks.iter().map(|network| network.name.clone()));
        let what = (Observe, "pools of storage", "no disk is known, and no clone can be made");
        there.pools = answered(findings, what, client.pools().await).unwrap_or_default();
        let what = (Observe, "machines", "nothing is seen");
        let domains = answered(findings, what, client.domains().await).unwrap_or_default();
        let mut first = None;
        for domain in domains {
            let told = client.domain_xml(&domain, XmlKind::Present).await;
            if let Some(told) = told.as_ref().ok().and_then(|told| Element::parse(told).ok()) {
                there.plugs.extend(description::networks(&told));
                there.machines.push((domain, told));
            }
            first.get_or_insert(told);
        }
        if let Some(first) = first {
            let what = (Observe, "descriptions of machines", "nothing is seen");
            answered(findings, what, first);
        }
        there
    }

    async fn check_acting(&self, there: &There, findings: &mut Vec<Finding>) {
        let machines = self.may_change_machines(there).await;
        let cost = "no machine is cloned, changed, started, stopped or promoted";
        findings.push(Finding::new(Act, "to change machines", machines, cost));
        let secret = self.may_read_secrets(there).await;
        let cost = "no clone is made: what it is made of is not told whole";
        findings.push(Finding::new(Act, "whole descriptions of machines", secret, cost));
        let networks = self.may_change_networks(there).await;
        let cost = "no network for a trial is made";
        findings.push(Finding::new(Act, "to change networks", networks, cost));
        let (refresh, volumes) = self.may_change_pools(there).await;
        let cost = "disks that others made are not cloned";
        findings.push(Finding::new(Act, "to look through pools", refresh, cost));
        let cost = "no clone gets disks";
        findings.push(Finding::new(Act, "to make volumes", volumes, cost));
        let cost = "no load is put on a clone: its trial says only whether it runs";
        findings.push(Finding::new(Act, "to make the prober", self.may_probe(), cost));
    }

    /// Whether a machine starts with its host is set to what it is.
    async fn may_change_machines(&self, there: &There) -> Standing {
        let mut last = Standing::Unknown("there is no machine to try it on".to_owned());
        let ours = |(_, told): &&(Domain, Element)| !tag::labels(told).contains(NEVER_TOUCH);
        for (domain, _) in there.machines.iter().filter(ours).take(TRIED) {
            let done = match self.client.autostart(domain).await {
                Ok(is) => self.client.set_autostart(domain, is).await,
                Err(error) => Err(error),
            };
            last = standing_of(done);
            if !matches!(last, Standing::Unknown(_)) {
                break;
            }
        }
        last
    }

    async fn may_read_secrets(&self, there: &There) -> Standing {
        match there.machines.first() {
            Some((domain, _)) => {
                standing_of(self.client.domain_xml(domain, XmlKind::Secret).await.map(drop))
            }
            None => Standing::Unknown("there is no machine to try it on".to_owned()),
        }
    }

    /// Whether a network comes up with its host is set to what it is.
    async fn may_change_networks(&self, there: &There) -> Standing {
        let mut last = Standing::Unknown("there is no network to try it on".to_owned());
        for network in there.networks.iter().take(TRIED) {
            let done = match self.client.network_autostart(network).await {
                Ok(is) => self.client.set_network_autostart(network, is).await,
                Err(error) => Err(error),
            };
            last = standing_of(done);
            if !matches!(last, Standing::Unknown(_)) {
                break;
            }
        }
        last
    }

    /// A pool looks again at what is in it, and is asked for a volume by the name of one it has: who
    /// may make none is told so, who may is told that it is there.
    async fn may_change_pools(&self, there: &There) -> (Standing, Standing) {
        let none = |what: &str| Standing::Unknown(format!("there is no {what} to try it on"));
        let (mut refresh, mut volumes) = (none("pool"), none("volume"));
        for pool in there.pools.iter().take(TRIED) {
            if !matches!(refresh, Standing::Granted | Standing::Missing(_)) {
                refresh = standing_of(self.client.refresh_pool(pool).await);
            }
            let one =
                self.client.volumes(pool).await.ok().and_then(|volumes| volumes.into_iter().next());
            if let Some(one) = one {
                volumes = self.may_make(pool, &one).await;
            }
            if !matches!(volumes, Standing::Unknown(_)) {
                break;
            }
        }
        (refresh, volumes)
    }

    async fn may_make(&self, pool: &Pool, taken: &Volume) -> Standing {
        match self.client.create_volume(pool, &volume_xml(&taken.name, 0, None)).await {
            Err(error) if error.is(&[VOLUME_EXISTS]) => Standing::Granted,
            // The one of that name went meanwhile, and this one is ours.
            Ok(made) => standing_of(self.client.delete_volume(&made).await),
            Err(error) => standing_of(Err(error)),
        }
    }

    /// Whoever asks the machine on trial stands on its host.
    fn may_probe(&self) -> Standing {
        if let Transport::Tls { host, .. } = &self.client.address().transport {
            return Standing::Missing(format!("the aggregator does not run on {host}"));
        }
        match beside::may_plug_in() {
            Ok(()) => Standing::Granted,
            Err(error) => Standing::Missing(error.to_string()),
        }
    }
}
