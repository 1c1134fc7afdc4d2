//! Calls about pools of storage and the volumes in them.

use uuid::Uuid;

use crate::{
    client::Client,
    error::Error,
    procedure::{
        POOL_INFO, POOL_OF_VOLUME, POOL_REFRESH, POOL_XML, POOLS, VOLUME_BY_NAME, VOLUME_BY_PATH,
        VOLUME_COPY, VOLUME_CREATE, VOLUME_DELETE, VOLUME_INFO, VOLUME_XML, VOLUMES,
    },
    xdr::{Decoder, Encoder, XdrError},
};

/// Most pools of a host.
const MOST_POOLS: usize = 4_096;
/// Most volumes of a pool.
const MOST_VOLUMES: usize = 65_536;

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Its uuid.
    pub uuid: Uuid,
}

impl Pool {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, XdrError> {
        Ok(Self { name: from.text()?, uuid: from.uuid()? })
    }

    fn arguments(&self) -> Encoder {
        Encoder::new().text(&self.name).fixed(self.uuid.as_bytes())
    }
}

/// A pool's sizes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolInfo {
    /// Its own.
    pub capacity: u64,
    /// What is taken.
    pub allocation: u64,
    /// What is left.
    pub available: u64,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Name of its pool.
    pub pool: String,
    /// Its name there.
    pub name: String,
    /// Its key: of one in a folder, its path.
    pub key: String,
}

impl Volume {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, XdrError> {
        Ok(Self { pool: from.text()?, name: from.text()?, key: from.text()? })
    }

    fn put(&self, into: Encoder) -> Encoder {
        into.text(&self.pool).text(&self.name).text(&self.key)
    }
}

/// A volume's sizes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeInfo {
    /// What it may grow to.
    pub capacity: u64,
    /// What it takes.
    pub allocation: u64,
}

impl Client {
    /// The pools that can be used now.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn pools(&self) -> Result<Vec<Pool>, Error> {
        const ACTIVE: u32 = 2;
        self.ask(POOLS, Encoder::new().u32(1).u32(ACTIVE), |answer| {
            answer.list(MOST_POOLS, Pool::decode)
        })
        .await
    }

    /// A pool's sizes.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn pool_info(&self, pool: &Pool) -> Result<PoolInfo, Error> {
        self.ask(POOL_INFO, pool.arguments(), |answer| {
            let _state = answer.u32()?;
            let (capacity, allocation) = (answer.u64()?, answer.u64()?);
            Ok(PoolInfo { capacity, allocation, available: answer.u64()? })
        })
        .await
    }

    /// A pool's description.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn pool_xml(&self, pool: &Pool) -> Result<String, Error> {
        self.ask(POOL_XML, pool.arguments().u32(0), |answer| answer.text()).await
    }

    /// Has a pool look for volumes that came or went by other hands.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn refresh_pool(&self, pool: &Pool) -> Result<(), Error> {
        self.tell(POOL_REFRESH, pool.arguments().u32(0)).await
    }

    /// The volumes of a pool.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn volumes(&self, pool: &Pool) -> Result<Vec<Volume>, Error> {
        self.ask(VOLUMES, pool.arguments().u32(1).u32(0), |answer| {
            answer.list(MOST_VOLUMES, Volume::decode)
        })
        .await
    }

    /// The pool of a volume.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn pool_of(&self, volume: &Volume) -> Result<Pool, Error> {
        self.ask(POOL_OF_VOLUME, volume.put(Encoder::new()), Pool::decode).await
    }

    /// The volume at that path.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn volume_at(&self, path: &str) -> Result<Volume, Error> {
        self.ask(VOLUME_BY_PATH, Encoder::new().text(path), Volume::decode).await
    }

    /// The volume of that name in a pool.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn volume_named(&self, pool: &Pool, name: &str) -> Result<Volume, Error> {
        self.ask(VOLUME_BY_NAME, pool.arguments().text(name), Volume::decode).await
    }

    /// A volume's sizes.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn volume_info(&self, volume: &Volume) -> Result<VolumeInfo, Error> {
        self.ask(VOLUME_INFO, volume.put(Encoder::new()), |answer| {
            let _kind = answer.i32()?;
            Ok(VolumeInfo { capacity: answer.u64()?, allocation: answer.u64()? })
        })
        .await
    }

    /// A volume's description.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn volume_xml(&self, volume: &Volume) -> Result<String, Error> {
        self.ask(VOLUME_XML, volume.put(Encoder::new()).u32(0), |answer| answer.text()).await
    }

    /// Makes an empty volume, or one that stands on another.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn create_volume(&self, pool: &Pool, xml: &str) -> Result<Volume, Error> {
        self.ask(VOLUME_CREATE, pool.arguments().text(xml).u32(0), Volume::decode).await
    }

    /// Makes a volume with the contents of another; takes as long as copying does.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn copy_volume(
        &self,
        pool: &Pool,
        xml: &str,
        from: &Volume,
    ) -> Result<Volume, Error> {
        let arguments = from.put(pool.arguments().text(xml)).u32(0);
        self.ask(VOLUME_COPY, arguments, Volume::decode).await
    }

    /// Deletes a volume and what is in it.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn delete_volume(&self, volume: &Volume) -> Result<(), Error> {
        self.tell(VOLUME_DELETE, volume.put(Encoder::new()).u32(0)).await
    }
}
