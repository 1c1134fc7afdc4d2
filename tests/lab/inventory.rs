//! What looking at a large vCenter costs: the first look, which reads all of it, and those that
//! follow, which are told what changed.
//!
//! The vCenter is simulated, and works on the same cores: the time of a look is both programs'
//! together, the CPU is ours alone. Its samples are made up, so that the figure says what reading
//! them costs and nothing of what they say. For each change it reads its whole fleet once more, so
//! that a look at changes tells our CPU and calls and no time, and is left out where the fleet is
//! so large that it does not answer within a minute.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    time::{Duration, Instant},
};

use aggregator::{
    hypervisor::{
        Hypervisor as _,
        vsphere::{VsphereCentre, VsphereHypervisor},
    },
    vendor::Address,
};
use vsphere_soap::{Client, Element, Login};

use crate::{
    figure::{Failure, Row, Target, own_cpu_seconds, sizes},
    vcsim::{PASSWORD, USER, Vcsim, lacking},
};

/// Machines; `SINTER_LAB_SIZES` asks for others. The simulator takes minutes to make many.
const SIZES: [usize; 1] = [1_000];
/// Clusters that the machines are spread over.
const CLUSTERS: usize = 10;
/// Machines that change between two looks.
const CHANGED: usize = 10;
/// The largest fleet whose changes the simulator tells in time.
const CHANGING: usize = 1_500;
/// How long changing one may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What one look cost.
#[derive(Debug, Clone, Copy)]
struct Cost {
    seconds: f64,
    cpu_ms: f64,
    calls: f64,
}

/// Takes the figure.
///
/// # Errors
///
/// If the simulator is not there or does not come up.
pub fn measure() -> Result<Vec<Row>, Failure> {
    if let Some(lacking) = lacking() {
        return Err(lacking.into());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut rows = Vec::new();
    for size in sizes(&SIZES)? {
        rows.extend(runtime.block_on(of_size(size))?);
    }
    Ok(rows)
}

async fn of_size(size: usize) -> Result<Vec<Row>, Failure> {
    let each = size.div_ceil(CLUSTERS).to_string();
    let clusters = CLUSTERS.to_string();
    let vcsim =
        Vcsim::start(&["-plain", "-clusters", &clusters, "-hosts", "4", "-machines", &each])?;
    let folder = tempfile::tempdir()?;
    let credentials = folder.path().join("vc.toml");
    fs::write(&credentials, format!("user = '{USER}'\npassword = '{PASSWORD}'\n"))?;
    fs::set_permissions(&credentials, fs::Permissions::from_mode(0o600))?;
    let address = Address { url: vcsim.url.parse()?, trust: None, credentials: Some(credentials) };
    let centre = VsphereCentre { name: "lab".to_owned(), address, uplinks: [].into() };
    let hypervisor = VsphereHypervisor::new(vec![centre])?;

    let before = resident_mib()?;
    let (first, count) = look(&hypervisor).await?;
    let held = resident_mib()? - before;
    let (idle, _) = look(&hypervisor).await?;
    let after = match count <= CHANGING {
        true => Some((change(&vcsim, CHANGED).await?, look(&hypervisor).await?.0)),
        false => None,
    };
    let (counters, _) = totals(&hypervisor).await?;
    let (again, running) = totals(&hypervisor).await?;
    drop(vcsim);

    let named = |what: &str| format!("{count} machines: {what}");
    let mut rows = vec![Row::new(named("first look"), first.seconds, "s")];
    rows.extend(cost(&named("first look"), first, None));
    rows.push(Row::new(named("held in memory after it"), held, "MiB"));
    rows.push(aside(&named("a look, nothing changed"), "s", idle.seconds, first.seconds));
    rows.extend(cost(&named("a look, nothing changed"), idle, Some(first)));
    if let Some((changed, after)) = after {
        rows.extend(cost(&named(&format!("a look, {changed} changed")), after, Some(first)));
    }
    rows.push(Row::new(named("first totals"), counters.seconds, "s"));
    rows.extend(cost(&named("first totals"), counters, None));
    rows.push(Row::new(named(&format!("totals of {running}, again")), again.seconds, "s"));
    rows.extend(cost(&named(&format!("totals of {running}, again")), again, None));
    Ok(rows)
}

/// A look's CPU and calls, beside the first look's, which reads everything.
fn cost(name: &str, cost: Cost, whole: Option<Cost>) -> Vec<Row> {
    let row = |what: &str, unit, of: fn(Cost) -> f64| {
        let name = format!("{name}, {what}");
        match whole {
            Some(whole) => aside(&name, unit, of(cost), of(whole)),
            None => Row::new(name, of(cost), unit),
        }
    };
    vec![row("CPU of ours", "ms", |cost| cost.cpu_ms), row("calls", "calls", |cost| cost.calls)]
}

fn aside(name: &str, unit: &'static str, value: f64, whole: f64) -> Row {
    Row::new(name, value, unit).beside("first look", whole).held_to(Target::AtMostOfPeer(0.5))
}

async fn timed<T>(
    hypervisor: &VsphereHypervisor,
    work: impl Future<Output = Result<T, aggregator::hypervisor::HypervisorError>>,
) -> Result<(Cost, T), Failure> {
    let (begun, cpu, calls) = (Instant::now(), own_cpu_seconds(), hypervisor.calls());
    let told = work.await?;
    let calls = u32::try_from(hypervisor.calls() - calls)?;
    let cost = Cost {
        seconds: begun.elapsed().as_secs_f64(),
        cpu_ms: (own_cpu_seconds() - cpu) * 1e3,
        calls: f64::from(calls),
    };
    Ok((cost, told))
}

async fn look(hypervisor: &VsphereHypervisor) -> Result<(Cost, usize), Failure> {
    let (cost, told) = timed(hypervisor, hypervisor.inventory()).await?;
    Ok((cost, told.machines.len()))
}

async fn totals(hypervisor: &VsphereHypervisor) -> Result<(Cost, usize), Failure> {
    let (cost, told) = timed(hypervisor, hypervisor.telemetry()).await?;
    Ok((cost, told.len()))
}

/// Switches so many machines off, as an administrator does; gives how many.
async fn change(vcsim: &Vcsim, count: usize) -> Result<usize, Failure> {
    let address = Address { url: vcsim.url.parse()?, trust: None, credentials: None };
    let login = Login { user: USER.to_owned(), password: PASSWORD.to_owned() };
    let client = Client::new(address.client()?, address.url, Box::new(move || Ok(login.clone())));
    let root = client.session().await?.content.object("rootFolder")?;
    let manager = client.session().await?.content.object("viewManager")?;
    let arguments = vec![
        Element::reference("container", &root),
        Element::text("type", "VirtualMachine"),
        Element::text("recursive", true),
    ];
    let made = client.call("CreateContainerView", &manager, arguments).await?;
    let view = made.child("returnval").and_then(Element::moref).ok_or("no view")?;
    let told = client.object(&view, &["view"]).await?.ok_or("the view is gone")?;
    let machines = vsphere_soap::morefs(told.properties.get("view"));
    let mut changed = 0;
    for machine in machines.iter().take(count) {
        client.run("PowerOffVM_Task", machine, Vec::new(), PATIENCE).await?;
        changed += 1;
    }
    Ok(changed)
}

fn resident_mib() -> Result<f64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.ok_or("/proc/self/status has no VmRSS")? / 1024.0)
}
