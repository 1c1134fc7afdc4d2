//! Two real virtual machines, driven by the scripts of a vmlab folder; gone when this is dropped.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

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
    scripts: PathBuf,
    folder: TempDir,
}

/// Why there is no farm, for [`lab::demonstration::left_out`].
pub fn lacking() -> Option<String> {
    let scripts = env::var_os("SINTER_VMLAB").map(PathBuf::from);
    let Some(scripts) = scripts.filter(|folder| folder.join("up.sh").exists()) else {
        return Some("SINTER_VMLAB does not name a folder with up.sh, payload.sh, guest.sh".into());
    };
    if env::var_os("VMLAB_STATE").is_none() {
        return Some("VMLAB_STATE does not name a folder for images and sockets".into());
    }
    let built = Command::new(scripts.join("build-image.sh")).output();
    match built {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(cause) => Some(cause.to_string()),
    }
}

impl Farm {
    /// Two guests with `agent` in them.
    pub fn up(agent: &Path) -> Self {
        let scripts = PathBuf::from(env::var_os("SINTER_VMLAB").unwrap());
        let farm = Self { scripts, folder: tempfile::tempdir().unwrap() };
        // What an earlier run left when it was killed.
        farm.script("down.sh", &[]).ok();
        let payload = farm.folder.path().join("payload");
        fs::create_dir(&payload).unwrap();
        fs::copy(agent, payload.join("sinter-agent")).unwrap();
        farm.script("payload.sh", &[payload.to_str().unwrap()]).unwrap();
        farm.script("up.sh", &["2"]).unwrap();
        farm
    }

    pub fn address(number: u8) -> String {
        format!("{PREFIX}.{}", 10 + number)
    }

    fn script(&self, name: &str, arguments: &[&str]) -> io::Result<String> {
        let output = Command::new(self.scripts.join(name))
            .args(arguments)
            .env("VMLAB_NS", NAMESPACE)
            .env("VMLAB_PREFIX", PREFIX)
            .env("VMLAB_PAYLOAD", self.folder.path().join("payload.img"))
            .stdin(Stdio::null())
            .output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!("{name} {arguments:?}: {said}")))
    }

    /// Runs a shell command as root in a guest.
    pub fn run(&self, guest: &str, command: &str) -> String {
        self.script("guest.sh", &["exec", guest, command]).unwrap()
    }

    /// Gives a guest one more disk, with a serial.
    pub fn plug(&self, guest: &str, serial: &str) {
        let disk = self.folder.path().join("disk.img");
        fs::File::create(&disk).unwrap().set_len(16 << 20).unwrap();
        let state = PathBuf::from(env::var_os("VMLAB_STATE").unwrap());
        let socket = state.join("host1/sock/libvirt-sock");
        let output = Command::new("virsh")
            .args(["-q", "-c", &format!("qemu:///system?socket={}", socket.display())])
            .args(["attach-disk", guest, disk.to_str().unwrap(), "vdc", "--live"])
            .args(["--subdriver", "raw", "--serial", serial])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
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
        if let Err(cause) = self.script("down.sh", &[]) {
            println!("{cause}");
        }
    }
}
