//! A simulated vCenter: the program of `tests/fixtures/vcsim`, which `SINTER_VCSIM` names.

use std::{
    env,
    io::{self, BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

/// The only user it lets in.
pub const USER: &str = "administrator@vsphere.local";
/// That user's password.
pub const PASSWORD: &str = "right";

/// One that runs. It ends with this.
#[derive(Debug)]
pub struct Vcsim {
    child: Child,
    arguments: Vec<String>,
    /// Its datastores, which it leaves behind.
    folder: TempDir,
    /// Where it is.
    pub url: String,
    /// Of its certificate; `None` without TLS.
    pub fingerprint: Option<String>,
}

/// Why there can be none, for [`crate::demonstration::left_out`].
#[must_use]
pub fn lacking() -> Option<String> {
    let program = env::var_os("SINTER_VCSIM").map(PathBuf::from);
    if program.is_some_and(|program| program.exists()) {
        return None;
    }
    Some("SINTER_VCSIM does not name the program of tests/fixtures/vcsim".into())
}

impl Vcsim {
    /// Starts one with these arguments and waits until it answers.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn start(arguments: &[&str]) -> io::Result<Self> {
        let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        let folder = tempfile::tempdir()?;
        let (child, url, fingerprint) = begun(&arguments, "127.0.0.1:0", &folder)?;
        Ok(Self { child, arguments, folder, url, fingerprint })
    }

    /// Kills it.
    pub fn end(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Starts it again where it was, with the fleet of its beginning.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn begin_again(&mut self) -> io::Result<()> {
        self.end();
        let at = self.url.rsplit('/').next().unwrap_or_default().to_owned();
        let (child, url, fingerprint) = begun(&self.arguments, &at, &self.folder)?;
        (self.child, self.url, self.fingerprint) = (child, url, fingerprint);
        Ok(())
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Vcsim {
    fn drop(&mut self) {
        self.end();
    }
}

fn begun(
    arguments: &[String],
    at: &str,
    folder: &TempDir,
) -> io::Result<(Child, String, Option<String>)> {
    let program = env::var_os("SINTER_VCSIM").ok_or_else(|| io::Error::other("no SINTER_VCSIM"))?;
    let mut child = Command::new(program)
        .args(["-listen", at, "-user", USER, "-password", PASSWORD])
        .args(arguments)
        .env("TMPDIR", folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out).read_line(&mut line)?;
    }
    match line.split_whitespace().collect::<Vec<_>>().as_slice() {
        [url, "-"] => Ok((child, (*url).to_owned(), None)),
        [url, fingerprint] => Ok((child, (*url).to_owned(), Some((*fingerprint).to_owned()))),
        _ => {
            drop(child.kill());
            drop(child.wait());
            Err(io::Error::other(format!("the simulated vCenter said {line:?}")))
        }
    }
}
