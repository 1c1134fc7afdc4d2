//! A visitor from outside: any program, on the production network, with no capability.

use std::{io, os::unix::process::CommandExt, process::Command};

use serde::{Deserialize, Serialize};

use super::{name, order, ready};
use crate::hypervisor::namespace::{NamespaceError, user};

/// What a visitor runs.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Order {
    /// Program and arguments.
    pub(in super::super) command: Vec<String>,
}

/// Becomes the program.
pub(super) fn run() -> Result<(), NamespaceError> {
    name(c"sinter-visitor")?;
    let order: Order = order()?;
    let Some((program, arguments)) = order.command.split_first() else {
        return Err(NamespaceError::refused("a visitor has nothing to run"));
    };
    user::confine()?;
    ready()?;
    let cause: io::Error = Command::new(program).args(arguments).exec();
    Err(NamespaceError::system(format!("run {program}"), cause))
}
