//! A prober on a bridge of this host that another hypervisor made: it is plugged in there for as long
//! as a trial lasts, asks the machine on trial as production does, and answers in the place of those
//! the machine calls. Nothing of this host but the prober can be reached over it.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd as _,
};

use ipnet::IpNet;
use nix::sys::signal::Signal;
use tracing::warn;

use super::{
    Attempt, NamespaceError, apart,
    fabric::mac,
    inner,
    launch::{self, Program, Waiting},
    layout,
    link::{self, End},
    probe::{self, LATE, MAX_DURATION},
    user,
};
use crate::hypervisor::{ProbeOrder, ProbeResult};

/// Puts load on the machines of a bridge. `inhabitants` are their addresses there, one at least.
pub(in crate::hypervisor) async fn probe(
    bridge: &str,
    inhabitants: &[IpNet],
    order: &ProbeOrder,
) -> Result<Vec<ProbeResult>, NamespaceError> {
    let (bridge, inhabitants, order) = (bridge.to_owned(), inhabitants.to_vec(), order.clone());
    apart(move || probe_from(&bridge, &inhabitants, &order)).await
}

/// Why nobody can be plugged in at a bridge; `None` if somebody can.
pub(in crate::hypervisor) async fn why_not(bridge: &str) -> Option<String> {
    let bridge = bridge.to_owned();
    apart(move || has_ground(&bridge)).await.err().map(|error| error.to_string())
}

fn has_ground(bridge: &str) -> Result<(), NamespaceError> {
    if !link::is_there(bridge)? {
        return Err(NamespaceError::Host {
            missing: format!("the bridge {bridge}"),
            remedy: "run the aggregator on the host whose machines are tried".to_owned(),
        });
    }
    may_plug_in()
}

/// Whether this process may make a prober at all.
pub(in crate::hypervisor) fn may_plug_in() -> Result<(), NamespaceError> {
    if user::may_administer() {
        return Ok(());
    }
    Err(NamespaceError::Host {
        missing: "the right to make a network namespace and plug it in".to_owned(),
        remedy: "run the aggregator as root".to_owned(),
    })
}

fn probe_from(
    bridge: &str,
    inhabitants: &[IpNet],
    order: &ProbeOrder,
) -> Result<Vec<ProbeResult>, NamespaceError> {
    has_ground(bridge)?;
    if order.duration > MAX_DURATION {
        return Err(NamespaceError::refused(format!("no probe of {:?}", order.duration)));
    }
    let subnet = inhabitants.first().copied();
    let subnet = subnet.ok_or_else(|| {
        NamespaceError::refused(format!("nobody at {bridge} has an address that is known"))
    })?;
    let occupied: BTreeSet<IpAddr> = inhabitants.iter().map(IpNet::addr).collect();
    let stand_ins = probe::stand_ins(&order.stand_ins, &occupied);
    let addresses = probe::addresses(subnet, &occupied, order, &stand_ins)?;
    ask(bridge, addresses, order, stand_ins)
}

fn ask(
    bridge: &str,
    addresses: Vec<IpNet>,
    order: &ProbeOrder,
    stand_ins: Vec<SocketAddr>,
) -> Result<Vec<ProbeResult>, NamespaceError> {
    let what = "probe a machine";
    // What it complains of stands in our own log.
    let log = io::stderr().as_fd().try_clone_to_owned();
    let log = File::from(log.or_could_not(|| "hand on our log".to_owned())?);
    let waiting = launch::launch_alone(&Program::own()?, "probe", log)?;
    let process = waiting.process.clone();
    let near = format!("q{}", layout::digest(&format!("{bridge} {}", process.pid()), 12));
    let order = ProbeOrder { stand_ins, ..order.clone() };
    let answer = plug_in(&near, bridge, addresses, &waiting)
        .and_then(|()| waiting.go(&inner::ProbeOrder(order.clone())))
        .and_then(|lines| launch::next(&lines, order.duration + LATE, what));
    if let Err(cause) = process.signal(Signal::SIGKILL) {
        warn!(%cause, "probe not ended");
    }
    serde_json::from_str(&answer?).map_err(io::Error::other).or_could_not(|| what.to_owned())
}

/// Its cable goes with its namespace.
fn plug_in(
    near: &str,
    bridge: &str,
    addresses: Vec<IpNet>,
    waiting: &Waiting,
) -> Result<(), NamespaceError> {
    let ends = [End { name: "eth0", mac: mac(near), addresses }];
    link::lay_cable(near, &ends[0], &waiting.netns)?;
    link::plug(near, Some(bridge))?;
    link::inside(&waiting.netns, || {
        link::set("net/ipv4/ip_unprivileged_port_start", "0");
        link::settle(&ends, None)?;
        // The machine may know others by these addresses, from a moment ago.
        link::announce(&ends[0])
    })
}
