//! As much HTTP/1.1 as the workload needs: one request a connection, no bodies but short ones.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// A peer that is slower than this is taken for dead.
const PATIENCE: Duration = Duration::from_secs(2);
/// A request head longer than this is not ours.
const LONGEST_HEAD: u64 = 8 * 1024;

/// Reads the head of a request and gives its path.
pub(crate) fn read_request(stream: &TcpStream) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream.take(LONGEST_HEAD)).lines();
    let first = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    for line in lines {
        if line?.is_empty() {
            let path = first.split_whitespace().nth(1).unwrap_or("/");
            return Ok(path.to_owned());
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Answers a request and lets go of the connection.
pub(crate) fn answer(mut stream: &TcpStream, status: u16, body: &str) -> io::Result<()> {
    let reason = if status == 200 { "OK" } else { "Service Unavailable" };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

/// Calls a server once; an answer other than 200 is an error.
pub(crate) fn call(server: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(
        format!("GET / HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = Vec::new();
    stream.take(LONGEST_HEAD).read_to_end(&mut answer)?;
    if answer.starts_with(b"HTTP/1.1 200") {
        return Ok(());
    }
    Err(io::Error::other(format!("{server} did not answer 200")))
}
