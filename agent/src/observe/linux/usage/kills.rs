//! Whom the kernel killed for want of memory, from its log.
//!
//! The group of a service that was killed whole is taken away at once, and with it the kernel's count of it;
//! the log still says it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
};

/// The kernel's log, a record at each reading.
const LOG: &str = "/dev/kmsg";

/// Most records taken at a look; the rest stays for the next one.
const MAX_RECORDS: usize = 4096;

/// Longest record of the kernel.
const MAX_BYTES: usize = 8192;

/// The log from where it was when this was made.
#[derive(Debug)]
pub(super) struct Kills {
    log: Option<File>,
}

impl Kills {
    /// Begins at the end of the log. Where it may not be read, nothing is told.
    pub(super) fn from_now() -> Self {
        let open = || {
            let flags = nix::libc::O_NONBLOCK;
            let mut log = OpenOptions::new().read(true).custom_flags(flags).open(LOG)?;
            log.seek(SeekFrom::End(0))?;
            io::Result::Ok(log)
        };
        Self { log: open().ok() }
    }

    /// Paths of the groups whose processes were killed since this was last asked, one for each process.
    pub(super) fn told(&mut self) -> Vec<String> {
        let Some(log) = &mut self.log else { return Vec::new() };
        let mut killed = Vec::new();
        let mut record = vec![0; MAX_BYTES];
        for _ in 0..MAX_RECORDS {
            match log.read(&mut record) {
                Ok(0) => break,
                Ok(length) => {
                    let text = String::from_utf8_lossy(record.get(..length).unwrap_or_default());
                    killed.extend(group_of(&text).map(str::to_owned));
                }
                // Records were overwritten before they were read; the next reading goes on after them.
                Err(cause) if cause.raw_os_error() == Some(nix::libc::EPIPE) => {}
                Err(_) => break,
            }
        }
        killed
    }
}

/// The group of the process that a record says is to be killed.
fn group_of(record: &str) -> Option<&str> {
    let (prefix, message) = record.split_once(';')?;
    // Only the kernel's own records are below eight; a program that writes to the log gets another number.
    let _is_kernels = prefix.split(',').next()?.parse::<u32>().ok().filter(|number| *number < 8)?;
    let summary = message.strip_prefix("oom-kill:")?;
    let (_, group) = summary.split_once("task_memcg=")?;
    // The process's own name comes behind it and may hold whatever it likes.
    group.split_once(",task=").map(|(group, _)| group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_of_a_killed_process_is_read() {
        let record = "6,1234,5678,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,\
            mems_allowed=0,oom_memcg=/system.slice/a.service,task_memcg=/system.slice/a.service/inner,\
            task=task_memcg=/x,task=y,pid=99,uid=0\n";
        assert_eq!(group_of(record), Some("/system.slice/a.service/inner"));
    }

    #[test]
    fn what_another_says_is_no_kill() {
        let written_by_a_program = "12,1,2,-;oom-kill:constraint=,task_memcg=/a,task=b\n";
        assert_eq!(group_of(written_by_a_program), None);
        assert_eq!(group_of("6,1,2,-;Memory cgroup out of memory: Killed process 99 (dd)\n"), None);
    }
}
