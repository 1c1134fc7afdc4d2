//! Four real virtual machines with systemd, nginx and redis of Debian, agents in them, and an aggregator
//! that steers them over libvirt. All of it is in a network namespace of its own and goes when this
//! is dropped.
//!
//! ```text
//!  vmbr0 (production) ─┬─ g1 nginx ─┬─ g2 redis ─┬─ g3 shop, cart ─┬─ g4 report
//!  mgbr0 (management) ─┴────────────┴────────────┴─────────────────┴─── aggregator
//! ```

pub mod aggregator;
pub mod state;
pub mod story;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use lab::vmlab::{self, Vmlab};
use tempfile::TempDir;

/// Of its own, so that another lab on the same host is not touched.
pub const NAMESPACE: &str = "sinter-loop";
/// The first three octets of the production network.
const PRODUCTION: &str = "10.98.6";
/// And of the network by which guests reach the aggregator.
pub const MANAGEMENT: &str = "10.98.66";

/// The guests, by number from 1: what runs in each.
const GUESTS: [(&str, &[&str]); 4] =
    [("g1", &["nginx"]), ("g2", &["redis"]), ("g3", &["shop", "cart"]), ("g4", &["report"])];

/// Each application as an agent knows it: its name, its unit, its health.
const APPLICATIONS: [(&str, &str, &str); 5] = [
    ("nginx", "nginx", "kind = \"http\", port = 80"),
    ("redis", "redis-server", "kind = \"tcp\", port = 6379"),
    ("shop", "shop", "kind = \"running\""),
    ("cart", "cart", "kind = \"running\""),
    ("report", "report", "kind = \"http\", port = 9100, path = \"/health\""),
];

/// While this file is in a guest, the report there is of no use.
pub const FAULT: &str = "/var/lib/report.fault";

/// How long something in an emulated machine may take.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Until something is so.
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    vmlab::until(what, PATIENCE, look)
}

/// What agents are told so that they find and trust the aggregator.
pub struct Introduction {
    pub fingerprint: String,
    pub token: String,
}

/// The host with its networks, and what is put into its guests.
pub struct Farm {
    pub vmlab: Vmlab,
    pub folder: TempDir,
}

impl Farm {
    /// The host and its networks; no guest yet.
    pub fn up() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("payload.img");
        let vmlab = Vmlab::new(NAMESPACE, PRODUCTION, |_| disk).unwrap();
        let farm = Self { vmlab, folder };
        farm.vmlab.script("up.sh", &["0"]).unwrap();
        let management = farm.folder.path().join("management.xml");
        let text = format!(
            "<network><name>management</name><bridge name='mgbr0' stp='off' delay='0'/>\
             <forward mode='open'/><ip address='{MANAGEMENT}.1' netmask='255.255.255.0'><dhcp>\
             <range start='{MANAGEMENT}.100' end='{MANAGEMENT}.199'/></dhcp></ip></network>"
        );
        fs::write(&management, text).unwrap();
        farm.vmlab.virsh(&["net-create", management.to_str().unwrap()]).unwrap();
        farm
    }

    /// Boots all guests with `agent` in them; gives what each printed once it was up.
    pub fn boot(&self, agent: &Path, introduction: &Introduction) -> Vec<String> {
        self.pack(agent, introduction).unwrap();
        self.vmlab.virsh(&["pool-refresh", "vmlab"]).unwrap();
        for number in 1..=GUESTS.len() {
            self.start(number);
        }
        let waited = GUESTS.iter().map(|(name, _)| self.vmlab.script("guest.sh", &["wait", name]));
        waited.map(|printed| printed.unwrap().trim().to_owned()).collect()
    }

    fn pack(&self, agent: &Path, introduction: &Introduction) -> io::Result<()> {
        let payload = self.folder.path().join("payload");
        fs::create_dir(&payload)?;
        fs::copy(agent, payload.join("sinter-agent"))?;
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        for entry in fs::read_dir(root.join("real/payload"))? {
            let from = entry?.path();
            let to = payload.join(from.file_name().unwrap_or_default());
            // With the rights it has: one of them is executed.
            fs::copy(&from, &to)?;
            if from.extension().is_some_and(|kind| kind == "service") {
                let text = fs::read_to_string(&from)?.replace("PREFIX", PRODUCTION);
                fs::write(&to, text)?;
            }
        }
        let unit = root.parent().unwrap_or(&root).join("packaging/systemd/sinter-agent.service");
        fs::copy(unit, payload.join("sinter-agent.service"))?;
        fs::write(payload.join("agent.toml"), agent_toml(introduction))?;
        for (number, (_, own)) in GUESTS.iter().enumerate() {
            let name = format!("applications-{}.toml", number + 1);
            fs::write(payload.join(name), applications_toml(own))?;
        }
        self.vmlab.script("payload.sh", &[&payload.display().to_string()]).map(drop)
    }

    /// As `guest.sh start` does, with a second card.
    fn start(&self, number: usize) {
        let name = GUESTS[number - 1].0;
        let virsh = |arguments: &[&str]| drop(self.vmlab.virsh(arguments).unwrap());
        let volume = format!("{name}.qcow2");
        let base = ["--backing-vol", "base.qcow2", "--backing-vol-format", "qcow2"];
        let create = ["vol-create-as", "vmlab", &volume, "2G", "--format", "qcow2"];
        virsh(&[&create[..], &base].concat());
        let card = format!(
            "<interface type='network'><mac address='52:54:00:66:00:{number:02x}'/>\
             <source network='management'/><model type='virtio'/></interface></devices>"
        );
        let text = self.vmlab.script("guest.sh", &["xml", name]).unwrap();
        let path = self.folder.path().join(format!("{name}.xml"));
        // On a busy host an emulated clock may be too late for the kernel's test of it, which panics.
        let text = text.replace("</cmdline>", " no_timer_check</cmdline>");
        // With one its emulator is at its limit whenever a program starts, and there is no room to see.
        let text = text.replace("current='1'", "current='2'");
        fs::write(&path, text.replace("</devices>", &card)).unwrap();
        virsh(&["define", path.to_str().unwrap()]);
        virsh(&["start", name]);
    }

    /// Runs a shell command as root in a guest, by its hypervisor.
    pub fn run(&self, guest: &str, command: &str) -> io::Result<String> {
        self.vmlab.run(guest, command)
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        if let Err(cause) = self.vmlab.script("down.sh", &["--purge"]) {
            println!("{cause}");
        }
    }
}

/// The budget is wide: an emulated guest takes ten times as long for everything.
fn agent_toml(introduction: &Introduction) -> String {
    let Introduction { fingerprint, token } = introduction;
    format!(
        "aggregator = \"{MANAGEMENT}.1:7401\"\nauthority_fingerprint = \"{fingerprint}\"\n\
         token = \"{token}\"\napply = true\nspool_mib = 16\nservices = \"systemd\"\n\
         [budget]\ncpu_percent = 50\nmemory_mib = 128\n[software]\npackages = false\n"
    )
}

/// All that may run in a guest; its own is what it came with.
fn applications_toml(own: &[&str]) -> String {
    let each = APPLICATIONS.iter().map(|(name, unit, health)| {
        let autostart = own.contains(name);
        format!(
            "[{name}]\ndriver = \"systemd\"\nunit = \"{unit}.service\"\nautostart = {autostart}\n\
             health = {{ {health}, within_seconds = 120 }}\n"
        )
    });
    each.collect()
}
