//! The storage adapters against counterparts that are not ours: an enclosure's resources served by
//! sushy-static, and a real iSCSI target with a real initiator.
//!
//! They take `sushy-static` (PyPI: sushy-tools; `SINTER_SUSHY_STATIC` names it if it is not in the
//! path), the resources (`SINTER_DATA`, by default `../shared/data`), `tgtd` and `iscsi-perf`
//! (Debian: tgt, libiscsi-bin).

use std::{
    env,
    fs::File,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use aggregator::{
    storage::{
        Device, Holder, StorageArray as _, StorageError, Told, swordfish::Swordfish,
        target::IscsiTarget,
    },
    vendor::Address,
};
use common::{clock::Timestamp, units::Bytes};
use lab::demonstration::left_out;

const DEADLINE: Duration = Duration::from_secs(20);

/// A program that is killed when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come in {DEADLINE:?}");
        std::thread::yield_now();
    }
}

/// A port that nobody uses now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn in_path(program: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH")?;
    // What a system's administrator runs lies beside it.
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut all = env::split_paths(&folders).chain(more);
    all.find_map(|folder| Some(folder.join(program)).filter(|path| path.is_file()))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The enclosure's resources and what serves them, or what of it is lacking.
fn enclosure() -> Result<(PathBuf, PathBuf), String> {
    let given = env::var_os("SINTER_SUSHY_STATIC").map(PathBuf::from);
    let server = given
        .or_else(|| in_path("sushy-static"))
        .ok_or("sushy-static; pip install sushy-tools, or SINTER_SUSHY_STATIC names it")?;
    let data = env::var_os("SINTER_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    let resources = data.join("swordfish/Resources");
    if !resources.is_dir() {
        return Err(format!("{}; SINTER_DATA names the folder above", resources.display()));
    }
    Ok((server, resources))
}

fn serve(server: &Path, resources: &Path) -> (Running, SocketAddr) {
    let port = free_port();
    let child = Command::new(server)
        .args(["-i", "127.0.0.1", "-p", &port.to_string(), "-m"])
        .arg(resources)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let running = Running(child);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    until("sushy-static", || TcpStream::connect(address).ok());
    (running, address)
}

fn array(address: SocketAddr) -> Swordfish {
    let url = format!("http://{address}").parse().unwrap();
    Swordfish::new("enclosure", Address { url, trust: None, credentials: None }).unwrap()
}

/// Each fact is told, or left out with a reason that a person can read.
fn every_fact_is_told_or_has_a_reason(device: &Device) {
    fn check<T>(device: &Device, field: &str, told: &Told<T>) {
        if let Told::Not(reason) = told {
            assert!(reason.contains(' '), "{} {field}: {reason:?}", device.key);
        }
    }
    check(device, "type", &device.kind);
    check(device, "bandwidth", &device.bandwidth);
    check(device, "connections", &device.connections);
    check(device, "state", &device.state);
    check(device, "status", &device.status);
    check(device, "id", &device.id);
    check(device, "addresses", &device.addresses);
    check(device, "macs", &device.macs);
    check(device, "route", &device.route);
}

#[test]
fn an_enclosure_tells_all_nine_facts_of_its_volumes_and_drives() {
    let (server, resources) = match enclosure() {
        Ok(found) => found,
        Err(lacking) => return left_out("storage", &format!("it takes {lacking}")),
    };
    let (_server, address) = serve(&server, &resources);

    let devices = runtime().block_on(array(address).devices()).unwrap();

    let keys: Vec<&str> = devices.iter().map(|device| device.key.as_str()).collect();
    let root = "/redfish/v1";
    let expected = [
        format!("{root}/Chassis/EBOFEnclosure/Drives/IPAttachedDrive1"),
        format!("{root}/Chassis/EBOFEnclosure/Drives/IPAttachedDrive2"),
        format!("{root}/Storage/IPAttachedDrive1/Volumes/SimpleNamespace"),
        format!("{root}/Storage/IPAttachedDrive2/Volumes/SimpleNamespace"),
    ];
    assert_eq!(keys, expected);
    devices.iter().for_each(every_fact_is_told_or_has_a_reason);
    let volume = &devices[2];
    assert_eq!(volume.kind, Told::Is("volume on NVMe, SSD".into()));
    assert_eq!(volume.bandwidth, Told::Is(12_000_000_000));
    assert_eq!(
        (&volume.state, &volume.status),
        (&Told::Is("Enabled".into()), &Told::Is("OK".into()))
    );
    let id = "nqn.2014-08.org.nvmexpress:uuid:6c5fe566-10e6-4fb6-aad4-8b4159029384";
    assert_eq!(volume.id, Told::Is(id.into()));
    let addresses = volume.addresses.fact().unwrap();
    assert!(addresses.contains(&"192.168.155.22".parse::<IpAddr>().unwrap()), "{addresses:?}");
    let macs = volume.macs.fact().unwrap();
    assert!(macs.contains(&"00:0c:29:9a:98:01".to_owned()), "{macs:?}");
    let route = volume.route.fact().unwrap();
    assert!(
        route
            .iter()
            .any(|way| way.starts_with("NVMeOverFabrics 192.168.155.22 port 4420 target nqn.")
                && way.ends_with(" unit 1")),
        "{route:?}"
    );
    let holder = Holder {
        initiator: "host.corp.com:nvme:nvm-subsys-sn-4635".into(),
        addresses: vec!["10.3.5.205".parse().unwrap()],
        may_write: Some(true),
    };
    assert!(volume.connections.fact().unwrap().contains(&holder), "{:?}", volume.connections);
    assert_eq!(volume.capacity, Told::Is(Bytes(10_737_418_240)));
    assert_eq!(volume.redundancy, Told::Is("None".into()));
    assert_eq!(volume.lies_on, [expected[0].clone()]);
}

#[test]
fn an_array_that_is_away_is_told_from_one_that_refuses() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let away = runtime().block_on(array(nobody).devices()).unwrap_err();
    assert!(matches!(away, StorageError::Unreachable(_)), "{away:?}");

    let (server, resources) = match enclosure() {
        Ok(found) => found,
        Err(lacking) => return left_out("storage", &format!("it takes {lacking}")),
    };
    // A folder below has no service root.
    let (_server, address) = serve(&server, &resources.join("Storage/IPAttachedDrive1"));
    let refused = runtime().block_on(array(address).devices()).unwrap_err();
    assert!(matches!(refused, StorageError::Refused { .. }), "{refused:?}");
}

/// A target daemon with one unit of 64 MiB.
struct Target {
    _daemon: Running,
    program: PathBuf,
    socket: PathBuf,
    portal: String,
    _folder: tempfile::TempDir,
}

const TARGET: &str = "iqn.2026-01.example:disk1";
const INITIATOR: &str = "iqn.2026-01.example:vm1";

impl Target {
    fn start() -> Result<Self, String> {
        let lacking = |program: &str| format!("{program}; apt-get install tgt libiscsi-bin");
        let daemon = in_path("tgtd").ok_or_else(|| lacking("tgtd"))?;
        let program = in_path("tgtadm").ok_or_else(|| lacking("tgtadm"))?;
        in_path("iscsi-perf").ok_or_else(|| lacking("iscsi-perf"))?;
        if !nix::unistd::geteuid().is_root() {
            return Err("root, to run tgtd".to_owned());
        }
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let portal = format!("127.0.0.1:{}", free_port());
        let child = Command::new(daemon)
            .args(["-f", "--iscsi", &format!("portal={portal}")])
            .env("TGT_IPC_SOCKET", &socket)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let store = folder.path().join("unit");
        File::create(&store).unwrap().set_len(64 << 20).unwrap();
        let target = Self { _daemon: Running(child), program, socket, portal, _folder: folder };
        until("tgtd", || {
            target.admin(&["--op", "new", "--mode", "target", "--tid", "1", "-T", TARGET])
        });
        let unit = ["--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "-b"];
        target.admin(&[&unit[..], &[store.to_str().unwrap()]].concat()).unwrap();
        target.admin(&["--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL"]).unwrap();
        Ok(target)
    }

    fn admin(&self, arguments: &[&str]) -> Option<()> {
        let mut command = Command::new(&self.program);
        command.args(["--lld", "iscsi"]).args(arguments).env("TGT_IPC_SOCKET", &self.socket);
        command.stderr(Stdio::null()).status().unwrap().success().then_some(())
    }

    /// A client that reads for as long as it is let.
    fn reader(&self) -> Running {
        let url = format!("iscsi://{}/{TARGET}/1", self.portal);
        let mut command = Command::new("iscsi-perf");
        command.args(["-i", INITIATOR, "-m", "4", "-b", "8", "-t", "60", &url]);
        Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

#[test]
fn a_real_target_counts_each_initiators_operations() {
    let target = match Target::start() {
        Ok(target) => target,
        Err(lacking) => return left_out("storage", &format!("it takes {lacking}")),
    };
    let adapter = IscsiTarget::new("target", target.program.clone(), Some(target.socket.clone()));
    let now = Timestamp::from_millis(1_800_000_000_000);
    let totals = || runtime().block_on(adapter.totals(now)).unwrap();
    assert_eq!(totals(), []);

    let reader = target.reader();
    let first = until("reads", || totals().pop().filter(|totals| totals.reads > Some(0)));
    let later = until("more", || totals().pop().filter(|totals| totals.reads > first.reads));

    let key = format!("{TARGET}/1");
    assert_eq!((first.device.as_str(), first.initiator.as_deref()), (&*key, Some(INITIATOR)));
    assert!(later.read > first.read, "{first:?} {later:?}");
    assert_eq!((later.writes, later.written), (Some(0), Some(Bytes(0))));
    let devices = runtime().block_on(adapter.devices()).unwrap();
    let [device] = devices.as_slice() else { panic!("{devices:?}") };
    every_fact_is_told_or_has_a_reason(device);
    assert_eq!(device.key, key);
    let holder = Holder {
        initiator: INITIATOR.to_owned(),
        addresses: vec!["127.0.0.1".parse().unwrap()],
        may_write: Some(true),
    };
    assert_eq!(device.connections, Told::Is(vec![holder]));
    // A session takes its counts with it.
    drop(reader);
    until("the end of the session", || totals().is_empty().then_some(()));
}

#[test]
fn a_target_daemon_that_is_away_is_told_from_one_that_refuses() {
    let Some(program) = in_path("tgtadm") else {
        return left_out("storage", "it takes tgtadm; apt-get install tgt");
    };
    let nowhere = tempfile::tempdir().unwrap();
    let adapter = IscsiTarget::new("target", program, Some(nowhere.path().join("socket")));
    let away = runtime().block_on(adapter.devices()).unwrap_err();
    assert!(matches!(away, StorageError::Unreachable(_)), "{away:?}");

    // A program that says no and ends with the number of "invalid argument".
    let refusing = nowhere.path().join("tgtadm");
    std::fs::write(&refusing, "#!/bin/sh\necho 'no such mode' >&2\nexit 22\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&refusing, mode).unwrap();
    let adapter = IscsiTarget::new("target", refusing, None);
    let refused = runtime().block_on(adapter.devices()).unwrap_err();
    assert!(
        matches!(&refused, StorageError::Refused { reason } if reason == "no such mode"),
        "{refused:?}"
    );
}
