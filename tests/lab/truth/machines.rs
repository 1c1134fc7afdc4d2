//! Machines for the ground truth: network namespaces on one bridge, each with an address of either
//! family. They are gone when the network is dropped, also after a test that failed.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

/// One machine.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Its name in the course.
    pub name: String,
    /// The file of its network namespace.
    pub namespace: PathBuf,
    /// Its address of IPv4.
    pub v4: Ipv4Addr,
    /// Its address of IPv6.
    pub v6: Ipv6Addr,
}

impl Machine {
    /// `port` at its address of IPv4.
    #[must_use]
    pub const fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.v4), port)
    }

    /// `port` at its address of IPv6.
    #[must_use]
    pub const fn at_v6(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V6(self.v6), port)
    }

    /// `port` at its address of IPv4, written as one of IPv6.
    #[must_use]
    pub const fn at_mapped(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V6(self.v4.to_ipv6_mapped()), port)
    }
}

/// An address that nothing has, on the machines' own network: packets to it vanish.
pub const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 250);

/// Machines that reach each other and nothing else.
#[derive(Debug)]
pub struct Network {
    /// The machines.
    pub machines: Vec<Machine>,
    spaces: Vec<String>,
}

impl Network {
    /// Makes machines of those names.
    ///
    /// # Errors
    ///
    /// If `ip` is not installed or this process may not make namespaces.
    pub fn build(names: &[&str]) -> io::Result<Self> {
        static NETWORKS: AtomicU32 = AtomicU32::new(0);
        let number = NETWORKS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("sinter-truth-{}-{number}", std::process::id());
        let mut network = Self { machines: Vec::new(), spaces: Vec::new() };
        let hub = network.space(&format!("{prefix}-hub"))?;
        ip(&["-n", &hub, "link", "add", "bridge", "type", "bridge"])?;
        ip(&["-n", &hub, "link", "set", "bridge", "up"])?;
        for (name, number) in names.iter().zip(1_u8..) {
            let space = network.space(&format!("{prefix}-{name}"))?;
            let machine = Machine {
                name: (*name).to_owned(),
                namespace: PathBuf::from("/run/netns").join(&space),
                v4: Ipv4Addr::new(10, 88, 0, number),
                v6: Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, u16::from(number)),
            };
            plug(&hub, &space, &machine, number)?;
            network.machines.push(machine);
        }
        Ok(network)
    }

    fn space(&mut self, name: &str) -> io::Result<String> {
        ip(&["netns", "add", name])?;
        self.spaces.push(name.to_owned());
        Ok(name.to_owned())
    }

    /// The machine of that name.
    ///
    /// # Panics
    ///
    /// If there is none, which is a mistake in the course.
    #[must_use]
    pub fn machine(&self, name: &str) -> &Machine {
        let found = self.machines.iter().find(|machine| machine.name == name);
        found.unwrap_or_else(|| panic!("the network has no machine {name}"))
    }
}

fn plug(hub: &str, space: &str, machine: &Machine, number: u8) -> io::Result<()> {
    let port = format!("port{number}");
    ip(&["-n", hub, "link", "add", &port, "type", "veth", "peer", "eth0", "netns", space])?;
    ip(&["-n", hub, "link", "set", &port, "master", "bridge", "up"])?;
    ip(&["-n", space, "link", "set", "lo", "up"])?;
    ip(&["-n", space, "link", "set", "eth0", "up"])?;
    let (v4, v6) = (format!("{}/24", machine.v4), format!("{}/64", machine.v6));
    ip(&["-n", space, "addr", "add", &v4, "dev", "eth0"])?;
    // Without the test for duplicates, which makes an address useless for its first second.
    ip(&["-n", space, "addr", "add", &v6, "dev", "eth0", "nodad"])?;
    // So that nobody asks who has it, and finds out that nobody has.
    let nobody = NOBODY.to_string();
    ip(&["-n", space, "neigh", "add", &nobody, "lladdr", "02:00:00:00:00:fa", "dev", "eth0"])
}

/// Runs `ip`.
///
/// # Errors
///
/// If it is not there or refuses; its own words are the error.
pub fn ip(arguments: &[&str]) -> io::Result<()> {
    let output = Command::new("ip").args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("ip {}: {}", arguments.join(" "), said.trim())))
}

impl Drop for Network {
    fn drop(&mut self) {
        for space in &self.spaces {
            drop(ip(&["netns", "del", space]));
        }
    }
}
