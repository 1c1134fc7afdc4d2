//! What there is to see: processes that sleep, and processes that hold connections to themselves.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde::{Deserialize, Serialize};

use super::Size;
use crate::figure::Failure;

/// Sockets of one holder: below the number of descriptors that a process may have.
const OF_ONE: usize = 16_000;
/// Holders, so that the sockets are not all one process's.
const HOLDERS: usize = 10;

/// What one holder is told.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Holding {
    address: Ipv4Addr,
    pairs: usize,
}

/// Holds connections, says `ready`, and ends at the end of its input.
///
/// # Errors
///
/// If there are not descriptors or ports enough.
pub fn hold(file: &Path) -> Result<(), Failure> {
    let holding: Holding = serde_json::from_slice(&fs::read(file)?)?;
    let listener = TcpListener::bind(SocketAddrV4::new(holding.address, 0))?;
    let address = listener.local_addr()?;
    let mut held = Vec::new();
    for _ in 0..holding.pairs {
        let client = TcpStream::connect(address)?;
        held.push((client, listener.accept()?.0));
    }
    // Something was sent, as on any connection that is used.
    for (client, server) in &mut held {
        client.write_all(b"question")?;
        server.read_exact(&mut [0; 8])?;
    }
    writeln!(io::stdout(), "ready")?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// All of it; ended when this is dropped.
#[derive(Debug)]
pub(super) struct Stand(Vec<Child>);

impl Drop for Stand {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.kill());
        }
        for child in &mut self.0 {
            drop(child.wait());
        }
    }
}

impl Stand {
    /// Puts up so many sockets and processes, this one and all others in the namespace included.
    pub(super) fn put_up(size: Size, folder: &Path) -> Result<Self, Failure> {
        let mut stand = Self(Vec::new());
        let holders = HOLDERS.max(size.sockets.div_ceil(OF_ONE));
        for number in 0..holders {
            let pairs = size.sockets / 2 / holders;
            let last = u8::try_from(number + 1)?;
            let holding = Holding { address: Ipv4Addr::new(127, 0, 1, last), pairs };
            stand.holder(folder, number, &holding)?;
        }
        for _ in stand.0.len()..size.processes.saturating_sub(2) {
            stand.0.push(Command::new("sleep").arg("infinity").stdin(Stdio::null()).spawn()?);
        }
        Ok(stand)
    }

    fn holder(&mut self, folder: &Path, number: usize, holding: &Holding) -> Result<(), Failure> {
        let file = folder.join(format!("holder-{number}.json"));
        fs::write(&file, serde_json::to_vec(holding)?)?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("hold")
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(out) = child.stdout.as_mut() {
            BufReader::new(out).read_line(&mut line)?;
        }
        self.0.push(child);
        let is_up = line.trim() == "ready";
        is_up.then_some(()).ok_or_else(|| format!("a holder did not come up: {line:?}").into())
    }
}
