//! Calls about virtual networks.

use uuid::Uuid;

use crate::{
    client::Client,
    error::Error,
    procedure::{
        NETWORK_BY_NAME, NETWORK_CREATE, NETWORK_DEFINE, NETWORK_DESTROY, NETWORK_GET_AUTOSTART,
        NETWORK_LEASES, NETWORK_SET_AUTOSTART, NETWORK_UNDEFINE, NETWORK_XML, NETWORKS,
    },
    xdr::{Decoder, Encoder, XdrError},
};

/// Most networks of a host.
const MOST_NETWORKS: usize = 16_384;
/// Most leases of a network.
const MOST_LEASES: usize = 65_536;

/// A virtual network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its uuid.
    pub uuid: Uuid,
}

impl Network {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, XdrError> {
        Ok(Self { name: from.text()?, uuid: from.uuid()? })
    }

    fn arguments(&self) -> Encoder {
        Encoder::new().text(&self.name).fixed(self.uuid.as_bytes())
    }
}

/// An address that a network gave away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// To which MAC, as libvirt writes it.
    pub mac: String,
    /// The address.
    pub address: String,
    /// Length of its network's prefix.
    pub prefix: u32,
}

fn lease(from: &mut Decoder<'_>) -> Result<Option<Lease>, XdrError> {
    let (_interface, _expires, _kind) = (from.text()?, from.i64()?, from.i32()?);
    let mac = from.optional(Decoder::text)?;
    let _iaid = from.optional(Decoder::text)?;
    let (address, prefix) = (from.text()?, from.u32()?);
    let _hostname = from.optional(Decoder::text)?;
    let _client = from.optional(Decoder::text)?;
    Ok(mac.map(|mac| Lease { mac, address, prefix }))
}

impl Client {
    /// All networks, active or not.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn networks(&self) -> Result<Vec<Network>, Error> {
        self.ask(NETWORKS, Encoder::new().u32(1).u32(0), |answer| {
            answer.list(MOST_NETWORKS, Network::decode)
        })
        .await
    }

    /// A network's description.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn network_xml(&self, network: &Network) -> Result<String, Error> {
        self.ask(NETWORK_XML, network.arguments().u32(0), |answer| answer.text()).await
    }

    /// The network of that name.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn network_named(&self, name: &str) -> Result<Network, Error> {
        self.ask(NETWORK_BY_NAME, Encoder::new().text(name), Network::decode).await
    }

    /// Makes a network known, or changes what is known of it.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn define_network(&self, xml: &str) -> Result<Network, Error> {
        self.ask(NETWORK_DEFINE, Encoder::new().text(xml), Network::decode).await
    }

    /// Brings a network up.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn create_network(&self, network: &Network) -> Result<(), Error> {
        self.tell(NETWORK_CREATE, network.arguments()).await
    }

    /// Whether a network comes up with its host.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn network_autostart(&self, network: &Network) -> Result<bool, Error> {
        let is_set = |answer: &mut Decoder<'_>| Ok(answer.i32()? != 0);
        self.ask(NETWORK_GET_AUTOSTART, network.arguments(), is_set).await
    }

    /// Says whether a network comes up with its host.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn set_network_autostart(&self, network: &Network, is: bool) -> Result<(), Error> {
        self.tell(NETWORK_SET_AUTOSTART, network.arguments().i32(is.into())).await
    }

    /// Takes a network down.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn destroy_network(&self, network: &Network) -> Result<(), Error> {
        self.tell(NETWORK_DESTROY, network.arguments()).await
    }

    /// Forgets a network.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn undefine_network(&self, network: &Network) -> Result<(), Error> {
        self.tell(NETWORK_UNDEFINE, network.arguments()).await
    }

    /// The addresses that a network gave away.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn leases(&self, network: &Network) -> Result<Vec<Lease>, Error> {
        const WITH_THE_LEASES: i32 = 1;
        let arguments = network.arguments().optional_text(None).i32(WITH_THE_LEASES).u32(0);
        let leases = |answer: &mut Decoder<'_>| answer.list(MOST_LEASES, lease);
        Ok(self.ask(NETWORK_LEASES, arguments, leases).await?.into_iter().flatten().collect())
    }
}
