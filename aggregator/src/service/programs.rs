//! Where the other programs of this installation are: beside this one, as a build leaves them, or
//! where the package puts them.

use std::{
    env, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// A program is nowhere it could be.
#[derive(Debug, Error)]
pub enum ProgramError {
    /// It is not there.
    #[error("{name} is not there; looked for {}", .looked.join(", "))]
    Missing {
        /// Which.
        name: &'static str,
        /// Where it was looked for.
        looked: Vec<String>,
    },
    /// Where this program is cannot be told.
    #[error("could not tell where this program is")]
    Own(#[source] io::Error),
}

fn beside() -> Result<PathBuf, ProgramError> {
    let own = env::current_exe().map_err(ProgramError::Own)?;
    Ok(own.parent().unwrap_or(Path::new("/")).to_owned())
}

fn first(name: &'static str, places: Vec<PathBuf>) -> Result<PathBuf, ProgramError> {
    let looked = places.iter().map(|place| place.display().to_string()).collect();
    let found = places.into_iter().find(|place| place.is_file());
    found.ok_or(ProgramError::Missing { name, looked })
}

/// The agent that machines made of namespaces run.
///
/// # Errors
///
/// If it is not there.
pub fn agent() -> Result<PathBuf, ProgramError> {
    let places = vec![beside()?.join("sinter-agent"), PathBuf::from("/usr/bin/sinter-agent")];
    first("sinter-agent", places)
}

/// The small program that the demonstration's applications are.
///
/// # Errors
///
/// If it is not there.
pub fn workload() -> Result<PathBuf, ProgramError> {
    let beside = beside()?;
    let prefix = beside.parent().unwrap_or(Path::new("/"));
    let places = vec![beside.join("sinter-workload"), prefix.join("lib/sinter/sinter-workload")];
    first("sinter-workload", places)
}
