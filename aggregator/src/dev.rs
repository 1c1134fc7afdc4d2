//! To be written.

use std::path::PathBuf;

/// Where a running `sinter-aggregator dev` of this user leaves the context file for `sinterctl`.
#[must_use]
pub fn context_file() -> PathBuf {
    let folder = format!("sinter-dev-{}", nix::unistd::getuid());
    std::env::temp_dir().join(folder).join("contexts.toml")
}
