//! Two real virtual machines, driven by the scripts of a vmlab folder; gone when this is dropped.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use lab::vmlab::Vmlab;
use serde_json::Value;
use tempfile::TempDir;

/// Of its own, so that another lab on the same host is not touched.
const NAMESPACE: &str = "sinter-proof";
const PREFIX: &str = "10.98.7";

/// How long something in an emulated machine may take.
const PATIENCE: Duration = Duration::from_secs(60);

const TRACEFS: &str = "/sys/kernel/tracing";

/// Where the guests' programs write what they see, a document a line.
const SEEN: &str = "/run/sinter-seen";

/// What an aggregator of nowhere and a token of nobody make of the sample configuration.
const CONFIG: &str = "aggregator = \"127.0.0.1:1\"\nauthority_fingerprint = \"FINGERPRINT\"\n\
    token = \"nobody-gave-this-token-away\"\n";

/// The unit that is shipped, and two like it: one looks, one examines. What they run is all that is different.
const UNITS: [(&str, &str); 3] = [
    ("sinter-agent", ""),
    (
        "sinter-proof-eye",
        "[Service]\nExecStart=\nExecStart=/usr/bin/sinter-agent observe --watch 3 -o json\n\
         StandardOutput=file:/run/sinter-seen.json\nStandardError=file:/run/sinter-seen.log\n",
    ),
    (
        "sinter-proof-doctor",
        "[Service]\nType=oneshot\nRestart=no\nSuccessExitStatus=1\nExecStart=\n\
         ExecStart=/usr/bin/sinter-agent doctor -o json\nStandardOutput=file:/run/sinter-doctor.json\n",
    ),
];

/// What stands around the agent in a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walls {
    /// Those of the drop-in for guests that are only observed.
    Observing,
    /// None: the unit alone.
    None,
}

pub struct Farm {
    vmlab: Vmlab,
    folder: TempDir,
}

impl Farm {
    /// Two guests with `agent` in them.
    pub fn up(agent: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("payload.img");
        let vmlab = Vmlab::new(NAMESPACE, PREFIX, |_| disk).unwrap();
        let farm = Self { vmlab, folder };
        let payload = farm.folder.path().join("payload");
        fs::create_dir(&payload).unwrap();
        fs::copy(agent, payload.join("sinter-agent")).unwrap();
        ship(&payload);
        farm.vmlab.script("payload.sh", &[payload.to_str().unwrap()]).unwrap();
        farm.vmlab.script("up.sh", &["2"]).unwrap();
        farm
    }

    pub fn address(number: u8) -> String {
        format!("{PREFIX}.{}", 10 + number)
    }

    /// Runs a shell command as root in a guest.
    pub fn run(&self, guest: &str, command: &str) -> String {
        self.vmlab.run(guest, command).unwrap()
    }

    /// Gives a guest one more disk, with a serial.
    pub fn plug(&self, guest: &str, serial: &str) {
        let disk = self.folder.path().join("disk.img");
        fs::File::create(&disk).unwrap().set_len(16 << 20).unwrap();
        let attach = ["attach-disk", guest, disk.to_str().unwrap(), "vdc", "--live"];
        let as_raw = ["--subdriver", "raw", "--serial", serial];
        self.vmlab.virsh(&[&attach[..], &as_raw].concat()).unwrap();
    }

    /// Starts the agent and its own looking in a guest, as their units have it; returns after its first look.
    pub fn observe(&self, guest: &str, walls: Walls) {
        // systemd mounts it at boot; the image leaves that out to boot faster.
        let tracing = "mountpoint -q $T || mount -t tracefs tracefs $T".replace("$T", TRACEFS);
        let copy = "cd /opt/payload && install -D -m 0755 sinter-agent /usr/bin/sinter-agent && \
                    install -D -m 0600 -t /etc/sinter agent.toml applications.toml && \
                    cp -r units/. /etc/systemd/system/";
        let walls = match walls {
            Walls::Observing => "true",
            Walls::None => "rm /etc/systemd/system/sinter-*.service.d/walls.conf",
        };
        let start = "systemctl daemon-reload && systemctl start sinter-agent sinter-proof-eye";
        self.run(guest, &format!("{tracing}; {copy} && {walls} && {start}"));
        self.until(guest, "the first look", |seen| seen["connections"].is_array());
    }

    /// What the doctor says of a guest, behind the same walls.
    pub fn doctor(&self, guest: &str) -> Value {
        self.run(guest, "systemctl start sinter-proof-doctor");
        serde_json::from_str(&self.run(guest, "cat /run/sinter-doctor.json")).unwrap()
    }

    /// What the agent in a guest saw last; null before its first look.
    pub fn seen(&self, guest: &str) -> Value {
        // Its last line may be half written; the next one will do.
        let last = self.run(guest, &format!("tail -n 1 {SEEN}.json"));
        serde_json::from_str(&last).unwrap_or_default()
    }

    /// What the agent in a guest saw, once it is as `wanted`.
    pub fn until(&self, guest: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let seen = self.seen(guest);
            if wanted(&seen) {
                return seen;
            }
            if begun.elapsed() > PATIENCE {
                let (flows, coverage) = (&seen["flows"], &seen["coverage"]);
                panic!("waited in vain for {what} in {guest}: {flows:#}, {coverage}");
            }
        }
    }
}

/// Puts the units of the package beside the agent, with its configuration.
fn ship(payload: &Path) {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("packaging");
    let systemd = packaging.join("systemd");
    let units = payload.join("units");
    for (name, change) in UNITS {
        let changes = units.join(format!("{name}.service.d"));
        fs::create_dir_all(&changes).unwrap();
        fs::copy(systemd.join("sinter-agent.service"), units.join(format!("{name}.service")))
            .unwrap();
        fs::copy(systemd.join("sinter-agent-observes.conf"), changes.join("walls.conf")).unwrap();
        fs::write(changes.join("what.conf"), change).unwrap();
    }
    let applications = packaging.join("samples/applications.toml");
    fs::copy(applications, payload.join("applications.toml")).unwrap();
    let config = CONFIG.replace("FINGERPRINT", &"0".repeat(64));
    fs::write(payload.join("agent.toml"), config).unwrap();
}

impl Drop for Farm {
    fn drop(&mut self) {
        if let Err(cause) = self.vmlab.script("down.sh", &[]) {
            println!("{cause}");
        }
    }
}
