//! Programs that live for one connection, started one after another: what a shell script with curl in it does.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use super::{
    super::script::{Done, Script, Spawning},
    Log,
};

/// Starts them. Their files stand beside `own`, this process's script.
pub(super) fn run(spawning: &Spawning, own: &Path, log: &Log) {
    let file = own.with_extension(format!("{}.json", spawning.program));
    let script = Script { calls: vec![spawning.call], ..Script::default() };
    let written = serde_json::to_vec(&script).map_err(io::Error::from);
    if let Err(cause) = written.and_then(|script| fs::write(&file, script)) {
        return log.trouble(format!("{}: {cause}", file.display()));
    }
    for _ in 0..spawning.times {
        match once(&own.with_file_name(&spawning.program), &file) {
            Ok(done) => log.write(|all| {
                all.opened.extend(done.opened);
                all.troubles.extend(done.troubles);
            }),
            Err(cause) => log.trouble(format!("{}: {cause}", spawning.program)),
        }
        thread::sleep(Duration::from_millis(spawning.gap_ms));
    }
}

fn once(program: &Path, script: &Path) -> io::Result<Done> {
    let mut command = Command::new(program);
    command.arg("act").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // Its end is told with it, so that the program ends as soon as it has done what it has to.
        input.write_all(b"go\n")?;
    }
    let mut said = String::new();
    if let Some(output) = &mut child.stdout {
        output.read_to_string(&mut said)?;
    }
    child.wait()?;
    let last = said.lines().last().unwrap_or_default();
    Ok(serde_json::from_str(last)?)
}
