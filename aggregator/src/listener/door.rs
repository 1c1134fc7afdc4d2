//! The accept loop of one socket.

use std::{fs::File, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time,
};
use tracing::{debug, error};

use super::{connection::Course, room::Room};

/// How long the loop waits when the process has no descriptor left: closing takes a moment.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(200);
/// How long it waits after any other failure, so that one that lasts does not burn a core.
const FAILED: Duration = Duration::from_millis(20);

/// One socket, and the connections that came through it.
pub(super) struct Door {
    listener: TcpListener,
    address: SocketAddr,
    room: Arc<Room>,
    course: Arc<Course>,
    /// Given up when no other descriptor is left: with it the next connection is accepted and
    /// closed, instead of waiting in the queue where it wakes the loop again and again.
    reserve: Option<File>,
    connections: JoinSet<()>,
}

impl Door {
    pub(super) fn new(
        socket: std::net::TcpListener,
        room: Arc<Room>,
        course: Arc<Course>,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let listener = TcpListener::from_std(socket)?;
        let (reserve, connections) = (reserve(), JoinSet::new());
        Ok(Self { listener, address, room, course, reserve, connections })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets connections in until the stop, then waits for those that are there.
    pub(super) async fn keep(mut self) {
        let stop = self.course.stop.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = self.connections.join_next() => {
                    if let Err(cause) = ended {
                        error!(cause = %cause, "connection panicked");
                    }
                }
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => self.admit(stream, peer),
                    Err(cause) => self.wait_after(&cause).await,
                },
            }
        }
        drop(self.listener);
        while self.connections.join_next().await.is_some() {}
    }

    fn admit(&mut self, stream: TcpStream, peer: SocketAddr) {
        match self.room.enter(peer.ip()) {
            Ok(place) => {
                let course = Arc::clone(&self.course);
                self.connections.spawn(async move {
                    course.run(stream, peer).await;
                    drop(place);
                });
            }
            // The stream closes as it is dropped: whoever it was hears at once.
            Err(name) => self.course.terms.tally.count(name, peer),
        }
    }

    async fn wait_after(&mut self, cause: &io::Error) {
        if !is_exhausted(cause) {
            debug!(cause = %cause, "connection not accepted");
            return time::sleep(FAILED).await;
        }
        self.course.terms.tally.count("out_of_descriptors", cause);
        if self.reserve.take().is_some() {
            let turned_away = time::timeout(FAILED, self.listener.accept()).await;
            drop(turned_away);
            self.reserve = reserve();
        }
        time::sleep(OUT_OF_DESCRIPTORS).await;
        if self.reserve.is_none() {
            self.reserve = reserve();
        }
    }
}

/// Opening `/dev/null` touches no disk: it may be done on the loop.
fn reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

/// No descriptor is left, in this process or in the system, or no memory for one.
fn is_exhausted(cause: &io::Error) -> bool {
    use nix::errno::Errno;
    [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM]
        .iter()
        .any(|errno| cause.raw_os_error() == Some(*errno as i32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_out_is_told_from_other_failures() {
        assert!(is_exhausted(&io::Error::from_raw_os_error(nix::errno::Errno::EMFILE as i32)));
        assert!(!is_exhausted(&io::ErrorKind::ConnectionAborted.into()));
    }
}
