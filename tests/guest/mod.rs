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

    /// Starts the agent's own looking in a guest; returns after its first look.
    pub fn observe(&self, guest: &str) {
        // systemd mounts it at boot; the image leaves that out to boot faster.
        self.run(
            guest,
            "mountpoint -q $T || mount -t tracefs tracefs $T".replace("$T", TRACEFS).as_str(),
        );
        let observe = "/opt/payload/sinter-agent observe --watch 3 -o json";
        self.run(
            guest,
            &format!("systemd-run -q --unit=sinter-proof-eye sh -c '{observe} > {SEEN}.json 2> {SEEN}.log'"),
        );
        self.until(guest, "the first look", |seen| seen["connections"].is_array());
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

impl Drop for Farm {
    fn drop(&mut self) {
        if let Err(cause) = self.vmlab.script("down.sh", &[]) {
            println!("{cause}");
        }
    }
}
