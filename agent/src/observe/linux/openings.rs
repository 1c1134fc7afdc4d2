//! Hears from the kernel which process opens a TCP connection, while it still does, from tracefs.
//!
//! ```text
//!  instances/sinter-agent-PID-N   made here, removed at the end; one that a dead agent left is removed
//!      sock:inet_sock_set_state   CLOSE to SYN_SENT only: in the process, with whereto
//!      task:task_newtask          who made whom, so that one that is gone is known by those it came from
//!      cgroup:cgroup_attach_task  who was moved to which group
//!      trace_pipe                 lines, fetched without waiting
//! ```
//!
//! Needs root, tracefs mounted (it is never mounted here) and the first pid namespace, for the numbers are those
//! of it. tracefs tells of every network namespace; only processes of the own one are kept.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use thiserror::Error;

mod births;
mod line;
mod thread;

use births::Births;
use line::Line;
use thread::{Network, Thread, whose};

use super::groups::service_of;
use crate::observe::seen::Told;

/// Where tracefs is mounted: by itself, or below debugfs as of old.
pub(super) const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Start of the names of our instances; the number of the process follows.
const PREFIX: &str = "sinter-agent-";

const EVENT: &str = "events/sock/inet_sock_set_state";

/// What tells of those that are gone. A kernel without them tells less, and no less of all others.
const OF_BIRTHS: [&str; 2] = ["events/task/task_newtask", "events/cgroup/cgroup_attach_task"];

/// From `TCP_CLOSE` to `TCP_SYN_SENT`, of TCP.
const FILTER: &str = "newstate==2 && oldstate==7 && protocol==6";

/// Room for what opens between two ticks, on all processors together: an attempt takes 76 bytes, a birth 52. The kernel
/// keeps it for each processor apart.
const ROOM_KIB: usize = 2048;
const LEAST_ROOM_KIB: usize = 64;

/// The kernel gives some 8 KiB of lines at a time.
const BUFFER: usize = 32 * 1024;

/// Most times that are fetched at once, which is more than there is room for.
const MOST_FETCHES: usize = 4096;

/// The first pid namespace has this number on every kernel.
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Several readers of one process each have their own instance.
static MADE: AtomicU32 = AtomicU32::new(0);

/// Why openings are not told.
#[derive(Debug, Error)]
pub(super) enum Untold {
    /// It was so decided.
    #[error("switched off")]
    Off,
    /// There is nobody to ask.
    #[error("tracefs is not mounted")]
    NotMounted,
    /// The numbers of processes would be others than ours.
    #[error("the agent does not live in the first pid namespace")]
    Namespace,
    /// There is, but not for us.
    #[error("tracefs: {what}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// What came of it.
        #[source]
        cause: io::Error,
    },
}

fn refused(what: &'static str) -> impl FnOnce(io::Error) -> Untold {
    move |cause| Untold::Refused { what, cause }
}

/// A subscription. The pipe stands before the instance, which cannot be removed while it is open.
#[derive(Debug)]
pub(super) struct Openings {
    pipe: File,
    _instance: Instance,
    buffer: Vec<u8>,
    /// The start of a line whose end is still to come.
    rest: Vec<u8>,
    network: Network,
    births: Births,
}

impl Openings {
    /// Subscribes at the first of `places` where tracefs is.
    pub(super) fn open(places: &[PathBuf]) -> Result<Self, Untold> {
        if places.is_empty() {
            return Err(Untold::Off);
        }
        if fs::read_link("/proc/self/ns/pid").is_ok_and(|own| own != Path::new(FIRST_PID_NAMESPACE))
        {
            return Err(Untold::Namespace);
        }
        let instances = instances(places)?;
        let network = Network::own().map_err(refused("own network namespace"))?;
        remove_stale(&instances);
        let instance = Instance::make(&instances).map_err(refused("own instance"))?;
        let pipe = instance.listen()?;
        let buffer = vec![0; BUFFER];
        let births = Births::default();
        Ok(Self { pipe, _instance: instance, buffer, rest: Vec::new(), network, births })
    }

    /// Fetches what was told since the last time.
    pub(super) fn fetch(&mut self, told: &mut Told) {
        // For one fetch only, because numbers are used again.
        let mut threads = HashMap::new();
        for _ in 0..MOST_FETCHES {
            match self.pipe.read(&mut self.buffer) {
                Ok(0) => return,
                Ok(length) => {
                    self.rest.extend(self.buffer.iter().take(length));
                    self.take_lines(&mut threads, told);
                }
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                // Nothing more for now.
                Err(_) => return,
            }
        }
    }

    fn take_lines(&mut self, threads: &mut HashMap<u32, Thread>, told: &mut Told) {
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
            // No line is that long.
            self.rest.clear();
            return;
        };
        for line in self.rest[..end].split(|byte| *byte == b'\n') {
            match line::parse(&String::from_utf8_lossy(line)) {
                Line::Started(started) => {
                    let thread = threads.entry(started.thread);
                    let thread = thread
                        .or_insert_with(|| whose(&self.network, &self.births, started.thread));
                    thread.tell(started, told);
                }
                Line::Born { thread, parent, flags } => {
                    // The number had another bearer before.
                    threads.remove(&thread);
                    self.births.born(thread, parent, flags);
                }
                Line::Moved { process, path, is_whole } => {
                    self.births.moved(process, service_of(path), is_whole);
                }
                Line::Lost(lost) => told.openings_lost = told.openings_lost.saturating_add(lost),
                Line::Other => {}
            }
        }
        self.rest.drain(..=end);
    }
}

/// A part of tracefs of our own.
#[derive(Debug)]
struct Instance {
    folder: PathBuf,
}

impl Instance {
    fn make(instances: &Path) -> io::Result<Self> {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let folder = instances.join(format!("{PREFIX}{}-{number}", std::process::id()));
        match fs::create_dir(&folder) {
            // Of a process that had our number before us.
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_dir(&folder)?;
                fs::create_dir(&folder)?;
            }
            made => made?,
        }
        Ok(Self { folder })
    }

    fn listen(&self) -> Result<File, Untold> {
        let write = |file: &str, text: &str| fs::write(self.folder.join(file), text);
        // Not those that the agent may use, for the kernel keeps room for every one.
        let processors = fs::read_dir(self.folder.join("per_cpu")).map_or(1, Iterator::count);
        let room = (ROOM_KIB / processors.max(1)).max(LEAST_ROOM_KIB);
        write("buffer_size_kb", &room.to_string()).map_err(refused("size of the buffer"))?;
        write(&format!("{EVENT}/filter"), FILTER).map_err(refused("filter of the event"))?;
        let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
        let mut reading = OpenOptions::new();
        let reading = reading.read(true).custom_flags(flags);
        let pipe = reading.open(self.folder.join("trace_pipe")).map_err(refused("trace_pipe"))?;
        for event in OF_BIRTHS {
            if let Err(cause) = write(&format!("{event}/enable"), "1") {
                tracing::debug!(event, %cause, "births of processes not told");
            }
        }
        write(&format!("{EVENT}/enable"), "1").map_err(refused("the event"))?;
        Ok(pipe)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Err(cause) = fs::remove_dir(&self.folder) {
            tracing::warn!(folder = %self.folder.display(), %cause, "tracing instance not removed");
        }
    }
}

fn instances(places: &[PathBuf]) -> Result<PathBuf, Untold> {
    for place in places {
        let instances = place.join("instances");
        match fs::metadata(&instances) {
            Ok(_) => return Ok(instances),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(refused("instances")(cause)),
        }
    }
    Err(Untold::NotMounted)
}

/// Removes what agents that are dead left behind: it would go on filling memory.
fn remove_stale(instances: &Path) {
    for entry in fs::read_dir(instances).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        let is_dead = process.is_some_and(|process| {
            process.parse::<u32>().is_ok() && !Path::new("/proc").join(process).exists()
        });
        if is_dead && let Err(cause) = fs::remove_dir(entry.path()) {
            tracing::warn!(name = %name.display(), %cause, "stale tracing instance not removed");
        }
    }
}

#[cfg(test)]
mod tests;
