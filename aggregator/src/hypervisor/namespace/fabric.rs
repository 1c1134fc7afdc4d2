//! The private network that all machines are on, and the keeper that holds it.
//!
//! Between machines there are bridges: one for production, one for each trial. To us there is a
//! cable per machine that carries one address each way; nothing is forwarded between any of them.

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::Stdio,
    time::Duration,
};

use common::id::{NetworkId, VmId};
use ipnet::{IpNet, Ipv4Net};

use super::{
    Attempt, NamespaceError,
    launch::{self, PATIENCE, Program},
    layout::{self, Layout, PRODUCTION, Record, UPLINK},
    link::{self, End},
    process::Process,
    user::REMEDY,
};

/// How long a keeper may take to say who it is, after it took the lock.
const LOCKED_PATIENCE: Duration = Duration::from_secs(5);

/// The network and its keeper.
#[derive(Debug)]
pub(super) struct Fabric {
    pub(super) keeper: Process,
    netns: File,
}

/// Short names, since the kernel takes 15 letters: of a machine's production cable, of its cable
/// to us, and of a trial's bridge.
pub(super) fn cable(vm: &VmId) -> String {
    format!("p{}", layout::digest(vm.as_str(), 12))
}

fn management_cable(vm: &VmId) -> String {
    format!("m{}", layout::digest(vm.as_str(), 12))
}

pub(super) fn bridge(network: &NetworkId) -> String {
    match network.as_str() {
        PRODUCTION => PRODUCTION.to_owned(),
        trial => format!("i{}", layout::digest(trial, 12)),
    }
}

/// A MAC that no maker of cards has, always the same for the same name.
pub(super) fn mac(name: &str) -> [u8; 6] {
    let digits = layout::digest(name, 10);
    let mut mac = [0x02, 0, 0, 0, 0, 0];
    if hex::decode_to_slice(digits, &mut mac[1..]).is_err() {
        tracing::debug!(name, "not a digest");
    }
    mac
}

/// The machine's end on the production network.
pub(super) fn production_end(record: &Record) -> End {
    End { name: "eth0", mac: mac(record.vm.as_str()), addresses: vec![record.address] }
}

/// The machine's end of the cable to us.
pub(super) fn management_end(record: &Record) -> End {
    let own = IpNet::V4(Ipv4Net::from(record.management));
    End { name: "mgmt0", mac: mac(&format!("{} management", record.vm)), addresses: vec![own] }
}

/// As people write it.
pub(super) fn shown(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn start_keeper(layout: &Layout, program: &Program) -> Result<Process, NamespaceError> {
    let folder = layout.folder().to_str();
    let folder = folder.ok_or_else(|| NamespaceError::refused("the folder's name is no text"))?;
    let what = "start the keeper of the private network";
    let mut command = program.part(&["keep", folder]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().or_could_not(|| what.to_owned())?;
    let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe);
    let said =
        launch::next(&launch::lines(output.or_could_not(|| what.to_owned())?), PATIENCE, what);
    child.wait().or_could_not(|| what.to_owned())?;
    if let Err(NamespaceError::System { cause, .. }) = said {
        let missing = format!("namespaces ({cause})");
        return Err(NamespaceError::Host { missing, remedy: REMEDY.to_owned() });
    }
    layout
        .keeper()
        .ok_or_else(|| NamespaceError::system(what, io::Error::other("it ended at once")))
}

/// The keeper that is there already, if there is one.
pub(super) fn find_keeper(layout: &Layout) -> Result<Option<Process>, NamespaceError> {
    let path = layout.folder().join("keeper.lock");
    let Ok(lock) = File::options().append(true).open(&path) else { return Ok(None) };
    if lock.try_lock().is_ok() {
        return Ok(None);
    }
    let begun = std::time::Instant::now();
    loop {
        if let Some(keeper) = layout.keeper() {
            return Ok(Some(keeper));
        }
        // It has the lock and is about to say who it is, or is about to be gone.
        if lock.try_lock().is_ok() {
            return Ok(None);
        }
        if begun.elapsed() > LOCKED_PATIENCE {
            let cause = io::Error::from(io::ErrorKind::TimedOut);
            return Err(NamespaceError::system("find who holds the private network", cause));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Fabric {
    /// Finds the network, or makes it. What is missing of it is laid again.
    pub(super) fn open(layout: &Layout, program: &Program) -> Result<Self, NamespaceError> {
        let keeper = match find_keeper(layout)? {
            Some(keeper) => keeper,
            None => start_keeper(layout, program)?,
        };
        let path = keeper.file("ns/net");
        let netns = File::open(&path).or_could_not(|| format!("open {}", path.display()))?;
        let fabric = Self { keeper, netns };
        fabric.inside(|| {
            link::forbid_forwarding()?;
            link::lay_ground(UPLINK, PRODUCTION)
        })?;
        Ok(fabric)
    }

    fn inside<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, NamespaceError> + Send,
    ) -> Result<T, NamespaceError> {
        link::inside(&self.netns, work)
    }

    pub(super) fn listen(&self, port: u16) -> Result<TcpListener, NamespaceError> {
        let address = SocketAddr::from((UPLINK, port));
        self.inside(|| {
            let listener = TcpListener::bind(address);
            listener
                .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
                .or_could_not(|| format!("listen at {address} for machines"))
        })
    }

    /// Lays a machine's cables. The production one is not plugged in yet.
    pub(super) fn wire(&self, record: &Record, netns: &File) -> Result<(), NamespaceError> {
        let ends = [production_end(record), management_end(record)];
        let (production, management) = (cable(&record.vm), management_cable(&record.vm));
        self.inside(|| {
            link::lay_cable(&production, &ends[0], netns)?;
            link::lay_cable(&management, &ends[1], netns)?;
            link::lead(&management, UPLINK, record.management)
        })?;
        link::inside(netns, || {
            // Nobody in a machine is root of its network; low ports are for everybody.
            link::set("net/ipv4/ip_unprivileged_port_start", "0");
            link::settle(&ends, Some(UPLINK))
        })
    }

    /// Lays a cable for one that is no machine and plugs it in.
    pub(super) fn wire_guest(
        &self,
        near: &str,
        network: &NetworkId,
        addresses: Vec<IpNet>,
        netns: &File,
    ) -> Result<(), NamespaceError> {
        let ends = [End { name: "eth0", mac: mac(near), addresses }];
        self.inside(|| {
            link::lay_cable(near, &ends[0], netns)?;
            link::plug(near, Some(&bridge(network)))
        })?;
        link::inside(netns, || {
            link::set("net/ipv4/ip_unprivileged_port_start", "0");
            link::settle(&ends, None)?;
            // Another may have had these addresses a moment ago: an earlier prober.
            link::announce(&ends[0])
        })
    }

    /// Plugs a running machine in where its record says, and tells its neighbours there.
    pub(super) fn plug(&self, record: &Record, process: &Process) -> Result<(), NamespaceError> {
        let bridge = record.plug.as_ref().map(bridge);
        self.inside(|| link::plug(&cable(&record.vm), bridge.as_deref()))?;
        if bridge.is_none() {
            return Ok(());
        }
        let netns = File::open(process.file("ns/net"));
        let netns = netns.or_could_not(|| format!("open the network of {}", record.vm))?;
        link::inside(&netns, || link::announce(&production_end(record)))
    }

    /// Removes a machine's cables.
    pub(super) fn unwire(&self, vm: &VmId) -> Result<(), NamespaceError> {
        self.inside(|| link::remove(&[&cable(vm), &management_cable(vm)]))
    }

    /// Removes a trial's bridge.
    pub(super) fn remove_bridge(&self, network: &NetworkId) -> Result<(), NamespaceError> {
        self.inside(|| link::remove(&[&bridge(network)]))
    }

    /// Bytes received and sent over every cable, as the machines count them.
    pub(super) fn traffic(&self) -> Result<Vec<(String, u64, u64)>, NamespaceError> {
        let counters = self.inside(link::counters)?;
        // What our end sends, the machine's receives.
        let swapped =
            counters.into_iter().map(|(name, stats)| (name, stats.tx_bytes, stats.rx_bytes));
        Ok(swapped.collect())
    }
}

/// First address for a machine's link to us that none of `taken` has.
pub(super) fn free_management(taken: &[Ipv4Addr]) -> Result<Ipv4Addr, NamespaceError> {
    let first = u32::from(UPLINK) + 1;
    let mut addresses = (first..first + (1 << 20)).map(Ipv4Addr::from);
    addresses
        .find(|address| !taken.contains(address))
        .ok_or_else(|| NamespaceError::refused("there are too many machines"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_enough_for_the_kernel_and_differ_between_machines() {
        let one: VmId = "0b6f3b0e-0000-4000-8000-000000000001".parse().unwrap();
        let two: VmId = "0b6f3b0e-0000-4000-8000-000000000002".parse().unwrap();

        assert_ne!(cable(&one), cable(&two));
        assert_ne!(mac(one.as_str()), mac(two.as_str()));
        for name in [cable(&one), management_cable(&one), bridge(&one.as_str().parse().unwrap())] {
            assert!(name.len() <= 15, "{name}");
        }
        assert!(shown(mac(one.as_str())).starts_with("02:"));
    }

    #[test]
    fn a_freed_management_address_is_given_again() {
        let [first, second] = [[100, 64, 0, 2], [100, 64, 0, 3]].map(Ipv4Addr::from);

        assert_eq!(free_management(&[]).unwrap(), first);
        assert_eq!(free_management(&[first]).unwrap(), second);
        assert_eq!(free_management(&[second]).unwrap(), first);
    }
}
