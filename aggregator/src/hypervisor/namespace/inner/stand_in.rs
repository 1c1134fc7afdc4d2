//! Stands in for whom a machine on trial calls: HTTP requests get an empty 200, all else is
//! accepted and read, so that the machine can work without reaching anybody.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// Most connections at once at one address; more are closed as they come.
const MOST_CONNECTIONS: usize = 512;

/// A silent connection is kept so long.
const IDLE: Duration = Duration::from_secs(120);

/// Longest line of a request's head, and most lines.
const MOST_LINE: u64 = 16 << 10;
const MOST_LINES: usize = 200;

const METHODS: [&str; 8] =
    ["GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "OPTIONS ", "PATCH ", "TRACE "];

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// Answers at an address until this process ends. One that cannot be had is left out: the machine
/// then finds nobody there, which the trial will show.
pub(super) fn serve(address: SocketAddr) {
    let listener = match TcpListener::bind(address) {
        Ok(listener) => listener,
        Err(cause) => {
            let said = writeln!(io::stderr(), "nobody stands in at {address}: {cause}");
            return drop(said);
        }
    };
    thread::spawn(move || {
        let open = Arc::new(AtomicUsize::new(0));
        for stream in listener.incoming().flatten() {
            if open.fetch_add(1, Ordering::Relaxed) >= MOST_CONNECTIONS {
                open.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let open = Arc::clone(&open);
            thread::spawn(move || {
                // However it ends, it ends this connection alone.
                drop(answer(&stream));
                open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
}

fn answer(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    let mut input = BufReader::new(stream);
    let mut output = stream;
    loop {
        let begin = input.fill_buf()?;
        if begin.is_empty() {
            return Ok(());
        }
        if !METHODS.iter().any(|method| is_begin(begin, method.as_bytes())) {
            return io::copy(&mut input, &mut io::sink()).map(drop);
        }
        let Some(head) = head(&mut input)? else { return Ok(()) };
        io::copy(&mut input.by_ref().take(head.body), &mut io::sink())?;
        output.write_all(ANSWER)?;
        if head.is_last {
            return Ok(());
        }
    }
}

/// Whether what came so far is the method or may become it.
fn is_begin(begin: &[u8], method: &[u8]) -> bool {
    let length = begin.len().min(method.len());
    begin[..length] == method[..length]
}

/// What matters of a request's head.
struct Head {
    /// Length of the body behind it.
    body: u64,
    /// Whether the caller waits for our end of the connection.
    is_last: bool,
}

/// Reads a request's head; `None` if it is none.
fn head(input: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut head = Head { body: 0, is_last: false };
    for _ in 0..MOST_LINES {
        let mut line = Vec::new();
        input.by_ref().take(MOST_LINE).read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") {
            return Ok(None);
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_ascii_lowercase();
        if line.is_empty() {
            return Ok(Some(head));
        }
        head.is_last |= line.ends_with(" http/1.0") || is_close(&line);
        if let Some(length) = line.strip_prefix("content-length:") {
            let Ok(length) = length.trim().parse() else { return Ok(None) };
            head.body = length;
        }
    }
    Ok(None)
}

fn is_close(line: &str) -> bool {
    line.strip_prefix("connection:").is_some_and(|value| value.trim() == "close")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(request: &[u8]) -> Vec<u8> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut caller = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let serving = thread::spawn(move || answer(&stream));
        caller.write_all(request).unwrap();
        caller.shutdown(std::net::Shutdown::Write).unwrap();
        let mut said = Vec::new();
        caller.read_to_end(&mut said).unwrap();
        serving.join().unwrap().unwrap();
        said
    }

    #[test]
    fn every_request_of_a_connection_is_answered_and_its_body_is_not_a_request() {
        let said = called(
            b"POST /a HTTP/1.1\r\nContent-Length: 14\r\n\r\nGET / HTTP/1.1GET /b HTTP/1.1\r\n\r\n",
        );

        assert_eq!(said, [ANSWER, ANSWER].concat());
    }

    #[test]
    fn a_caller_that_wants_the_connection_closed_sees_its_end() {
        let said = called(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n\r\n");

        assert_eq!(said, ANSWER);
    }

    #[test]
    fn what_is_no_http_is_read_and_not_answered() {
        assert!(called(b"\x00\x01 some other protocol").is_empty());
        assert!(called(b"GET / HTTP/1.1\r\nContent-Length: many\r\n\r\n").is_empty());
    }
}
