//! The log: lines on standard error, as many as `SINTER_LOG` asks for.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

use crate::{arguments::LogFormat, failure::Failure};

const VARIABLE: &str = "SINTER_LOG";
/// Says at every look that a newer kernel tells more than it knows.
const QUIET: &str = "netlink_packet_route=error";

/// Begins to log. `usual` holds while the variable says nothing.
pub(crate) fn begin(format: LogFormat, usual: &str) -> Result<(), Failure> {
    let asked = std::env::var(VARIABLE).unwrap_or_default();
    let filter = if asked.is_empty() { usual } else { &asked };
    let filter = EnvFilter::builder().parse(format!("{QUIET},{filter}")).map_err(Failure::Log)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    match format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
    Ok(())
}
