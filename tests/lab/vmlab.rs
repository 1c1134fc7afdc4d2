//! Virtual machines made by the scripts of a vmlab folder: `SINTER_VMLAB` names it, `VMLAB_STATE` where
//! the guests' image and the sockets lie. Whoever makes one takes it down: what is kept of its disks and
//! logs is theirs to say.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

/// One laboratory of the host, told from others by its namespace and network.
#[derive(Debug)]
pub struct Vmlab {
    scripts: PathBuf,
    state: PathBuf,
    namespace: &'static str,
    prefix: &'static str,
    payload: PathBuf,
}

/// Why there can be none, for [`crate::demonstration::left_out`]; builds the guests' image if that is
/// not there.
#[must_use]
pub fn lacking() -> Option<String> {
    let scripts = env::var_os("SINTER_VMLAB").map(PathBuf::from);
    let Some(scripts) = scripts.filter(|folder| folder.join("up.sh").exists()) else {
        return Some("SINTER_VMLAB does not name a folder with up.sh, payload.sh, guest.sh".into());
    };
    if env::var_os("VMLAB_STATE").is_none() {
        return Some("VMLAB_STATE does not name a folder for images and sockets".into());
    }
    said(Command::new(scripts.join("build-image.sh")).output()).err().map(|cause| cause.to_string())
}

impl Vmlab {
    /// The laboratory in a namespace, whose network begins with `prefix` (three octets); its guests
    /// mount the disk `payload` if that is there. What an earlier run left when it was killed goes.
    ///
    /// # Errors
    ///
    /// If [`lacking`] says why.
    pub fn new(
        namespace: &'static str,
        prefix: &'static str,
        payload: impl FnOnce(&Path) -> PathBuf,
    ) -> io::Result<Self> {
        let named = |name: &str| {
            env::var_os(name)
                .map(PathBuf::from)
                .ok_or_else(|| io::Error::other(format!("no {name}")))
        };
        let (scripts, state) = (named("SINTER_VMLAB")?, named("VMLAB_STATE")?);
        let payload = payload(&state);
        let lab = Self { scripts, state, namespace, prefix, payload };
        // There may be nothing to be taken down.
        drop(lab.script("down.sh", &[]));
        Ok(lab)
    }

    /// Runs one of the scripts; gives what it printed.
    ///
    /// # Errors
    ///
    /// If it fails; its own words say why.
    pub fn script(&self, name: &str, arguments: &[&str]) -> io::Result<String> {
        let output = Command::new(self.scripts.join(name))
            .args(arguments)
            .env("VMLAB_NS", self.namespace)
            .env("VMLAB_PREFIX", self.prefix)
            .env("VMLAB_PAYLOAD", &self.payload)
            .stdin(Stdio::null())
            .output();
        said(output).map_err(|cause| io::Error::other(format!("{name} {arguments:?}: {cause}")))
    }

    /// Runs a shell command as root in a guest, without its network.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn run(&self, guest: &str, command: &str) -> io::Result<String> {
        self.script("guest.sh", &["exec", guest, command])
    }

    /// Asks the first host's libvirt.
    ///
    /// # Errors
    ///
    /// If it refuses.
    pub fn virsh(&self, arguments: &[&str]) -> io::Result<String> {
        let uri = format!("qemu:///system?socket={}", self.socket().display());
        said(Command::new("virsh").args(["-q", "-c", &uri]).args(arguments).output())
    }

    /// Where all of it lies.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The first host's folder.
    #[must_use]
    pub fn host(&self) -> PathBuf {
        self.state.join("host1")
    }

    /// Where the first host's libvirt listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.host().join("sock/libvirt-sock")
    }
}

/// What a program printed, or what it said when it failed.
fn said(output: io::Result<Output>) -> io::Result<String> {
    let output = output?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// What is seen once it is there.
///
/// # Panics
///
/// If that takes longer than `patience`.
pub fn until<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < patience, "waited in vain for {what}");
    }
}
