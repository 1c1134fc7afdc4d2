//! Every reader that is measured: the agent's own, the least the kernel lets anybody spend, and
//! what others do.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    os::fd::{AsRawFd as _, OwnedFd},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use agent::observe::{Inputs, LinuxObserver, Observe as _, Settings};
use common::clock::{Clock as _, SystemClock};
use netstat2::{AddressFamilyFlags, ProtocolFlags};
use nix::sys::{
    resource::{UsageWho, getrusage},
    socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket},
    time::TimeVal,
};

use super::{Cost, DUMP, EXPORTER, OURS, Size, WALK};
use crate::figure::Failure;

/// Costs of all readers at this size.
pub(super) fn all(size: Size) -> Result<BTreeMap<String, Cost>, Failure> {
    let looks = (40_000 / (size.sockets + size.processes)).clamp(3, 40);
    let mut costs = BTreeMap::new();
    let mut observer = LinuxObserver::new(Settings::default());
    let inputs = Inputs::default();
    let mut ours = || Ok(observer.observe(&inputs, SystemClock.now()).map(drop)?);
    // The first look makes what later ones only keep up.
    ours()?;
    costs.insert(OURS.to_owned(), repeated(looks, &mut ours)?);
    drop(observer);
    costs.insert(DUMP.to_owned(), repeated(looks, &mut dump)?);
    costs.insert(WALK.to_owned(), repeated(looks, &mut walk)?);
    costs.insert("netstat2 with processes".to_owned(), repeated(looks, &mut netstat)?);
    costs.insert("ss -tanp".to_owned(), repeated(looks.min(10), &mut ss)?);
    if let Some(cost) = exporter(looks.min(10))? {
        costs.insert(EXPORTER.to_owned(), cost);
    }
    Ok(costs)
}

/// CPU time of this process and of the children it waited for.
fn cpu() -> Result<Duration, Failure> {
    let mut sum = Duration::ZERO;
    for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
        let usage = getrusage(who)?;
        sum += time(usage.user_time())? + time(usage.system_time())?;
    }
    Ok(sum)
}

/// CPU time of this thread, as the scheduler counted it: of what is too short for the clock of a process. It
/// counts when a thread gives up its core, so that this one does.
pub(super) fn used() -> Result<Duration, Failure> {
    thread::sleep(Duration::from_millis(1));
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(Duration::from_nanos(text.split_whitespace().next().unwrap_or_default().parse()?))
}

fn time(value: TimeVal) -> Result<Duration, Failure> {
    let seconds = Duration::from_secs(u64::try_from(value.tv_sec())?);
    Ok(seconds + Duration::from_micros(u64::try_from(value.tv_usec())?))
}

fn repeated(times: usize, look: &mut dyn FnMut() -> Result<(), Failure>) -> Result<Cost, Failure> {
    let (before, began) = (cpu()?, Instant::now());
    for _ in 0..times {
        look()?;
    }
    Ok(each(times, cpu()? - before, began.elapsed()))
}

#[expect(clippy::cast_precision_loss, reason = "a few looks")]
fn each(times: usize, cpu: Duration, wall: Duration) -> Cost {
    let each_ms = |all: Duration| all.as_secs_f64() * 1_000.0 / times as f64;
    Cost { cpu_ms: each_ms(cpu), wall_ms: each_ms(wall) }
}

/// Asks for the tables of TCP and UDP with all that the kernel counts, and reads nothing of them
/// but where each message ends.
fn dump() -> Result<(), Failure> {
    let (inet, inet6, tcp, udp) = (2, 10, 6, 17);
    let flags = SockFlag::SOCK_CLOEXEC;
    let protocol = SockProtocol::NetlinkSockDiag;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    for (family, protocol) in [(inet, tcp), (inet6, tcp), (inet, udp), (inet6, udp)] {
        one_dump(&socket, family, protocol)?;
    }
    Ok(())
}

fn one_dump(socket: &OwnedFd, family: u8, protocol: u8) -> Result<(), Failure> {
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const REQUEST_DUMP: u16 = 0x301;
    const WITH_TCP_INFO: u8 = 2;
    let mut request = Vec::with_capacity(72);
    request.extend(72_u32.to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(REQUEST_DUMP.to_ne_bytes());
    request.extend([0; 8]);
    request.extend([family, protocol, WITH_TCP_INFO, 0]);
    request.extend(u32::MAX.to_ne_bytes());
    request.resize(72, 0);
    send(socket.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        if is_last(&buffer[..length])? {
            return Ok(());
        }
    }
}

/// Whether a message among these says that the table is over.
fn is_last(mut messages: &[u8]) -> Result<bool, Failure> {
    const ERROR: u16 = 2;
    const DONE: u16 = 3;
    while let Some((header, _)) = messages.split_at_checked(16) {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        match u16::from_ne_bytes([header[4], header[5]]) {
            DONE => return Ok(true),
            ERROR => return Err("the kernel refused the dump".into()),
            _ => {}
        }
        let Some((_, rest)) = messages.split_at_checked(length.next_multiple_of(4).max(16)) else {
            break;
        };
        messages = rest;
    }
    Ok(false)
}

/// Reads one file of every process.
fn walk() -> Result<(), Failure> {
    let mut text = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        if name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()) {
            text.clear();
            // It may have ended.
            if let Ok(mut file) = fs::File::open(format!("/proc/{}/stat", name.to_string_lossy())) {
                drop(file.read_to_end(&mut text));
            }
        }
    }
    Ok(())
}

fn netstat() -> Result<(), Failure> {
    let families = AddressFamilyFlags::IPV4 | AddressFamilyFlags::IPV6;
    let rows = netstat2::get_sockets_info(families, ProtocolFlags::TCP | ProtocolFlags::UDP)?;
    drop(rows);
    Ok(())
}

fn ss() -> Result<(), Failure> {
    Command::new("ss").arg("-tanp").stdout(Stdio::null()).status()?;
    Ok(())
}

/// Where the exporter listens.
const SCRAPED: &str = "127.0.0.1:9100";

/// The exporter of Prometheus with what comes nearest to what the agent tells; `None`, said loudly,
/// if it is not installed.
fn exporter(scrapes: usize) -> Result<Option<Cost>, Failure> {
    let started = Command::new("prometheus-node-exporter")
        .args(["--collector.tcpstat", "--collector.processes"])
        .arg(format!("--web.listen-address={SCRAPED}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            writeln!(io::stderr(), "LEFT OUT: prometheus-node-exporter is not installed")?;
            return Ok(None);
        }
        Err(cause) => return Err(cause.into()),
    };
    let cost = scraped(&child, scrapes);
    child.kill()?;
    child.wait()?;
    cost.map(Some)
}

fn scraped(child: &Child, scrapes: usize) -> Result<Cost, Failure> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while scrape().is_err() {
        if Instant::now() > deadline {
            return Err("the exporter does not answer".into());
        }
        thread::sleep(Duration::from_millis(50));
    }
    let (before, began) = (cpu_of(child.id())?, Instant::now());
    for _ in 0..scrapes {
        scrape()?;
    }
    Ok(each(scrapes, cpu_of(child.id())?.saturating_sub(before), began.elapsed()))
}

fn scrape() -> io::Result<()> {
    let mut stream = TcpStream::connect(SCRAPED)?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let is_whole = answer.windows(21).any(|text| text == b"node_tcp_connection_s");
    is_whole.then_some(()).ok_or_else(|| io::Error::other("no table of connections in it"))
}

/// CPU time of all threads of a process, as the scheduler counted it.
pub(super) fn cpu_of(pid: u32) -> Result<Duration, Failure> {
    let mut sum = 0_u64;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may have ended since.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        sum += text.split_whitespace().next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(Duration::from_nanos(sum))
}
