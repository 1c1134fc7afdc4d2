//! A control group of version 2 for the processes of one service, as systemd makes them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Where version 2 is mounted: beside version 1, or alone.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

/// How long the kernel may take to let go of those that ended.
const LET_GO_WITHIN: Duration = Duration::from_secs(5);

/// A group that is gone with this.
#[derive(Debug)]
pub struct Group(PathBuf);

impl Group {
    /// A service's group.
    ///
    /// # Errors
    ///
    /// If version 2 is not mounted, or none can be made.
    pub fn new(service: &str) -> io::Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let root = ROOTS.iter().find(|root| Path::new(root).join("cgroup.procs").exists());
        let root =
            root.ok_or_else(|| io::Error::other("control groups of version 2 are not mounted"))?;
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let above = format!("sinter-truth-{}-{number}.slice", std::process::id());
        let group = Path::new(root).join(above).join(service);
        fs::create_dir_all(&group)?;
        Ok(Self(group))
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let deadline = Instant::now() + LET_GO_WITHIN;
        while fs::remove_dir(&self.0).is_err() && Instant::now() < deadline {
            thread::yield_now();
        }
        drop(self.0.parent().map(fs::remove_dir));
    }
}
