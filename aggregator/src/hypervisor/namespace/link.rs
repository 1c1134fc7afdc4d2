//! Links, bridges, addresses and routes in a network namespace, by netlink.
//!
//! A namespace is entered by a thread of its own that ends there: the host's own network is never
//! touched, and no thread of the runtime is ever elsewhere than it thinks.

use std::{
    fs::{self, File},
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::AsRawFd,
    thread,
};

use futures::TryStreamExt;
use ipnet::IpNet;
use nix::sched::{CloneFlags, setns};
use rtnetlink::{
    Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_route::{
        link::{InfoData, InfoVeth, LinkAttribute, LinkMessage, Stats64},
        route::RouteScope,
    },
};
use tokio::runtime;

use super::{Attempt, NamespaceError};

/// A machine's end of a cable.
#[derive(Debug, Clone)]
pub(super) struct End {
    pub(super) name: &'static str,
    pub(super) mac: [u8; 6],
    pub(super) addresses: Vec<IpNet>,
}

/// Runs `work` on a thread inside a network namespace.
pub(super) fn inside<T: Send>(
    netns: &File,
    work: impl FnOnce() -> Result<T, NamespaceError> + Send,
) -> Result<T, NamespaceError> {
    let entered = || {
        setns(netns, CloneFlags::CLONE_NEWNET)
            .or_could_not(|| "enter a network namespace".to_owned())?;
        work()
    };
    let joined = thread::scope(|scope| scope.spawn(entered).join());
    joined.unwrap_or_else(|_| {
        let cause = io::Error::other("its thread panicked");
        Err(NamespaceError::system("work in a network namespace", cause))
    })
}

/// Speaks netlink in the namespace that this thread is in.
fn netlink<T>(
    what: &str,
    work: impl AsyncFnOnce(Handle) -> Result<T, rtnetlink::Error>,
) -> Result<T, NamespaceError> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.or_could_not(|| "make a runtime".to_owned())?;
    let outcome = runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::select! {
            () = connection => Err(io::Error::from(io::ErrorKind::ConnectionAborted)),
            outcome = work(handle) => outcome.map_err(as_io),
        }
    });
    outcome.or_could_not(|| what.to_owned())
}

fn as_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}

fn errno(error: &rtnetlink::Error) -> Option<nix::Error> {
    match error {
        rtnetlink::Error::NetlinkError(message) => {
            Some(nix::Error::from_raw(message.raw_code().saturating_abs()))
        }
        _ => None,
    }
}

/// Finding the work done is success.
fn unless_there(outcome: Result<(), rtnetlink::Error>) -> Result<(), rtnetlink::Error> {
    match outcome {
        Err(error) if errno(&error) == Some(nix::Error::EEXIST) => Ok(()),
        other => other,
    }
}

async fn index(handle: &Handle, name: &str) -> Result<Option<u32>, rtnetlink::Error> {
    let mut found = handle.link().get().match_name(name.to_owned()).execute();
    match found.try_next().await {
        Ok(link) => Ok(link.map(|link| link.header.index)),
        Err(error) if errno(&error) == Some(nix::Error::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn known(handle: &Handle, name: &str) -> Result<u32, rtnetlink::Error> {
    index(handle, name).await?.ok_or(rtnetlink::Error::RequestFailed)
}

async fn up(handle: &Handle, name: &str) -> Result<(), rtnetlink::Error> {
    handle.link().set(LinkUnspec::new_with_name(name).up().build()).execute().await
}

async fn ensure_bridge(handle: &Handle, name: &str) -> Result<u32, rtnetlink::Error> {
    unless_there(handle.link().add(LinkBridge::new(name).build()).execute().await)?;
    up(handle, name).await?;
    known(handle, name).await
}

async fn delete(handle: &Handle, name: &str) -> Result<(), rtnetlink::Error> {
    let Some(index) = index(handle, name).await? else { return Ok(()) };
    match handle.link().del(index).execute().await {
        Err(error) if errno(&error) == Some(nix::Error::ENODEV) => Ok(()),
        other => other,
    }
}

/// The ground of the private network: our own address, and a bridge.
pub(super) fn lay_ground(uplink: Ipv4Addr, bridge: &str) -> Result<(), NamespaceError> {
    netlink("lay the private network", async |handle| {
        up(&handle, "lo").await?;
        let lo = known(&handle, "lo").await?;
        let address = handle.address().add(lo, IpAddr::V4(uplink), 32);
        unless_there(address.execute().await)?;
        ensure_bridge(&handle, bridge).await?;
        Ok(())
    })
}

/// Lays a cable from `near` here to `far` in another namespace. What is called `near` here is
/// replaced.
pub(super) fn lay_cable(near: &str, far: &End, netns: &File) -> Result<(), NamespaceError> {
    netlink("lay a cable into a namespace", async |handle| {
        delete(&handle, near).await?;
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(far.name.to_owned())
            .address(far.mac.to_vec())
            .setns_by_fd(netns.as_raw_fd())
            .build();
        let cable =
            LinkVeth::new(near, far.name).set_info_data(InfoData::Veth(InfoVeth::Peer(peer)));
        handle.link().add(cable.build()).execute().await
    })
}

/// Plugs the near end of a cable into a bridge, made if it is not there, or into none.
pub(super) fn plug(near: &str, bridge: Option<&str>) -> Result<(), NamespaceError> {
    netlink("plug in a link", async |handle| {
        let end = LinkUnspec::new_with_name(near);
        let end = match bridge {
            Some(bridge) => end.controller(ensure_bridge(&handle, bridge).await?).up(),
            None => end.nocontroller().down(),
        };
        handle.link().set(end.build()).execute().await
    })
}

/// Leads to `far` over the near end of a cable.
pub(super) fn lead(near: &str, own: Ipv4Addr, far: Ipv4Addr) -> Result<(), NamespaceError> {
    netlink("lead to a machine", async |handle| {
        up(&handle, near).await?;
        route(&handle, near, own, far).await
    })
}

async fn route(
    handle: &Handle,
    link: &str,
    own: Ipv4Addr,
    far: Ipv4Addr,
) -> Result<(), rtnetlink::Error> {
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(far, 32)
        .output_interface(known(handle, link).await?)
        .pref_source(own)
        .scope(RouteScope::Link)
        .build();
    unless_there(handle.route().add(route).execute().await)
}

/// Gives the ends that lie in this namespace their addresses, and a way to `uplink` over the last
/// of them if there is one.
pub(super) fn settle(ends: &[End], uplink: Option<Ipv4Addr>) -> Result<(), NamespaceError> {
    netlink("set up a machine's links", async |handle| {
        up(&handle, "lo").await?;
        for end in ends {
            let index = known(&handle, end.name).await?;
            for address in &end.addresses {
                let order = handle.address().add(index, address.addr(), address.prefix_len());
                unless_there(order.execute().await)?;
            }
            up(&handle, end.name).await?;
        }
        let last = ends.last().map(|end| (end.name, end.addresses.first()));
        match (uplink, last) {
            (Some(uplink), Some((name, Some(IpNet::V4(own))))) => {
                route(&handle, name, own.addr(), uplink).await
            }
            _ => Ok(()),
        }
    })
}

/// Tells all neighbours which MAC has this end's addresses now. Without it they would call the
/// machine that had them before until they forget it.
pub(super) fn announce(end: &End) -> Result<(), NamespaceError> {
    set("net/ipv4/conf/all/arp_notify", "1");
    netlink("announce a machine's addresses", async |handle| {
        // Said again, the MAC is announced as if it had changed.
        let again = LinkUnspec::new_with_name(end.name).address(end.mac.to_vec());
        handle.link().set(again.build()).execute().await
    })
}

/// Whether there is a link of that name here.
pub(super) fn is_there(name: &str) -> Result<bool, NamespaceError> {
    netlink("look for a link", async |handle| Ok(index(&handle, name).await?.is_some()))
}

/// Deletes links here; one that is not there is success.
pub(super) fn remove(names: &[&str]) -> Result<(), NamespaceError> {
    netlink("remove a link", async |handle| {
        for name in names {
            delete(&handle, name).await?;
        }
        Ok(())
    })
}

/// Names and counters of all links here.
pub(super) fn counters() -> Result<Vec<(String, Stats64)>, NamespaceError> {
    netlink("read the links' counters", async |handle| {
        let mut links = handle.link().get().execute();
        let mut found = Vec::new();
        while let Some(link) = links.try_next().await? {
            found.extend(counted(&link));
        }
        Ok(found)
    })
}

fn counted(link: &LinkMessage) -> Option<(String, Stats64)> {
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })?;
    let stats = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Stats64(stats) => Some(*stats),
        _ => None,
    })?;
    Some((name, stats))
}

/// Sets a kernel parameter of the namespace that this thread is in; `false` if that is refused.
pub(super) fn set(parameter: &str, value: &str) -> bool {
    fs::write(format!("/proc/sys/{parameter}"), value).is_ok()
}

/// Makes sure that nothing is forwarded between the links of this namespace. Namespaces are born
/// with the host's setting, which routes on many hosts.
pub(super) fn forbid_forwarding() -> Result<(), NamespaceError> {
    let parameter = "net/ipv4/ip_forward";
    if !set(parameter, "0") {
        let now = fs::read_to_string(format!("/proc/sys/{parameter}"));
        if now.is_ok_and(|now| now.trim() != "0") {
            return Err(NamespaceError::Host {
                missing: "a writable /proc/sys, to forbid forwarding between machines".to_owned(),
                remedy: "mount it so, or turn net.ipv4.ip_forward off on the host".to_owned(),
            });
        }
    }
    // Machines reach us over IPv4; what has no address cannot be spoken to.
    set("net/ipv6/conf/all/disable_ipv6", "1");
    set("net/ipv6/conf/default/disable_ipv6", "1");
    Ok(())
}
