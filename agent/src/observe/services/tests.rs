//! systemd's answers from a stand-in on a private bus.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::SystemTime,
};

use zbus::{connection::Builder, interface, zvariant::ObjectPath};

use super::*;

const WEB_PATH: &str = "/org/freedesktop/systemd1/unit/web_2eservice";
const GONE_PATH: &str = "/org/freedesktop/systemd1/unit/gone_2eservice";

/// A bus of its own, ended with the test.
struct Bus {
    daemon: Child,
    address: String,
}

impl Bus {
    #[expect(clippy::print_stderr, reason = "a test that was left out says so loudly")]
    fn start() -> Option<Self> {
        let mut daemon = Command::new("dbus-daemon");
        daemon.args(["--session", "--nofork", "--print-address=1"]).stdout(Stdio::piped());
        let Ok(mut daemon) = daemon.stderr(Stdio::null()).spawn() else {
            eprintln!("LEFT OUT: dbus-daemon is not installed, so systemd's answers are not read");
            assert!(
                std::env::var_os("SINTER_REQUIRE_ALL").is_none(),
                "dbus-daemon is not installed"
            );
            return None;
        };
        let mut address = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Some(Self { daemon, address: address.trim().to_owned() })
    }

    fn builder(&self) -> Builder<'_> {
        Builder::address(self.address.as_str()).unwrap()
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.daemon.kill().ok();
        self.daemon.wait().ok();
    }
}

type UnitRow = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    ObjectPath<'static>,
    u32,
    &'static str,
    ObjectPath<'static>,
);

fn unit(name: &'static str, active: &'static str, path: &'static str) -> UnitRow {
    let root = ObjectPath::try_from("/").unwrap();
    let path = ObjectPath::try_from(path).unwrap();
    (name, "", "loaded", active, "", "", path, 0, "", root)
}

/// Counts how often it had to read its unit files.
#[derive(Default)]
struct Manager {
    files_read: Arc<AtomicU32>,
}

#[interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    #[expect(clippy::unused_self, reason = "the interface asks for it")]
    fn list_units_by_patterns(&self, states: Vec<String>, patterns: Vec<String>) -> Vec<UnitRow> {
        assert_eq!((states.len(), patterns.concat()), (0, "*.service*.target".to_owned()));
        vec![
            unit("web.service", "active", WEB_PATH),
            unit("job@1.service", "failed", GONE_PATH),
            unit("gone.service", "activating", GONE_PATH),
            unit("old.service", "inactive", GONE_PATH),
            unit("graphical.target", "inactive", GONE_PATH),
            unit("multi-user.target", "active", GONE_PATH),
            unit("rescue.target", "active", GONE_PATH),
        ]
    }

    #[expect(clippy::unused_self, reason = "the interface asks for it")]
    fn list_units_filtered(&self, states: Vec<String>) -> Vec<UnitRow> {
        assert_eq!(states, ["failed"]);
        vec![unit("srv.mount", "failed", GONE_PATH), unit("job@1.service", "failed", GONE_PATH)]
    }

    #[expect(clippy::unused_self, reason = "the interface asks for it")]
    fn get_default_target(&self) -> &'static str {
        "graphical.target"
    }

    fn list_unit_files(&self) -> Vec<(&'static str, &'static str)> {
        self.files_read.fetch_add(1, Ordering::Relaxed);
        vec![
            ("/usr/lib/systemd/system/web.service", "disabled"),
            ("/etc/systemd/system/job@.service", "enabled-runtime"),
            ("/usr/lib/systemd/system/once.service", "enabled"),
            ("/usr/lib/systemd/system/some.socket", "enabled"),
        ]
    }
}

struct WebService;

#[interface(name = "org.freedesktop.systemd1.Service")]
impl WebService {
    #[zbus(property, name = "MainPID")]
    #[expect(clippy::unused_self, reason = "the interface asks for it")]
    fn main_pid(&self) -> u32 {
        4711
    }
}

#[tokio::test]
async fn units_come_with_state_main_process_and_whether_they_start_by_themselves() {
    let Some(bus) = Bus::start() else { return };
    let systemd = bus.builder().name(SYSTEMD).unwrap();
    let systemd = systemd.serve_at(MANAGER_PATH, Manager::default()).unwrap();
    let _systemd = systemd.serve_at(WEB_PATH, WebService).unwrap().build().await.unwrap();
    let connection = bus.builder().build().await.unwrap();

    let Services { rows: services, failed, run_level, .. } =
        systemd_services(&connection, &mut EnabledFiles::default()).await.unwrap();

    let row = |state, enabled, main_pid| Service {
        supervisor: Supervisor::Systemd,
        state,
        enabled,
        main_pid,
    };
    assert_eq!(services["web.service"], row(ServiceState::Active, false, Some(4711)));
    assert_eq!(services["job@1.service"], row(ServiceState::Failed, true, None));
    assert_eq!(services["gone.service"], row(ServiceState::Changing, false, None));
    assert_eq!(services["old.service"], row(ServiceState::Inactive, false, None));
    assert_eq!(services["once.service"], row(ServiceState::Inactive, true, None));
    assert_eq!(services.len(), 5);
    assert_eq!(failed, ["job@1.service", "srv.mount"]);
    assert_eq!(run_level.as_deref(), Some("multi-user.target"));
}

#[tokio::test]
async fn unit_files_are_asked_for_again_only_when_a_folder_of_theirs_changed() {
    let Some(bus) = Bus::start() else { return };
    let files_read = Arc::new(AtomicU32::new(0));
    let manager = Manager { files_read: Arc::clone(&files_read) };
    let systemd = bus.builder().name(SYSTEMD).unwrap();
    let _systemd = systemd.serve_at(MANAGER_PATH, manager).unwrap().build().await.unwrap();
    let connection = bus.builder().build().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let wants = folder.path().join("multi-user.target.wants");
    let mut enabled = EnabledFiles::of(vec![folder.path().to_owned(), "/nowhere".into()]);
    let mut read = async || {
        assert_eq!(enabled.read(&connection).await.unwrap().len(), 3);
        files_read.load(Ordering::Relaxed)
    };

    assert_eq!((read().await, read().await, read().await), (1, 2, 2));
    std::fs::create_dir(&wants).unwrap();
    assert_eq!((read().await, read().await, read().await), (3, 4, 4));
    // As a link that was made there would.
    let changed = std::fs::File::open(&wants).unwrap();
    changed.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!((read().await, read().await, read().await), (5, 6, 6));
}

#[tokio::test]
async fn a_bus_without_systemd_is_an_error_that_says_so() {
    let Some(bus) = Bus::start() else { return };
    let connection = bus.builder().build().await.unwrap();

    let error = systemd_services(&connection, &mut EnabledFiles::default()).await.unwrap_err();

    assert!(error.to_string().contains("systemd could not be asked"), "{error}");
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn systemd_and_the_agents_own_stand_side_by_side() {
    let systemd = Service {
        supervisor: Supervisor::Systemd,
        state: ServiceState::Active,
        enabled: true,
        main_pid: None,
    };
    let rows = [("web.service".to_owned(), systemd)].into();
    let services = Services { source: Source::Systemd, rows, ..Services::default() };
    let own = Supervised {
        application: "web".parse().unwrap(),
        pid: Some(7),
        state: ServiceState::Failed,
        enabled: false,
    };

    let rows = services.with(&[own]);

    assert_eq!(rows["web.service"].supervisor, Supervisor::Systemd);
    assert_eq!((rows["web"].supervisor, rows["web"].main_pid), (Supervisor::Agent, Some(7)));
}
