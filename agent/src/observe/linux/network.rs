//! Interfaces and routes of the guest's network namespace.
//!
//! Interfaces come from getifaddrs and not from /sys, which in a machine made of namespaces may be the
//! host's.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

use common::sample::{Interface, Route};
use ipnet::IpNet;
use nix::{
    ifaddrs::{InterfaceAddress, getifaddrs},
    net::if_::InterfaceFlags,
    sys::socket::SockaddrStorage,
};

/// Most routes reported; a router's full table is nobody's dependency.
const MAX_ROUTES: usize = 1024;

/// Most interfaces reported.
const MAX_INTERFACES: usize = 256;

/// `RTF_UP` of the kernel's route.h.
const ROUTE_IS_UP: u32 = 0x0001;
/// `RTF_LOCAL` and `RTF_ANYCAST` of ipv6_route.h: the guest's own addresses.
const ROUTE_IS_OWN: u32 = 0x8000_0000 | 0x0010_0000;

/// Interfaces but loopback, by name.
pub(in crate::observe) fn interfaces() -> Vec<Interface> {
    let Ok(addresses) = getifaddrs() else { return Vec::new() };
    let mut interfaces: BTreeMap<String, Interface> = BTreeMap::new();
    for address in addresses {
        if address.flags.contains(InterfaceFlags::IFF_LOOPBACK) {
            continue;
        }
        let name = address.interface_name.clone();
        let interface = interfaces.entry(name.clone()).or_insert_with(|| Interface {
            name,
            mac: None,
            addresses: Vec::new(),
            up: false,
        });
        note(interface, &address);
    }
    let mut interfaces: Vec<Interface> = interfaces.into_values().take(MAX_INTERFACES).collect();
    for interface in &mut interfaces {
        interface.addresses.sort();
        interface.addresses.dedup();
    }
    interfaces
}

/// Routes that leave the guest, ascending.
pub(in crate::observe) fn routes() -> Vec<Route> {
    let v6 = std::fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    let mut routes = routes_v4();
    routes.extend(v6.lines().filter_map(route_v6));
    routes.sort_by(|a, b| {
        (a.destination, &a.interface, a.metric).cmp(&(b.destination, &b.interface, b.metric))
    });
    routes.truncate(MAX_ROUTES);
    routes
}

fn note(interface: &mut Interface, address: &InterfaceAddress) {
    interface.up |= address.flags.contains(InterfaceFlags::IFF_UP);
    let Some(of_interface) = address.address else { return };
    if let Some(mac) = of_interface.as_link_addr().and_then(|link| link.addr()) {
        let is_set = mac.iter().any(|byte| *byte != 0);
        let text = mac.map(|byte| format!("{byte:02x}")).join(":");
        interface.mac = is_set.then_some(text);
    }
    let mask = address.netmask.as_ref().and_then(ip_of);
    if let (Some(ip), Some(mask)) = (ip_of(&of_interface), mask) {
        interface.addresses.extend(IpNet::with_netmask(ip, mask));
    }
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

fn routes_v4() -> Vec<Route> {
    let entries = procfs::net::route().unwrap_or_default();
    let routes = entries.into_iter().filter_map(|entry| {
        let is_up = u32::from(entry.flags) & ROUTE_IS_UP != 0;
        let destination = IpNet::with_netmask(entry.destination.into(), entry.mask.into()).ok()?;
        let gateway = Some(entry.gateway).filter(|gateway| !gateway.is_unspecified());
        (is_up && entry.iface != "lo").then(|| Route {
            destination,
            gateway: gateway.map(IpAddr::V4),
            interface: entry.iface,
            metric: entry.metrics,
        })
    });
    routes.collect()
}

/// One line of /proc/net/ipv6_route: destination, its prefix length, source, its prefix length, next hop,
/// metric, references, uses, flags, interface; all but the last in hexadecimal.
fn route_v6(line: &str) -> Option<Route> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [destination, prefix, _, _, gateway, metric, _, _, flags, interface] = fields[..] else {
        return None;
    };
    let flags = u32::from_str_radix(flags, 16).ok()?;
    let destination = address_v6(destination)?;
    let leaves = flags & ROUTE_IS_UP != 0 && flags & ROUTE_IS_OWN == 0 && interface != "lo";
    if !leaves || destination.is_multicast() {
        return None;
    }
    let gateway = address_v6(gateway)?;
    Some(Route {
        destination: IpNet::new(destination.into(), u8::from_str_radix(prefix, 16).ok()?).ok()?,
        gateway: (!gateway.is_unspecified()).then_some(gateway.into()),
        interface: interface.to_owned(),
        metric: u32::from_str_radix(metric, 16).ok()?,
    })
}

fn address_v6(hex: &str) -> Option<Ipv6Addr> {
    u128::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 32).map(Ipv6Addr::from_bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "fd000000000000000000000000000000 40 00000000000000000000000000000000 00 \
        fd000000000000000000000000000001 00000100 00000001 00000000 00000001     eth0";

    #[test]
    fn a_line_of_the_ipv6_table_is_a_route() {
        let route = route_v6(LINE).unwrap();
        assert_eq!(route.destination.to_string(), "fd00::/64");
        assert_eq!(route.gateway, Some("fd00::1".parse().unwrap()));
        assert_eq!((route.interface.as_str(), route.metric), ("eth0", 256));
    }

    #[test]
    fn own_addresses_loopback_and_nonsense_are_no_routes() {
        assert_eq!(route_v6(&LINE.replace("00000001     eth0", "80200001     eth0")), None);
        assert_eq!(route_v6(&LINE.replace("eth0", "lo")), None);
        assert_eq!(route_v6(&LINE.replace(" 40 ", " ff ")), None);
        assert_eq!(route_v6("nonsense"), None);
    }

    #[test]
    fn no_loopback_is_reported_and_a_mac_reads_as_one() {
        for interface in interfaces() {
            assert_ne!(interface.name, "lo");
            let mac = interface.mac.unwrap_or_else(|| "00:00:00:00:00:00".into());
            assert_eq!(mac.split(':').filter(|part| part.len() == 2).count(), 6, "{mac}");
        }
        assert!(routes().iter().all(|route| route.interface != "lo"));
    }
}
