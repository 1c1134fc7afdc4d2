//! Against a systemd made of a few lines, at the other end of a socket.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use common::units::{Bytes, Millicores};
use zbus::{connection::Builder, fdo, interface, zvariant::OwnedValue};

use super::*;

#[derive(Debug, Default)]
struct World {
    state: Mutex<String>,
    calls: Mutex<Vec<String>>,
    limits: Mutex<BTreeMap<String, u64>>,
    fails: Mutex<bool>,
}

impl World {
    fn note(&self, call: impl Into<String>) {
        self.calls.lock().unwrap().push(call.into());
    }
}

struct FakeManager(Arc<World>);

#[interface(name = "org.freedesktop.systemd1.Manager")]
impl FakeManager {
    fn start_unit(&self, name: &str, _mode: &str) -> fdo::Result<OwnedObjectPath> {
        self.0.note(format!("start {name}"));
        let state = if *self.0.fails.lock().unwrap() { "failed" } else { "active" };
        *self.0.state.lock().unwrap() = state.into();
        job()
    }

    fn stop_unit(&self, name: &str, _mode: &str) -> fdo::Result<OwnedObjectPath> {
        self.0.note(format!("stop {name}"));
        *self.0.state.lock().unwrap() = "inactive".into();
        job()
    }

    fn load_unit(&self, _name: &str) -> fdo::Result<OwnedObjectPath> {
        job()
    }

    fn enable_unit_files(
        &self,
        files: Vec<String>,
        _runtime: bool,
        _force: bool,
    ) -> (bool, Vec<(String, String, String)>) {
        self.0.note(format!("enable {}", files.join(" ")));
        (true, Vec::new())
    }

    fn disable_unit_files(
        &self,
        files: Vec<String>,
        _runtime: bool,
    ) -> Vec<(String, String, String)> {
        self.0.note(format!("disable {}", files.join(" ")));
        Vec::new()
    }

    fn set_unit_properties(
        &self,
        _name: &str,
        _runtime: bool,
        properties: Vec<(String, OwnedValue)>,
    ) {
        let read = |(name, value): (String, OwnedValue)| (name, u64::try_from(value).unwrap());
        *self.0.limits.lock().unwrap() = properties.into_iter().map(read).collect();
    }
}

struct FakeUnit(Arc<World>);

#[interface(name = "org.freedesktop.systemd1.Unit")]
impl FakeUnit {
    #[zbus(property)]
    fn active_state(&self) -> String {
        self.0.state.lock().unwrap().clone()
    }
}

fn job() -> fdo::Result<OwnedObjectPath> {
    Ok(OwnedObjectPath::try_from("/unit").unwrap())
}

async fn driver() -> (SystemdDriver, Arc<World>, Connection) {
    let world = Arc::new(World::default());
    let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
    let server = Builder::unix_stream(theirs)
        .server(zbus::Guid::generate())
        .unwrap()
        .p2p()
        .serve_at("/org/freedesktop/systemd1", FakeManager(Arc::clone(&world)))
        .unwrap()
        .serve_at("/unit", FakeUnit(Arc::clone(&world)))
        .unwrap()
        .build();
    let client = Builder::unix_stream(ours).p2p().build();
    let (server, client) = tokio::join!(server, client);
    (SystemdDriver::over(client.unwrap()), world, server.unwrap())
}

fn name() -> AppName {
    "web".parse().unwrap()
}

#[tokio::test]
async fn a_unit_is_limited_enabled_started_and_all_of_it_taken_back() {
    let (driver, world, _server) = driver().await;
    let mix = ConfigurationMix {
        cpu: Some(Millicores(500)),
        memory: Some(Bytes::mebi(1)),
        storage: None,
    };

    driver.start(&name(), "web.service", &mix).await.unwrap();
    assert_eq!(driver.check_runs("web.service").await, Ok(()));
    driver.stop(&name(), "web.service").await.unwrap();
    assert!(driver.check_runs("web.service").await.is_err());

    let calls = world.calls.lock().unwrap().clone();
    assert_eq!(
        calls,
        ["enable web.service", "start web.service", "stop web.service", "disable web.service"]
    );
    let limits = world.limits.lock().unwrap().clone();
    assert_eq!(limits["CPUQuotaPerSecUSec"], 500_000);
    assert_eq!(limits["MemoryMax"], 1 << 20);
}

#[tokio::test]
async fn a_unit_that_fails_is_an_error_with_its_name() {
    let (driver, world, _server) = driver().await;
    *world.fails.lock().unwrap() = true;
    let error = driver.start(&name(), "web.service", &ConfigurationMix::default()).await;
    assert!(error.unwrap_err().to_string().contains("web.service is failed"));
}
