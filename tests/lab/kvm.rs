//! A host with libvirt and one guest, driven by the scripts of a vmlab folder; gone when this is
//! dropped.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::vmlab::{self, Vmlab};

/// Of its own, so that another lab on the same host is not touched.
const NAMESPACE: &str = "sinter-kvm";
/// The first three octets of its network.
pub const PREFIX: &str = "10.98.8";

/// How long something in an emulated machine may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// The host. It ends with this.
#[derive(Debug)]
pub struct Lab {
    vmlab: Vmlab,
}

/// Until something is so.
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    vmlab::until(what, PATIENCE, look)
}

impl Lab {
    /// One guest, `g1`, that has booted.
    pub fn up() -> Self {
        // Another test's disk of programs is no business of these guests.
        let none = |state: &Path| state.join("no-payload.img");
        let vmlab = Vmlab::new(NAMESPACE, PREFIX, none).unwrap();
        vmlab.script("up.sh", &["1"]).unwrap();
        Self { vmlab }
    }

    /// Where its disks lie.
    pub fn pool(&self) -> PathBuf {
        self.vmlab.state().join("pool")
    }

    /// Where its libvirt listens.
    pub fn socket(&self) -> PathBuf {
        self.vmlab.socket()
    }

    /// Runs a shell command as root in a guest, without its network.
    pub fn run(&self, guest: &str, command: &str) -> io::Result<String> {
        self.vmlab.run(guest, command)
    }

    /// As [`Self::run`], once the guest is far enough to do it.
    pub fn run_when_up(&self, guest: &str, command: &str) -> String {
        until(&format!("{guest} to be up"), || self.run(guest, command).ok())
    }

    /// What its own tool says.
    pub fn virsh(&self, arguments: &[&str]) -> String {
        self.vmlab.virsh(arguments).unwrap()
    }

    fn pid(path: &Path) -> Option<String> {
        fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
    }

    /// Ends libvirtd; machines go on.
    pub fn end_libvirt(&self) {
        let pid = Self::pid(&self.vmlab.host().join("libvirtd.pid")).unwrap();
        Command::new("kill").arg(&pid).status().unwrap();
        let process = PathBuf::from("/proc").join(pid);
        until("libvirtd to end", || (!process.exists()).then_some(()));
    }

    /// Starts libvirtd again where it was: its machines are in the same namespaces.
    pub fn start_libvirt(&self) {
        let neighbour = Self::pid(&self.vmlab.host().join("run/qemu/g1.pid")).unwrap();
        let started = Command::new("nsenter")
            .args(["--target", &neighbour, "--mount", "--net", "--uts", "libvirtd", "--daemon"])
            .arg("--config")
            .arg(self.vmlab.host().join("libvirtd.conf"))
            .arg("--pid-file")
            .arg(self.vmlab.host().join("libvirtd.pid"))
            .status();
        assert!(started.unwrap().success(), "libvirtd did not start");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(cause) = self.vmlab.script("down.sh", &["--purge"]) {
            println!("{cause}");
        }
    }
}
