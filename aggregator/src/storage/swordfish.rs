//! Arrays that speak Swordfish, and enclosures that speak Redfish: a tree of JSON resources that
//! name each other by `@odata.id`.
//!
//! The tree is walked from its root, breadth first, along every link that may lead to storage. What
//! an array sends is bounded in size and in number; one resource that cannot be had is left out and
//! named, and costs nothing else.

mod devices;
mod resources;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use common::clock::Timestamp;
use futures::{StreamExt as _, stream};
use reqwest::{Client, Url};
use tokio::{sync::Mutex, time::Instant};
use tracing::warn;

use self::resources::Resources;
use super::{Device, StorageArray, StorageError, Totals};
use crate::vendor::{Address, AddressError, CallError, Credentials, body};

/// The root of every service.
const ROOT: &str = "/redfish/v1";
/// Requests under way at once: management processors are slow, and few like more.
const AT_ONCE: usize = 4;
/// How long what is there is believed; what it counts is asked for each time.
const WALK_PERIOD: Duration = Duration::from_secs(600);
/// Largest resource that is read.
const RESOURCE_LIMIT: usize = 4 << 20;
/// Most resources that are read.
const RESOURCES_LIMIT: usize = 50_000;

/// One array.
#[derive(Debug)]
pub struct Swordfish {
    name: String,
    address: Address,
    client: Client,
    known: Mutex<Option<Known>>,
}

/// What the last walk found.
#[derive(Debug, Clone)]
struct Known {
    at: Instant,
    devices: Arc<Vec<Device>>,
    /// The volumes that count what is done to them.
    counting: Arc<Vec<String>>,
}

impl Swordfish {
    /// The array at an address; nothing is asked yet.
    ///
    /// # Errors
    ///
    /// If the address does not say whom to believe.
    pub fn new(name: impl Into<String>, address: Address) -> Result<Self, AddressError> {
        let client = address.client()?;
        Ok(Self { name: name.into(), address, client, known: Mutex::default() })
    }

    fn credentials(&self) -> Result<Option<Arc<Credentials>>, StorageError> {
        let refused = |cause: AddressError| StorageError::Refused {
            reason: common::task::Chain(&cause).to_string(),
        };
        Ok(self.address.credentials().map_err(refused)?.map(Arc::new))
    }

    /// What the last walk found, if that is not too long ago; else that of another.
    async fn known(&self) -> Result<Known, StorageError> {
        let mut known = self.known.lock().await;
        if let Some(known) = known.as_ref().filter(|known| known.at.elapsed() < WALK_PERIOD) {
            return Ok(known.clone());
        }
        let resources = self.walk().await?;
        let found = Known {
            at: Instant::now(),
            devices: Arc::new(devices::devices(&resources)),
            counting: Arc::new(devices::counting(&resources)),
        };
        Ok(known.insert(found).clone())
    }

    /// All resources that can be had.
    async fn walk(&self) -> Result<Resources, StorageError> {
        let credentials = self.credentials()?;
        let mut found = Resources::default();
        let root = self.get(ROOT, credentials.clone()).await.map_err(told)?;
        let mut next = found.take(ROOT, root);
        if found.of_type("ServiceRoot").next().is_none() {
            let reason = format!("{} serves no Redfish at {ROOT}", self.address.url);
            return Err(StorageError::Refused { reason });
        }
        while !next.is_empty() {
            let room = RESOURCES_LIMIT.saturating_sub(found.len());
            if next.len() > room {
                warn!(array = %self.name, limit = RESOURCES_LIMIT, "array has more resources than are read");
                next.truncate(room);
            }
            let asked = next.into_iter().map(|path| {
                let credentials = credentials.clone();
                async move { (self.get(&path, credentials).await, path) }
            });
            let answers: Vec<_> = stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
            next = Vec::new();
            for (answer, path) in answers {
                match answer {
                    Ok(body) => next.extend(found.take(&path, body)),
                    Err(cause) => found.miss(&path, &cause),
                }
            }
            next.sort();
            next.dedup();
        }
        for (path, cause) in found.missed() {
            warn!(array = %self.name, path, cause, "resource left out");
        }
        Ok(found)
    }

    async fn get(
        &self,
        path: &str,
        credentials: Option<Arc<Credentials>>,
    ) -> Result<Vec<u8>, CallError> {
        let mut url: Url = self.address.url.clone();
        url.set_path(path);
        let mut request = self.client.get(url).header("accept", "application/json");
        if let Some(credentials) = credentials {
            request = request.basic_auth(&credentials.user, Some(&credentials.password));
        }
        body(path, request.send().await, RESOURCE_LIMIT).await
    }
}

fn told(cause: CallError) -> StorageError {
    if cause.is_passing() {
        StorageError::Unreachable(Box::new(cause))
    } else {
        StorageError::Refused { reason: common::task::Chain(&cause).to_string() }
    }
}

#[async_trait]
impl StorageArray for Swordfish {
    fn name(&self) -> &str {
        &self.name
    }

    async fn devices(&self) -> Result<Arc<Vec<Device>>, StorageError> {
        Ok(self.known().await?.devices)
    }

    async fn totals(&self, now: Timestamp) -> Result<Vec<Totals>, StorageError> {
        let known = self.known().await?;
        let credentials = self.credentials()?;
        let asked = known.counting.iter().cloned().map(|path| {
            let credentials = credentials.clone();
            async move { (self.get(&path, credentials).await, path) }
        });
        let answers: Vec<_> = stream::iter(asked).buffered(AT_ONCE).collect().await;
        let mut totals = Vec::new();
        for (answer, path) in answers {
            totals.extend(devices::totals(&path, &answer.map_err(told)?, now));
        }
        Ok(totals)
    }
}
