//! A host with libvirt and one guest, driven by the scripts of a vmlab folder; gone when this is
//! dropped.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

/// Of its own, so that another lab on the same host is not touched.
const NAMESPACE: &str = "sinter-kvm";
/// The first three octets of its network.
pub const PREFIX: &str = "10.98.8";

/// How long something in an emulated machine may take.
const PATIENCE: Duration = Duration::from_secs(180);

pub struct Lab {
    scripts: PathBuf,
    state: PathBuf,
}

/// Why there is no lab, for [`lab::demonstration::left_out`].
pub fn lacking() -> Option<String> {
    let scripts = env::var_os("SINTER_VMLAB").map(PathBuf::from);
    let Some(scripts) = scripts.filter(|folder| folder.join("up.sh").exists()) else {
        return Some("SINTER_VMLAB does not name a folder with up.sh and guest.sh".into());
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

/// Until something is so.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
    }
}

fn said(output: &Output) -> Result<String, String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

impl Lab {
    /// One guest, `g1`, that has booted.
    pub fn up() -> Self {
        let scripts = PathBuf::from(env::var_os("SINTER_VMLAB").unwrap());
        let lab = Self { scripts, state: env::var_os("VMLAB_STATE").unwrap().into() };
        // What an earlier run left when it was killed.
        lab.script("down.sh", &[]).ok();
        lab.script("up.sh", &["1"]).unwrap();
        lab
    }

    fn script(&self, name: &str, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new(self.scripts.join(name))
            .args(arguments)
            .env("VMLAB_NS", NAMESPACE)
            .env("VMLAB_PREFIX", PREFIX)
            // Another test's disk of programs is no business of these guests.
            .env("VMLAB_PAYLOAD", self.state.join("no-payload.img"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        said(&output)
    }

    fn host(&self) -> PathBuf {
        self.state.join("host1")
    }

    pub fn pool(&self) -> PathBuf {
        self.state.join("pool")
    }

    pub fn socket(&self) -> PathBuf {
        self.host().join("sock/libvirt-sock")
    }

    /// Runs a shell command as root in a guest, without its network.
    pub fn run(&self, guest: &str, command: &str) -> Result<String, String> {
        self.script("guest.sh", &["exec", guest, command])
    }

    /// As [`Self::run`], once the guest is far enough to do it.
    pub fn run_when_up(&self, guest: &str, command: &str) -> String {
        until(&format!("{guest} to be up"), || self.run(guest, command).ok())
    }

    pub fn virsh(&self, arguments: &[&str]) -> String {
        let uri = format!("qemu:///system?socket={}", self.socket().display());
        let output = Command::new("virsh").args(["-q", "-c", &uri]).args(arguments).output();
        said(&output.unwrap()).unwrap()
    }

    fn pid(path: &Path) -> Option<String> {
        fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
    }

    /// Ends libvirtd; machines go on.
    pub fn end_libvirt(&self) {
        let pid = Self::pid(&self.host().join("libvirtd.pid")).unwrap();
        Command::new("kill").arg(&pid).status().unwrap();
        let process = PathBuf::from("/proc").join(pid);
        until("libvirtd to end", || (!process.exists()).then_some(()));
    }

    /// Starts libvirtd again where it was: its machines are in the same namespaces.
    pub fn start_libvirt(&self) {
        let neighbour = Self::pid(&self.host().join("run/qemu/g1.pid")).unwrap();
        let started = Command::new("nsenter")
            .args(["--target", &neighbour, "--mount", "--net", "--uts", "libvirtd", "--daemon"])
            .arg("--config")
            .arg(self.host().join("libvirtd.conf"))
            .arg("--pid-file")
            .arg(self.host().join("libvirtd.pid"))
            .status();
        assert!(started.unwrap().success(), "libvirtd did not start");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(cause) = self.script("down.sh", &["--purge"]) {
            println!("{cause}");
        }
    }
}
