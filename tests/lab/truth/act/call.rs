//! The client: opens what it is told to open and counts what it wrote and read.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use common::sample::Protocol;
use socket2::SockRef;

use super::{
    super::script::{Calling, Connected, End, Ending, HEADER},
    Log, PATIENCE,
};

/// How long an attempt may go unanswered: less than the kernel's second try takes.
const ANSWER_WITHIN: Duration = Duration::from_millis(900);

/// What the server is to do after the answer.
pub(super) const GO_ON: u8 = 0;
/// It closes.
pub(super) const CLOSE: u8 = 1;

/// A connection that stays open until its process ends.
#[derive(Debug)]
pub(super) enum Open {
    Tcp(#[expect(dead_code, reason = "it is held, not used")] TcpStream),
    Udp(#[expect(dead_code, reason = "it is held, not used")] UdpSocket),
}

/// Makes one connection after another; gives those that stay open.
pub(super) fn run(calling: Calling, log: &Log) -> Vec<Open> {
    let mut open = Vec::new();
    for _ in 0..calling.connections {
        let made = match calling.protocol {
            Protocol::Tcp => tcp(calling, log),
            Protocol::Udp => udp(calling, log),
        };
        match made {
            Ok(Some(stays)) => open.push(stays),
            Ok(None) => {}
            Err(cause) => log.trouble(format!("{calling:?}: {cause}")),
        }
        thread::sleep(Duration::from_millis(calling.gap_ms));
    }
    open
}

fn failed(calling: Calling, lived: Duration) -> Connected {
    let any = match calling.to {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    Connected {
        protocol: calling.protocol,
        local: SocketAddr::new(any, 0),
        remote: calling.to,
        sent: 0,
        received: 0,
        end: End::Failed,
        lived_us: micros(lived),
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn tcp(calling: Calling, log: &Log) -> io::Result<Option<Open>> {
    let began = Instant::now();
    let Ok(mut stream) = TcpStream::connect_timeout(&calling.to, ANSWER_WITHIN) else {
        log.opened(failed(calling, began.elapsed()));
        return Ok(None);
    };
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut connected =
        Connected { local: stream.local_addr()?, ..failed(calling, began.elapsed()) };
    let mut request = vec![b'q'; (calling.request as usize).max(HEADER)];
    let mut answer = vec![0; calling.answer as usize];
    for exchange in 1..=calling.exchanges {
        let closes = calling.ending == Ending::ServerFirst && exchange == calling.exchanges;
        header(&mut request, calling.answer, if closes { CLOSE } else { GO_ON });
        stream.write_all(&request)?;
        connected.sent += request.len() as u64;
        stream.read_exact(&mut answer)?;
        connected.received += answer.len() as u64;
        thread::sleep(Duration::from_millis(calling.pause_ms));
    }
    connected.end = ended(&mut stream, calling.ending)?;
    if connected.end == End::Closed {
        drop(stream);
        connected.lived_us = micros(began.elapsed());
        log.opened(connected);
        return Ok(None);
    }
    connected.lived_us = micros(began.elapsed());
    log.opened(connected);
    Ok((connected.end == End::Open).then_some(Open::Tcp(stream)))
}

/// Length of the request, of the answer, and what comes after it.
fn header(request: &mut [u8], answer: u32, after: u8) {
    let length = u32::try_from(request.len()).unwrap_or(u32::MAX);
    request[..4].copy_from_slice(&length.to_be_bytes());
    request[4..8].copy_from_slice(&answer.to_be_bytes());
    request[8] = after;
}

fn ended(stream: &mut TcpStream, ending: Ending) -> io::Result<End> {
    match ending {
        Ending::ClientFirst => Ok(End::Closed),
        Ending::ServerFirst => {
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest)?;
            Ok(End::Closed)
        }
        Ending::Reset => {
            SockRef::from(&*stream).set_linger(Some(Duration::ZERO))?;
            Ok(End::Reset)
        }
        Ending::Stays => Ok(End::Open),
    }
}

fn udp(calling: Calling, log: &Log) -> io::Result<Option<Open>> {
    let began = Instant::now();
    let any = failed(calling, Duration::ZERO).local;
    let socket = UdpSocket::bind(any)?;
    socket.connect(calling.to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut connected =
        Connected { local: socket.local_addr()?, ..failed(calling, Duration::ZERO) };
    let mut request = vec![b'q'; (calling.request as usize).max(HEADER)];
    header(&mut request, calling.answer, GO_ON);
    let mut answer = vec![0; calling.answer as usize];
    for _ in 0..calling.exchanges {
        connected.sent += socket.send(&request)? as u64;
        connected.received += socket.recv(&mut answer)? as u64;
        thread::sleep(Duration::from_millis(calling.pause_ms));
    }
    connected.lived_us = micros(began.elapsed());
    let stays = calling.ending == Ending::Stays;
    connected.end = if stays { End::Open } else { End::Closed };
    log.opened(connected);
    Ok(stays.then_some(Open::Udp(socket)))
}
