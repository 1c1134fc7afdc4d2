//! The server: answers as the requests ask it to and counts what it read and wrote.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    thread,
    time::Instant,
};

use common::sample::Protocol;

use super::{
    super::script::{Connected, End, HEADER, Serving},
    Log, call,
};

/// Longest request or answer.
const LONGEST: usize = 16 << 20;

/// Listens; answers in threads of its own until the process ends.
pub(super) fn listen(serving: Serving, log: &Log) -> io::Result<()> {
    let log = log.clone();
    match serving.protocol {
        Protocol::Tcp => {
            let listener = TcpListener::bind(serving.listen)?;
            thread::spawn(move || accept(&listener, &log));
        }
        Protocol::Udp => {
            let socket = UdpSocket::bind(serving.listen)?;
            thread::spawn(move || echo(&socket, &log));
        }
    }
    Ok(())
}

fn accept(listener: &TcpListener, log: &Log) {
    for stream in listener.incoming() {
        let log = log.clone();
        match stream {
            Ok(stream) => drop(thread::spawn(move || {
                if let Err(cause) = answer(stream, &log) {
                    log.trouble(format!("an accepted connection: {cause}"));
                }
            })),
            Err(cause) => log.trouble(format!("accepting: {cause}")),
        }
    }
}

/// Answers until the client or the request says that it is over.
fn answer(mut stream: TcpStream, log: &Log) -> io::Result<()> {
    let began = Instant::now();
    stream.set_nodelay(true)?;
    let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
    let mut connected = Connected {
        protocol: Protocol::Tcp,
        local,
        remote,
        sent: 0,
        received: 0,
        end: End::Open,
        lived_us: 0,
    };
    connected.end = loop {
        let mut header = [0; HEADER];
        match stream.read_exact(&mut header) {
            Ok(()) => {}
            Err(cause) if cause.kind() == io::ErrorKind::ConnectionReset => break End::Reset,
            Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => break End::Closed,
            Err(cause) => return Err(cause),
        }
        let length = |place: usize| {
            let bytes = [header[place], header[place + 1], header[place + 2], header[place + 3]];
            (u32::from_be_bytes(bytes) as usize).min(LONGEST)
        };
        let mut rest = vec![0; length(0).saturating_sub(HEADER)];
        stream.read_exact(&mut rest)?;
        connected.received += (HEADER + rest.len()) as u64;
        stream.write_all(&vec![b'a'; length(4)])?;
        connected.sent += length(4) as u64;
        if header[8] == call::CLOSE {
            break End::Closed;
        }
    };
    drop(stream);
    connected.lived_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    log.accepted(connected);
    Ok(())
}

fn echo(socket: &UdpSocket, log: &Log) {
    let mut buffer = vec![0; 65_536];
    loop {
        let done = socket.recv_from(&mut buffer).and_then(|(_, from)| {
            let length = [buffer[4], buffer[5], buffer[6], buffer[7]];
            let length = (u32::from_be_bytes(length) as usize).min(1_400);
            socket.send_to(&vec![b'a'; length], from)
        });
        if let Err(cause) = done {
            log.trouble(format!("a datagram: {cause}"));
        }
    }
}
