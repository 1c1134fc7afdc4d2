//! The fixed kinds of health check. None of them runs a command.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time,
};

use crate::config::HealthKind;

/// How long one look may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// Bytes of an answer that are looked at: the status line fits many times.
const LOOKED_AT: usize = 256;

/// Asks once. That the process runs is checked elsewhere.
pub(super) async fn probe(kind: &HealthKind) -> Result<(), String> {
    let (address, port) = match kind {
        HealthKind::Running => return Ok(()),
        HealthKind::Tcp { address, port } | HealthKind::Http { address, port, .. } => {
            (*address, *port)
        }
    };
    let ask = async {
        let mut stream = connect(address, port).await?;
        match kind {
            HealthKind::Http { path, .. } => http(&mut stream, path).await,
            _ => Ok(()),
        }
    };
    let late = |_| format!("port {port} did not answer within {} s", DEADLINE.as_secs());
    time::timeout(DEADLINE, ask).await.map_err(late)?
}

async fn connect(address: IpAddr, port: u16) -> Result<TcpStream, String> {
    let refused = |cause| format!("port {port} is not open: {cause}");
    TcpStream::connect(SocketAddr::new(address, port)).await.map_err(refused)
}

async fn http(stream: &mut TcpStream, path: &str) -> Result<(), String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let lost = |cause: std::io::Error| format!("no answer to GET {path}: {cause}");
    stream.write_all(request.as_bytes()).await.map_err(lost)?;
    let mut answer = Vec::new();
    while answer.len() < LOOKED_AT && !answer.contains(&b'\n') {
        let mut part = [0; LOOKED_AT];
        match stream.read(&mut part).await.map_err(lost)? {
            0 => break,
            read => answer.extend_from_slice(&part[..read]),
        }
    }
    let line = String::from_utf8_lossy(&answer);
    let line = line.lines().next().unwrap_or_default();
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
    match status.and_then(|status| status.parse::<u16>().ok()) {
        Some(200..=299) => Ok(()),
        Some(status) => Err(format!("GET {path} was answered with {status}")),
        None => Err(format!("GET {path} was answered with something else than HTTP")),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{Ipv4Addr, TcpListener},
        thread,
    };

    use super::*;

    fn answering(answer: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            assert_ne!(stream.read(&mut request).unwrap(), 0);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        port
    }

    async fn asked(answer: &'static str) -> Result<(), String> {
        let (address, port) = (Ipv4Addr::LOCALHOST.into(), answering(answer));
        probe(&HealthKind::Http { address, port, path: "/health".into() }).await
    }

    #[tokio::test]
    async fn only_a_status_of_success_is_healthy() {
        assert_eq!(asked("HTTP/1.1 204 No Content\r\n\r\n").await, Ok(()));
        assert!(asked("HTTP/1.1 500 Oh\r\n\r\n").await.unwrap_err().contains("500"));
        assert!(asked("SSH-2.0\r\n").await.is_err());
        assert!(asked("").await.is_err());
    }

    #[tokio::test]
    async fn a_closed_port_is_not_healthy() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let kind = HealthKind::Tcp { address: Ipv4Addr::LOCALHOST.into(), port };
        assert_eq!(probe(&kind).await, Ok(()));
        drop(listener);
        assert!(probe(&kind).await.is_err());
    }
}
