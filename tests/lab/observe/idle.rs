//! The agent at rest: the program itself, with an identity and an aggregator that is not there.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use agent::{
    config::Config,
    identity::{Given, IdentityStore},
};
use common::{
    clock::{Clock as _, SystemClock},
    pki::{self, AgentKey, Authority},
    signing::ListKey,
};
use serde::{Deserialize, Serialize};

use super::floors::cpu_of;
use crate::figure::{Failure, Row, Target};

/// After the first looks and the first attempts to reach the aggregator.
const WARM_AFTER: Duration = Duration::from_secs(25);
/// Six samples at the default cadence.
const MEASURED_FOR: Duration = Duration::from_secs(60);

/// The program that rests.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) program: PathBuf,
    /// Which build of it that is, for people.
    pub(super) build: &'static str,
}

impl Agent {
    /// The one that `SINTER_STATIC_AGENT` names, which is as it is shipped; else this laboratory's own build.
    pub(super) fn find() -> Result<Self, Failure> {
        let Some(named) = env::var_os("SINTER_STATIC_AGENT") else {
            let program = crate::programs::program("sinter-agent")?;
            return Ok(Self { program, build: "the laboratory's build" });
        };
        let program = PathBuf::from(named);
        if !program.is_file() {
            let named = program.display();
            return Err(format!(
                "SINTER_STATIC_AGENT names {named}, which is no file; \
                 packaging/build-agent.sh builds one and says where"
            )
            .into());
        }
        Ok(Self { program, build: "as shipped" })
    }
}

/// What the agent costs at rest.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Idle {
    cpu_percent: f64,
    resident: u64,
    most_resident: u64,
}

/// Runs the agent in `folder` and measures it.
pub(super) fn measure(folder: &Path, agent: &Path) -> Result<Idle, Failure> {
    let config = configured(folder)?;
    let mut child = Command::new(agent)
        .arg("run")
        .arg("--config")
        .arg(config)
        .stdout(Stdio::null())
        .stderr(fs::File::create(folder.join("agent.log"))?)
        .spawn()?;
    let idle = watched(&mut child);
    let ended = child.try_wait()?;
    drop(child.kill());
    child.wait()?;
    match ended {
        None => idle,
        Some(status) => {
            let log = fs::read_to_string(folder.join("agent.log"))?;
            Err(format!("the agent ended with {status}:\n{log}").into())
        }
    }
}

fn watched(child: &mut Child) -> Result<Idle, Failure> {
    thread::sleep(WARM_AFTER);
    let (before, began) = (cpu_of(child.id())?, Instant::now());
    thread::sleep(MEASURED_FOR);
    let spent = cpu_of(child.id())?.saturating_sub(before);
    Ok(Idle {
        cpu_percent: 100.0 * spent.as_secs_f64() / began.elapsed().as_secs_f64(),
        resident: status(child.id(), "VmRSS:")?,
        most_resident: status(child.id(), "VmHWM:")?,
    })
}

fn status(pid: u32, field: &str) -> Result<u64, Failure> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = text.lines().find_map(|line| line.strip_prefix(field)?.split_whitespace().next());
    let kib = kib.ok_or_else(|| format!("/proc/{pid}/status has no {field}"))?;
    Ok(kib.parse::<u64>()? << 10)
}

/// A configuration with an identity that an authority of ours gave.
fn configured(folder: &Path) -> Result<std::path::PathBuf, Failure> {
    const UUID: &str = "0b6f3b0e-5a53-4000-8000-0000000000aa";
    let (dmi, home) = (folder.join("dmi"), folder.join("agent"));
    fs::create_dir_all(&dmi)?;
    fs::create_dir_all(&home)?;
    fs::write(dmi.join("product_uuid"), UUID)?;
    fs::write(folder.join("applications.toml"), "")?;
    let now = SystemClock.now();
    let authority = Authority::create(now)?;
    let text = format!(
        "aggregator = \"127.0.0.1:1\"\nauthority_fingerprint = \"{}\"\nfolder = \"{}\"\n\
         applications = \"{}\"\ndmi = \"{}\"\n",
        pki::fingerprint_of_pem(authority.certificate_pem())?,
        home.display(),
        folder.join("applications.toml").display(),
        dmi.display(),
    );
    let file = folder.join("agent.toml");
    fs::write(&file, text)?;
    let key = AgentKey::generate()?;
    let agent: common::id::AgentId = "laboratory".parse()?;
    let day = Duration::from_secs(86_400);
    let given = authority.issue_agent(&key.request()?, &agent, now, day)?;
    let given = Given {
        certificate_pem: given.certificate_pem,
        authority_pem: authority.certificate_pem().to_owned(),
        list_keys: vec![ListKey::generate()?.public().to_bytes().to_vec()],
    };
    IdentityStore::new(&Config::read(&file)?).enrolled(&key, (agent.as_str(), UUID), given)?;
    Ok(file)
}

impl Idle {
    #[expect(clippy::cast_precision_loss, reason = "bytes of one process")]
    pub(super) fn rows(&self, build: &str) -> [Row; 3] {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let row = |what: &str, value: f64, unit: &'static str, most: f64| {
            let name = format!("{what} at rest, 1,000 sockets, {build}");
            Row::new(name, value, unit).held_to(Target::AtMost(most))
        };
        [
            row("CPU of the agent", self.cpu_percent, "% of a core", 0.2),
            row("resident memory of the agent", mib(self.resident), "MiB", 16.0),
            row("most resident memory of the agent", mib(self.most_resident), "MiB", 16.0),
        ]
    }
}
