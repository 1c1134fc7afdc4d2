//! Calls about machines, which libvirt calls domains.

use uuid::Uuid;

use crate::{
    client::Client,
    error::{Error, code},
    procedure::{
        DOMAIN_BY_UUID, DOMAIN_CREATE, DOMAIN_DEFINE, DOMAIN_DESTROY, DOMAIN_GET_AUTOSTART,
        DOMAIN_SET_AUTOSTART, DOMAIN_SET_METADATA, DOMAIN_SHUTDOWN, DOMAIN_STATE, DOMAIN_UNDEFINE,
        DOMAIN_XML, DOMAINS,
    },
    xdr::{Decoder, Encoder, XdrError},
};

pub use super::device::{
    AddressSource, BlockJob, CREATE_SNAPSHOT_CLONE, Change, Interface, InterfaceAddress,
};

/// Most machines of a host.
const MOST_DOMAINS: usize = 16_384;

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// Its name.
    pub name: String,
    /// Its uuid.
    pub uuid: Uuid,
    /// Its number while it runs; negative while it does not.
    pub id: i32,
}

impl Domain {
    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self, XdrError> {
        Ok(Self { name: from.text()?, uuid: from.uuid()?, id: from.i32()? })
    }

    pub(crate) fn arguments(&self) -> Encoder {
        Encoder::new().text(&self.name).fixed(self.uuid.as_bytes()).i32(self.id)
    }

    /// Whether it ran when it was asked for.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        self.id >= 0
    }
}

/// What a machine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DomainState {
    /// It runs, or waits for something.
    Running,
    /// It is held: by somebody, by an error, or to be saved.
    Paused,
    /// It is about to be off.
    ShuttingDown,
    /// It is off.
    Off,
    /// It came down on its own.
    Crashed,
    /// It sleeps.
    Suspended,
    /// Something that was not known when this was written.
    Other(i32),
}

impl DomainState {
    const fn of(number: i32) -> Self {
        match number {
            1 | 2 => Self::Running,
            3 => Self::Paused,
            4 => Self::ShuttingDown,
            5 => Self::Off,
            6 => Self::Crashed,
            7 => Self::Suspended,
            other => Self::Other(other),
        }
    }

    /// Whether nothing of it runs.
    #[must_use]
    pub const fn is_off(self) -> bool {
        matches!(self, Self::Off | Self::Crashed)
    }
}

/// Which description of a machine is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XmlKind {
    /// What it is now.
    Present,
    /// What it will be when it is started next.
    Inactive,
    /// As `Inactive`, with passwords.
    Secret,
}

impl Client {
    /// All machines, running or not.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn domains(&self) -> Result<Vec<Domain>, Error> {
        self.ask(DOMAINS, Encoder::new().u32(1).u32(0), |answer| {
            answer.list(MOST_DOMAINS, Domain::decode)
        })
        .await
    }

    /// The machine with that uuid, if there is one.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn domain(&self, uuid: Uuid) -> Result<Option<Domain>, Error> {
        let arguments = Encoder::new().fixed(uuid.as_bytes());
        match self.ask(DOMAIN_BY_UUID, arguments, Domain::decode).await {
            Ok(domain) => Ok(Some(domain)),
            Err(error) if error.is(&[code::NO_DOMAIN]) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A machine's description.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn domain_xml(&self, domain: &Domain, kind: XmlKind) -> Result<String, Error> {
        let flags = match kind {
            XmlKind::Present => 0,
            XmlKind::Inactive => 2,
            XmlKind::Secret => 3,
        };
        self.ask(DOMAIN_XML, domain.arguments().u32(flags), |answer| answer.text()).await
    }

    /// What a machine does.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn domain_state(&self, domain: &Domain) -> Result<DomainState, Error> {
        let state = |answer: &mut Decoder<'_>| answer.i32().map(DomainState::of);
        self.ask(DOMAIN_STATE, domain.arguments().u32(0), state).await
    }

    /// Makes a machine known, or changes what it will be when it is started next.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn define_domain(&self, xml: &str) -> Result<Domain, Error> {
        self.ask(DOMAIN_DEFINE, Encoder::new().text(xml), Domain::decode).await
    }

    /// Forgets a machine and what libvirt itself keeps of it; its disks stay.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn undefine_domain(&self, domain: &Domain) -> Result<(), Error> {
        const SAVED_STATE: u32 = 1;
        const SNAPSHOTS: u32 = 2;
        const FIRMWARE_VARIABLES: u32 = 4;
        const CHECKPOINTS: u32 = 16;
        let flags = SAVED_STATE | SNAPSHOTS | FIRMWARE_VARIABLES | CHECKPOINTS;
        self.tell(DOMAIN_UNDEFINE, domain.arguments().u32(flags)).await
    }

    /// Starts a machine.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn create_domain(&self, domain: &Domain) -> Result<(), Error> {
        self.tell(DOMAIN_CREATE, domain.arguments()).await
    }

    /// Asks a machine to stop; returns before it has.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn shut_down_domain(&self, domain: &Domain) -> Result<(), Error> {
        self.tell(DOMAIN_SHUTDOWN, domain.arguments().u32(0)).await
    }

    /// Presses a machine's power button, whatever its agent said; returns before it is off.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn press_power_button(&self, domain: &Domain) -> Result<(), Error> {
        const BUTTON: u32 = 1;
        self.tell(DOMAIN_SHUTDOWN, domain.arguments().u32(BUTTON)).await
    }

    /// Ends a machine as a power cut does.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn destroy_domain(&self, domain: &Domain) -> Result<(), Error> {
        self.tell(DOMAIN_DESTROY, domain.arguments().u32(0)).await
    }

    /// Whether a machine starts with its host.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn autostart(&self, domain: &Domain) -> Result<bool, Error> {
        let is_set = |answer: &mut Decoder<'_>| Ok(answer.i32()? != 0);
        self.ask(DOMAIN_GET_AUTOSTART, domain.arguments(), is_set).await
    }

    /// Says whether a machine starts with its host.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn set_autostart(&self, domain: &Domain, is: bool) -> Result<(), Error> {
        self.tell(DOMAIN_SET_AUTOSTART, domain.arguments().i32(is.into())).await
    }

    /// Puts an element of ours into a machine's definition, in the place of the one with that
    /// namespace; `None` takes it out.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn set_metadata(
        &self,
        domain: &Domain,
        (prefix, namespace): (&str, &str),
        xml: Option<&str>,
        change: Change,
    ) -> Result<(), Error> {
        const ELEMENT: i32 = 2;
        let arguments = domain
            .arguments()
            .i32(ELEMENT)
            .optional_text(xml)
            .optional_text(Some(prefix))
            .optional_text(Some(namespace))
            .u32(change.flags());
        self.tell(DOMAIN_SET_METADATA, arguments).await
    }
}
