//! Calls about the host.

use std::collections::BTreeMap;

use crate::{
    client::Client,
    error::Error,
    procedure::{CAPABILITIES, HOSTNAME, INTERFACES, NODE_INFO, NODE_MEMORY},
    xdr::{Decoder, Encoder},
};

/// Length of the model's name.
const MODEL: usize = 32;
/// Most figures of a host's memory.
const MOST_FIGURES: usize = 16;
/// Most interfaces of a host.
const MOST_INTERFACES: usize = 16_384;

/// What a host is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its memory, in KiB.
    pub memory_kib: u64,
    /// Its CPUs that may be used.
    pub cpus: u32,
    /// Their frequency in MHz; zero if not known.
    pub mhz: u32,
}

impl Client {
    /// The host's name.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn hostname(&self) -> Result<String, Error> {
        self.ask(HOSTNAME, Encoder::new(), |answer| answer.text()).await
    }

    /// What host and hypervisor can do, as XML.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn capabilities(&self) -> Result<String, Error> {
        self.ask(CAPABILITIES, Encoder::new(), |answer| answer.text()).await
    }

    /// What the host is made of.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn node_info(&self) -> Result<NodeInfo, Error> {
        self.ask(NODE_INFO, Encoder::new(), |answer| {
            // Each letter of a fixed text is a number of its own.
            for _ in 0..MODEL {
                answer.i32()?;
            }
            Ok(NodeInfo { memory_kib: answer.u64()?, cpus: answer.u32()?, mhz: answer.u32()? })
        })
        .await
    }

    /// The host's memory by name (`total`, `free`, `buffers`, `cached`), in KiB.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn node_memory(&self) -> Result<BTreeMap<String, u64>, Error> {
        const ALL_CELLS: i32 = -1;
        let arguments = |count: u32| Encoder::new().u32(count).i32(ALL_CELLS).u32(0);
        let figures = |answer: &mut Decoder<'_>| {
            let figures =
                answer.list(MOST_FIGURES, |answer| Ok((answer.text()?, answer.u64()?)))?;
            Ok((figures, answer.u32()?))
        };
        // The first time it says how many there are, and takes no other number the second time.
        let (_none, count) = self.ask(NODE_MEMORY, arguments(0), figures).await?;
        let (figures, _) = self.ask(NODE_MEMORY, arguments(count), figures).await?;
        Ok(figures.into_iter().collect())
    }

    /// The host's own interfaces that are up: name and MAC.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn interfaces(&self) -> Result<Vec<(String, String)>, Error> {
        const ACTIVE: u32 = 2;
        self.ask(INTERFACES, Encoder::new().u32(1).u32(ACTIVE), |answer| {
            answer.list(MOST_INTERFACES, |answer| Ok((answer.text()?, answer.text()?)))
        })
        .await
    }
}
