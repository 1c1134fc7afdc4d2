//! The parts a workload can play.

use std::{
    fs::OpenOptions,
    hint::black_box,
    io::{self, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{Cost, http};

/// More requests at once than this are turned away: a workload must not fall to its own load test.
const AT_ONCE: usize = 64;
/// A file grows to this size and is then begun anew.
const LARGEST_FILE: u64 = 8 << 20;

impl Cost {
    /// Memory touched page by page, so that it is resident and not merely promised.
    fn hold_memory(&self) -> Vec<u8> {
        let mut held = vec![0_u8; self.memory_mib << 20];
        for page in held.chunks_mut(4096) {
            page[0] = 1;
        }
        held
    }

    fn has_fault(&self) -> bool {
        self.fault_file.as_ref().is_some_and(|file| file.exists())
    }

    fn pay(&self) -> io::Result<()> {
        if self.has_fault() {
            return Err(io::Error::other("the fault file is there"));
        }
        for server in &self.call {
            http::call(*server)?;
        }
        burn(Duration::from_millis(self.cpu_ms));
        self.write()
    }

    fn write(&self) -> io::Result<()> {
        let Some(path) = self.write_to.as_ref().filter(|_| self.write_bytes > 0) else {
            return Ok(());
        };
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        if file.metadata()?.len() > LARGEST_FILE {
            file.set_len(0)?;
        }
        file.write_all(&vec![b'x'; self.write_bytes])?;
        file.sync_data()
    }
}

fn burn(span: Duration) {
    let begun = Instant::now();
    let mut sum = 0_u64;
    while begun.elapsed() < span {
        for n in 0..1_000_u64 {
            sum = black_box(sum.wrapping_mul(31).wrapping_add(n));
        }
    }
}

/// Answers every request once its work is done; `/health` without work.
pub(crate) fn serve(listen: SocketAddr, cost: &Cost) -> io::Result<()> {
    let held = cost.hold_memory();
    let listener = TcpListener::bind(listen)?;
    let at_once = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        if at_once.fetch_add(1, Ordering::SeqCst) >= AT_ONCE {
            at_once.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let (cost, at_once) = (cost.clone(), Arc::clone(&at_once));
        thread::Builder::new().stack_size(128 << 10).spawn(move || {
            // A caller that went away costs only its own answer.
            drop(serve_one(&stream, &cost));
            at_once.fetch_sub(1, Ordering::SeqCst);
        })?;
    }
    drop(black_box(held));
    Ok(())
}

fn serve_one(stream: &TcpStream, cost: &Cost) -> io::Result<()> {
    let path = http::read_request(stream)?;
    let well = if path == "/health" { !cost.has_fault() } else { cost.pay().is_ok() };
    if well { http::answer(stream, 200, "done\n") } else { http::answer(stream, 503, "not done\n") }
}

/// Pays the cost every so often; its health is that of the last run.
pub(crate) fn job(every: Duration, health: Option<SocketAddr>, cost: &Cost) -> io::Result<()> {
    let held = cost.hold_memory();
    let well = Arc::new(AtomicBool::new(true));
    if let Some(address) = health {
        let listener = TcpListener::bind(address)?;
        let (well, cost) = (Arc::clone(&well), cost.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let fine = well.load(Ordering::SeqCst) && !cost.has_fault();
                let answered = http::read_request(&stream)
                    .and_then(|_| http::answer(&stream, if fine { 200 } else { 503 }, ""));
                drop(answered);
            }
        });
    }
    loop {
        let begun = Instant::now();
        well.store(cost.pay().is_ok(), Ordering::SeqCst);
        black_box(&held);
        thread::sleep(every.saturating_sub(begun.elapsed()));
    }
}

/// Sends a request on every connection and then leaves them be: the server closes, we do not.
pub(crate) fn linger(connect: SocketAddr, count: usize) -> io::Result<()> {
    let mut held: Vec<TcpStream> = Vec::new();
    loop {
        while held.len() < count {
            let Ok(mut stream) = TcpStream::connect(connect) else { break };
            stream.write_all(b"GET /health HTTP/1.1\r\nconnection: close\r\n\r\n")?;
            held.push(stream);
        }
        thread::sleep(Duration::from_secs(1));
    }
}

/// Calls at a steady rate, whatever comes back.
pub(crate) fn visit(server: SocketAddr, rate: f64) -> io::Result<()> {
    if !(rate.is_finite() && rate > 0.0) {
        return Err(io::Error::other(format!("--rate is {rate}; write a number above 0")));
    }
    let every = Duration::from_secs_f64(1.0 / rate);
    loop {
        let begun = Instant::now();
        drop(http::call(server));
        thread::sleep(every.saturating_sub(begun.elapsed()));
    }
}
