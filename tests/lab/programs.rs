//! Where the programs under test are: beside the one that runs, built if they are not there.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The folder that Cargo puts this build's programs into.
fn folder() -> io::Result<PathBuf> {
    let own = env::current_exe()?;
    let folder = own.parent().unwrap_or(Path::new("."));
    // A test's own executable lies one folder deeper than the programs.
    let is_test = folder.file_name().is_some_and(|name| name == "deps");
    Ok(if is_test { folder.parent().unwrap_or(folder).to_owned() } else { folder.to_owned() })
}

fn built() -> io::Result<PathBuf> {
    let folder = folder()?;
    let is_release = folder.file_name().is_some_and(|name| name == "release");
    // The whole workspace, as the tests are built: a package alone would have dependencies with
    // other features, and all of them would be compiled once more.
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--locked", "--workspace", "--bins"]);
    if is_release {
        cargo.arg("--release");
    }
    if let Some(target) = folder.parent() {
        cargo.env("CARGO_TARGET_DIR", target);
    }
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cargo.status()?.success() {
        return Err(io::Error::other("could not build the programs"));
    }
    Ok(folder)
}

/// Path of a program of this workspace, built from what is in the checkout now.
///
/// # Errors
///
/// If Cargo cannot build it.
pub fn program(name: &str) -> io::Result<PathBuf> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| built().map_err(|cause| cause.to_string()));
    let folder = folder.as_ref().map_err(|cause| io::Error::other(cause.clone()))?;
    Ok(folder.join(name))
}
