//! Calls about what a machine is given and has: CPU, memory, disks, links, and its agent.

use std::time::Duration;

use super::domain::Domain;
use crate::{
    client::Client,
    error::Error,
    procedure::{
        AGENT_COMMAND, BLOCK_COMMIT, BLOCK_JOB_ABORT, BLOCK_JOB_INFO, DOMAIN_ADDRESSES,
        DOMAIN_SET_MEMORY, DOMAIN_SET_SCHEDULER, DOMAIN_SET_VCPUS, DOMAIN_SNAPSHOT,
        DOMAIN_UPDATE_DEVICE,
    },
    xdr::{Decoder, XdrError},
};

/// Most links of a machine, and most addresses of a link.
const MOST_LINKS: usize = 2_048;

/// For [`Client::snapshot`]: disks only, all of them or none, nothing remembered of it.
pub const CREATE_SNAPSHOT_CLONE: u32 = 16 | 128 | 4;

/// What a change is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The machine as it runs.
    Live,
    /// What it will be when it is started next.
    Config,
    /// Both.
    Both,
}

impl Change {
    pub(crate) const fn flags(self) -> u32 {
        match self {
            Self::Live => 1,
            Self::Config => 2,
            Self::Both => 3,
        }
    }
}

/// Who is asked for a machine's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressSource {
    /// The leases of virtual networks.
    Lease,
    /// The agent in the guest.
    Agent,
}

/// A link of a machine with its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name: of the host's end, or of the guest's if the agent told.
    pub name: String,
    /// Its MAC.
    pub mac: Option<String>,
    /// Its addresses.
    pub addresses: Vec<InterfaceAddress>,
}

/// An address of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The address.
    pub address: String,
    /// Length of its network's prefix.
    pub prefix: u32,
}

/// How far a job on a disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockJob {
    /// Work done.
    pub done: u64,
    /// All of the work.
    pub all: u64,
}

impl BlockJob {
    /// Whether what is left can be switched over at once.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.all > 0 && self.done == self.all
    }
}

fn interface(from: &mut Decoder<'_>) -> Result<Interface, XdrError> {
    let (name, mac) = (from.text()?, from.optional(Decoder::text)?);
    let addresses = from.list(MOST_LINKS, |from| {
        let _kind = from.i32()?;
        Ok(InterfaceAddress { address: from.text()?, prefix: from.u32()? })
    })?;
    Ok(Interface { name, mac, addresses })
}

impl Client {
    /// How many CPUs a machine has.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn set_vcpus(
        &self,
        domain: &Domain,
        count: u32,
        change: Change,
    ) -> Result<(), Error> {
        let arguments = domain.arguments().u32(count).u32(change.flags());
        self.tell(DOMAIN_SET_VCPUS, arguments).await
    }

    /// How much memory a machine has, in KiB.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn set_memory(&self, domain: &Domain, kib: u64, change: Change) -> Result<(), Error> {
        let arguments = domain.arguments().u64(kib).u32(change.flags());
        self.tell(DOMAIN_SET_MEMORY, arguments).await
    }

    /// How much CPU time all of a machine's CPUs together get in a period, in microseconds;
    /// a negative quota is none.
    ///
    /// # Errors
    ///
    /// See [`Error`]. Refused where the host has no control group for it.
    pub async fn set_cpu_quota(
        &self,
        domain: &Domain,
        (period_us, quota_us): (u64, i64),
        change: Change,
    ) -> Result<(), Error> {
        const UNSIGNED_LONG: u32 = 4;
        const LONG: u32 = 3;
        let arguments = domain
            .arguments()
            .u32(2)
            .text("global_period")
            .u32(UNSIGNED_LONG)
            .u64(period_us)
            .text("global_quota")
            .u32(LONG)
            .u64(quota_us.cast_unsigned())
            .u32(change.flags());
        self.tell(DOMAIN_SET_SCHEDULER, arguments).await
    }

    /// Changes a device to what `xml` says of it, such as the network of a link.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn update_device(
        &self,
        domain: &Domain,
        xml: &str,
        change: Change,
    ) -> Result<(), Error> {
        let arguments = domain.arguments().text(xml).u32(change.flags());
        self.tell(DOMAIN_UPDATE_DEVICE, arguments).await
    }

    /// Lets a running machine go on writing to new layers of its disks, so that the present ones
    /// stay as they are. `is_quiet`: its agent first brings its file systems to rest.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn snapshot(&self, domain: &Domain, xml: &str, is_quiet: bool) -> Result<(), Error> {
        const QUIET: u32 = 64;
        let flags = CREATE_SNAPSHOT_CLONE | if is_quiet { QUIET } else { 0 };
        self.tell(DOMAIN_SNAPSHOT, domain.arguments().text(xml).u32(flags)).await
    }

    /// Begins to write the top layer of a running machine's disk into the one below.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn commit_top_layer(&self, domain: &Domain, disk: &str) -> Result<(), Error> {
        // Of several layers only the top one: the lowest may be many machines' at once.
        const SHALLOW: u32 = 1;
        const ACTIVE: u32 = 4;
        let arguments = domain.arguments().text(disk).optional_text(None).optional_text(None);
        self.tell(BLOCK_COMMIT, arguments.u64(0).u32(SHALLOW | ACTIVE)).await
    }

    /// How far the job on a disk is; `None` if there is none.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn block_job(&self, domain: &Domain, disk: &str) -> Result<Option<BlockJob>, Error> {
        self.ask(BLOCK_JOB_INFO, domain.arguments().text(disk).u32(0), |answer| {
            let is_there = answer.i32()? != 0;
            let (_kind, _bandwidth) = (answer.i32()?, answer.u64()?);
            let job = BlockJob { done: answer.u64()?, all: answer.u64()? };
            Ok(is_there.then_some(job))
        })
        .await
    }

    /// Ends a job that is ready: the machine goes on with the layer below.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn pivot(&self, domain: &Domain, disk: &str) -> Result<(), Error> {
        const PIVOT: u32 = 2;
        self.tell(BLOCK_JOB_ABORT, domain.arguments().text(disk).u32(PIVOT)).await
    }

    /// A running machine's links with their addresses.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn interface_addresses(
        &self,
        domain: &Domain,
        source: AddressSource,
    ) -> Result<Vec<Interface>, Error> {
        let source = match source {
            AddressSource::Lease => 0,
            AddressSource::Agent => 1,
        };
        self.ask(DOMAIN_ADDRESSES, domain.arguments().u32(source).u32(0), |answer| {
            answer.list(MOST_LINKS, interface)
        })
        .await
    }

    /// Whether the agent in a guest answers within whole seconds, at least one.
    ///
    /// # Errors
    ///
    /// See [`Error`]; an agent that does not answer is none.
    pub async fn agent_answers(&self, domain: &Domain, within: Duration) -> Result<bool, Error> {
        let seconds = i32::try_from(within.as_secs().max(1)).unwrap_or(i32::MAX);
        let arguments = domain.arguments().text(r#"{"execute":"guest-ping"}"#).i32(seconds).u32(0);
        match self.tell(AGENT_COMMAND, arguments).await {
            Ok(()) => Ok(true),
            Err(Error::Refused(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
