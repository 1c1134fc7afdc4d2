//! `analyse`: what recorded rows say, without a fleet and without an aggregator.

mod tables;

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use aggregator::{
    analyse::{self, Analysis, Format, MemoryAssumed, Wanted, page},
    policy::Policy,
};
use common::units::Bytes;

use crate::{
    arguments::{Analyse, Global, Output, Recorded},
    failure::Failure,
    print::{PrintError, Printer, safe},
};

/// Most a policy may take; one of all values has some hundred bytes.
const LARGEST_POLICY: u64 = 1 << 20;

/// Analyses, prints, writes the page, and names the lines that could not be read.
///
/// # Errors
///
/// [`Failure::BadLines`] if some lines could not be read; what the others say is printed first.
pub(crate) fn analyse(global: &Global, wanted: &Analyse) -> Result<(), Failure> {
    if global.output == Output::Csv {
        return Err(Failure::Words("-o csv goes with import; use -o json".into()));
    }
    if global.watch.is_some() {
        return Err(Failure::Words("--watch goes with commands that ask an aggregator".into()));
    }
    let analysis = analyse::analyse(&wanted.path, &understood(wanted)?)?;
    if let Some(file) = &wanted.html {
        fs::write(file, page::page(&analysis))
            .map_err(|cause| Failure::Write { path: file.clone(), cause })?;
    }
    let printer = Printer::new(global);
    let text = match global.output {
        Output::Json => serde_json::to_string_pretty(&analysis).map_err(PrintError::Json)?,
        Output::Table | Output::Csv => tables::told(&printer, &analysis),
    };
    printer.line(text.trim_end())?;
    named(&analysis)
}

fn understood(wanted: &Analyse) -> Result<Wanted, Failure> {
    let mut policy = wanted.policy.as_deref().map_or_else(|| Ok(Policy::default()), policy_of)?;
    policy.check().map_err(|bad| Failure::Words(bad.to_string()))?;
    // Nothing is carried out, so all steps of the target are shown that could run at once.
    if wanted.policy.is_none() {
        policy.plans_at_once = usize::MAX;
    }
    let format = wanted.format.map(|format| match format {
        Recorded::Exported => Format::Exported,
        Recorded::Planetlab => Format::Planetlab,
        Recorded::ComputingHosts => Format::ComputingHosts,
        Recorded::Bitbrains => Format::Bitbrains,
    });
    Ok(Wanted { format, policy, memory: memory_of(&wanted.assume_memory)? })
}

fn policy_of(path: &Path) -> Result<Policy, Failure> {
    let unread = |cause| Failure::File { path: path.to_owned(), cause };
    if fs::metadata(path).map_err(unread)?.len() > LARGEST_POLICY {
        return Err(Failure::Words(format!("{} has more than 1 MiB", path.display())));
    }
    let text = fs::read_to_string(path).map_err(unread)?;
    let unclear = |cause| Failure::Policy { path: path.to_owned(), cause: Box::new(cause) };
    toml::from_str(&text).map_err(unclear)
}

fn memory_of(written: &str) -> Result<Option<MemoryAssumed>, Failure> {
    if written == "none" {
        return Ok(None);
    }
    let parts = written.split_once(',').and_then(|(given, used)| {
        Some((given.trim().parse::<u32>().ok()?, used.trim().parse::<u32>().ok()?))
    });
    match parts {
        Some((given, used)) if used <= given && given > 0 => Ok(Some(MemoryAssumed {
            given: Bytes::mebi(given.into()),
            used: Bytes::mebi(used.into()),
        })),
        _ => Err(Failure::Words(format!(
            "--assume-memory is {written:?}; write two numbers of MiB such as 1024,256, the second no \
             larger than the first, or none"
        ))),
    }
}

fn named(analysis: &Analysis) -> Result<(), Failure> {
    if analysis.bad_lines == 0 {
        return Ok(());
    }
    let mut err = io::stderr().lock();
    for bad in &analysis.bad {
        let (file, why) = (safe(&bad.file), safe(&bad.why));
        // Nobody is left to tell when standard error is closed; the exit code tells it too.
        drop(writeln!(err, "sinterctl: {file}, line {}: {why}", bad.line));
    }
    Err(Failure::BadRecording { bad: analysis.bad_lines })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_two_numbers_or_none() {
        let told = memory_of("1024,256").unwrap();
        assert_eq!(told.map(|memory| memory.given), Some(Bytes::mebi(1024)));
        assert_eq!(memory_of("none").unwrap(), None);
        for wrong in ["256,1024", "0,0", "many", "1,-1"] {
            assert!(memory_of(wrong).is_err(), "{wrong}");
        }
    }
}
