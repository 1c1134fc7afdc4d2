//! The texts of the archive: one for each machine, a head and a line every five minutes, fields parted by
//! semicolons. The head says milliseconds, the times of the archive are seconds: what lies before 1973
//! by the head is taken for seconds.

use std::path::{Path, PathBuf};

use common::id::VmId;

use super::{
    super::{
        lines,
        read::{AnalyseError, Bad},
    },
    Fleet, MOST_MACHINES, STEP_MS, Series, Value,
};

/// Fields of a line: time, cores, MHz given and used, percent used, KB of memory given and used, KB per
/// second read and written, received and sent.
const FIELDS: usize = 11;
/// Milliseconds below this are seconds.
const EARLIEST_MS: f64 = 1e11;
/// No figure of a machine is larger.
const LARGEST: f64 = 1e15;

pub(super) fn is_head(line: &str) -> bool {
    line.trim_start_matches('\u{feff}').starts_with("Timestamp [ms];")
}

/// Reads the texts; the name of each is its machine's.
pub(super) fn read(files: &[PathBuf], bad: &mut Bad) -> Result<Fleet, AnalyseError> {
    let mut fleet = Fleet::new();
    for path in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.split('.').next().unwrap_or_default();
        let vm: VmId = match name.parse() {
            Ok(vm) => vm,
            Err(cause) => {
                bad.note(path, 1, format!("names the machine {name:?}: {cause}"));
                continue;
            }
        };
        let series = of_file(path, bad)?;
        if !series.values.is_empty() {
            fleet.insert(vm, series);
        }
        if fleet.len() > MOST_MACHINES {
            return Err(AnalyseError::TooLarge { path: path.clone(), what: "20,000 machines" });
        }
    }
    Ok(fleet)
}

fn of_file(path: &Path, bad: &mut Bad) -> Result<Series, AnalyseError> {
    let mut series = Series::default();
    lines::each(path, &mut |number, line| {
        let line = match line {
            Ok(line) if line.is_empty() || is_head(line) => return Ok(()),
            Ok(line) => line,
            Err(why) => {
                bad.note(path, number, why);
                return Ok(());
            }
        };
        if let Err(why) = fields(line).and_then(|fields| take(&mut series, &fields)) {
            bad.note(path, number, why);
        }
        Ok(())
    })?;
    Ok(series)
}

fn fields(line: &str) -> Result<[f64; FIELDS], String> {
    let mut fields = [0.0; FIELDS];
    let mut written = line.split(';');
    for (place, field) in fields.iter_mut().enumerate() {
        let number = place + 1;
        let text = written.next().ok_or_else(|| format!("has no field {number} of {FIELDS}"))?;
        let value = text.trim().parse().ok();
        *field = value.filter(|value| (0.0..=LARGEST).contains(value)).ok_or_else(|| {
            format!("field {number} is {:?}; write a number of 0 or more", text.trim())
        })?;
    }
    Ok(fields)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "fields are none below zero, and seven digits are enough"
)]
fn take(series: &mut Series, fields: &[f64; FIELDS]) -> Result<(), String> {
    let [at, cores, given, mhz, _, memory, memory_used, _, written, received, sent] = *fields;
    let at = if at < EARLIEST_MS { at * 1000.0 } else { at } as u64;
    // It is the largest that it is given over the recording.
    series.cores = series.cores.max(cores as u32);
    let most = |known: Option<f64>, now: f64| {
        if now > 0.0 { Some(known.unwrap_or(0.0).max(now)) } else { known }
    };
    series.capacity_mhz = most(series.capacity_mhz, given);
    series.memory_kib = most(series.memory_kib, memory);
    let value = Value {
        cpu_mhz: mhz as f32,
        memory_kib: Some(memory_used as f32),
        written_kib: Some(written as f32),
        received_kib: Some(received as f32),
        sent_kib: Some(sent as f32),
    };
    series.take((at.saturating_sub(STEP_MS), at), value)
}
