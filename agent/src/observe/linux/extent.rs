//! How far the guest reaches: the whole kernel, or only the processes it can see.
//!
//! In a virtual machine the kernel's own counters are the guest's. In a machine made of namespaces they
//! are the host's, and reporting them would charge every neighbour to this one; there, figures are
//! summed up from the machine's own processes, and what cannot be summed up is unknown.

use std::path::{Path, PathBuf};

use common::units::{Bytes, Millicores};
use serde::Deserialize;

/// Where a machine made of namespaces finds its limits.
pub const LIMITS_FILE: &str = "/run/sinter/limits.toml";

/// Longest limits file read.
const MAX_LIMITS_BYTES: usize = 4096;

/// How far the guest reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// A machine with a kernel of its own: the kernel's counters are the guest's.
    Kernel,
    /// The processes the agent can see, on a kernel that others use too.
    Processes {
        /// CPU the machine may use; `None` if nobody limits it.
        cpu: Option<Millicores>,
        /// Memory it may use; `None` if nobody limits it.
        memory: Option<Bytes>,
    },
}

/// How to know the extent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExtentSource {
    /// It is as given.
    Fixed(Extent),
    /// Where this file is, the machine is made of namespaces and has the limits that stand in it. It
    /// is read at every look, because limits change while the machine runs.
    LimitsFile(PathBuf),
}

impl Default for ExtentSource {
    fn default() -> Self {
        Self::LimitsFile(LIMITS_FILE.into())
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    cpu_millicores: Option<u64>,
    memory_bytes: Option<u64>,
}

impl ExtentSource {
    /// The extent now, and what was wrong with the limits if something was.
    pub(in crate::observe) fn read(&self) -> (Extent, Option<String>) {
        match self {
            Self::Fixed(extent) => (*extent, None),
            Self::LimitsFile(path) => from_file(path),
        }
    }
}

impl Extent {
    /// Cores the guest can use; a part of one counts as one.
    pub(in crate::observe) fn cores(self, of_kernel: Option<u32>) -> Option<u32> {
        match self {
            Self::Processes { cpu: Some(cpu), .. } => {
                u32::try_from(cpu.0.div_ceil(1000).max(1)).ok()
            }
            Self::Processes { cpu: None, .. } | Self::Kernel => of_kernel,
        }
    }
}

/// A file that is there but not understood still says that the kernel is not the guest's.
fn from_file(path: &Path) -> (Extent, Option<String>) {
    let written = match std::fs::read_to_string(path) {
        Ok(text) => parse(&text),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
            return (Extent::Kernel, None);
        }
        Err(cause) => Err(cause.to_string()),
    };
    let (written, trouble) = match written {
        Ok(written) => (written, None),
        Err(cause) => (Written::default(), Some(format!("{}: {cause}", path.display()))),
    };
    let cpu = written.cpu_millicores.map(Millicores);
    (Extent::Processes { cpu, memory: written.memory_bytes.map(Bytes) }, trouble)
}

fn parse(text: &str) -> Result<Written, String> {
    if text.len() > MAX_LIMITS_BYTES {
        return Err(format!("it has {} bytes, at most {MAX_LIMITS_BYTES} are read", text.len()));
    }
    toml::from_str(text).map_err(|cause| cause.message().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent_of(text: &str) -> (Extent, Option<String>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("limits.toml");
        std::fs::write(&path, text).unwrap();
        ExtentSource::LimitsFile(path).read()
    }

    #[test]
    fn without_a_limits_file_the_kernel_is_the_guest() {
        let folder = tempfile::tempdir().unwrap();
        let source = ExtentSource::LimitsFile(folder.path().join("limits.toml"));
        assert_eq!(source.read(), (Extent::Kernel, None));
    }

    #[test]
    fn the_limits_are_the_files() {
        let both = Extent::Processes { cpu: Some(Millicores(500)), memory: Some(Bytes(1 << 20)) };
        assert_eq!(extent_of("cpu_millicores = 500\nmemory_bytes = 1048576"), (both, None));
        assert_eq!(both.cores(Some(8)), Some(1));
    }

    #[test]
    fn a_limit_that_is_not_understood_is_no_limit_but_never_the_whole_kernel() {
        let unlimited = Extent::Processes { cpu: None, memory: None };
        assert_eq!(extent_of(""), (unlimited, None));
        let (extent, trouble) = extent_of("cpu_millicores = \"many\"");
        assert_eq!(extent, unlimited);
        assert!(trouble.unwrap().contains("limits.toml"));
        assert_eq!(unlimited.cores(Some(8)), Some(8));
    }
}
