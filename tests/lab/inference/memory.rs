//! What is resident of this process.

use crate::figure::Failure;

/// Bytes resident.
///
/// # Errors
///
/// If the kernel does not say.
pub(super) fn resident() -> Result<f64, Failure> {
    let status = procfs::process::Process::myself()?.status()?;
    let resident = status.vmrss.ok_or("the kernel does not say what memory is resident")?;
    Ok(resident as f64 * 1024.0)
}
