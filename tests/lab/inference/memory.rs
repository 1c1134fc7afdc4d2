//! What is resident of this process.

use crate::figure::Failure;

/// Bytes resident.
///
/// # Errors
///
/// If the kernel does not say.
pub(crate) fn resident() -> Result<f64, Failure> {
    let status = procfs::process::Process::myself()?.status()?;
    let resident = status.vmrss.ok_or("the kernel does not say what memory is resident")?;
    Ok(resident as f64 * 1024.0)
}

/// Bytes resident at most so far.
///
/// # Errors
///
/// If the kernel does not say.
pub(crate) fn highest() -> Result<f64, Failure> {
    let status = procfs::process::Process::myself()?.status()?;
    let highest = status.vmhwm.ok_or("the kernel does not say what memory was resident")?;
    Ok(highest as f64 * 1024.0)
}
