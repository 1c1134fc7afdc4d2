//! The tables of columns: `meta.parquet` tells what each machine is given, `trace.parquet` what it used up
//! to a moment, and for how long. Columns are told by their names, and those that are not known are left
//! alone.

use std::{
    fs::File,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use common::id::VmId;
use parquet::{
    errors::ParquetError,
    file::reader::{FileReader as _, SerializedFileReader},
    record::{Field, Row},
};

use super::{
    super::read::{AnalyseError, Bad},
    Fleet, MOST_MACHINES, STEP_MS, Series, Value,
};

pub(super) const TRACE: &str = "trace.parquet";
const META: &str = "meta.parquet";
/// Bytes of one column of a group at most, unpacked.
const COLUMN_AT_MOST: i64 = 1 << 30;
/// Longest time that one value may hold for: a day.
const LONGEST_MS: f64 = 86_400_000.0;

/// Reads both tables of a folder; without the first, machines are given what is assumed.
pub(super) fn read(folder: &Path, bad: &mut Bad) -> Result<Fleet, AnalyseError> {
    let mut fleet = Fleet::new();
    let meta = folder.join(META);
    if meta.is_file() {
        each(&meta, bad, &mut |row| given(row, &mut fleet))?;
    }
    each(&folder.join(TRACE), bad, &mut |row| used(row, &mut fleet))?;
    fleet.retain(|_, series| !series.values.is_empty());
    Ok(fleet)
}

/// The columns of a row by name.
struct Columns<'a>(Vec<(&'a str, &'a Field)>);

impl<'a> Columns<'a> {
    fn of(row: &'a Row) -> Self {
        Self(row.get_column_iter().map(|(name, field)| (name.as_str(), field)).collect())
    }

    fn field(&self, name: &str) -> Option<&'a Field> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, field)| *field)
    }

    fn vm(&self) -> Result<VmId, String> {
        let written = match self.field("id") {
            Some(Field::Str(text)) => text.clone(),
            Some(Field::Long(id)) => id.to_string(),
            Some(Field::Int(id)) => id.to_string(),
            _ => return Err("has no id; write the machine's".to_owned()),
        };
        written.parse().map_err(|cause| format!("id is {written:?}: {cause}"))
    }

    /// A number of nought or more; `None` if there is no such column, or nothing in it.
    #[expect(clippy::cast_precision_loss, reason = "figures of a machine are far below 2^52")]
    fn number(&self, name: &str) -> Result<Option<f64>, String> {
        let value = match self.field(name) {
            None | Some(Field::Null) => return Ok(None),
            Some(Field::Double(value)) => *value,
            Some(Field::Float(value)) => f64::from(*value),
            Some(Field::Int(value)) => f64::from(*value),
            Some(Field::Long(value) | Field::TimestampMillis(value)) => *value as f64,
            Some(Field::TimestampMicros(value)) => *value as f64 / 1000.0,
            Some(other) => return Err(format!("{name} is {other}; write a number")),
        };
        if value.is_finite() && value >= 0.0 {
            Ok(Some(value))
        } else {
            Err(format!("{name} is {value}; write a number of 0 or more"))
        }
    }

    fn needed(&self, name: &str) -> Result<f64, String> {
        self.number(name)?.ok_or_else(|| format!("has no {name}; write a number"))
    }

    #[expect(clippy::cast_possible_truncation, reason = "seven digits are enough")]
    fn short(&self, name: &str) -> Result<Option<f32>, String> {
        Ok(self.number(name)?.map(|value| value as f32))
    }
}

fn series(fleet: &mut Fleet, vm: VmId) -> Result<&mut Series, String> {
    if fleet.len() >= MOST_MACHINES && !fleet.contains_key(&vm) {
        return Err(format!("is of machine number {MOST_MACHINES}; split the recording"));
    }
    Ok(fleet.entry(vm).or_default())
}

fn given(row: &Row, fleet: &mut Fleet) -> Result<(), String> {
    let columns = Columns::of(row);
    let vm = columns.vm()?;
    let (capacity, memory) = (columns.number("cpu_capacity")?, columns.number("mem_capacity")?);
    let cores = cores(&columns)?;
    let series = series(fleet, vm)?;
    series.cores = series.cores.max(cores);
    series.capacity_mhz = capacity.filter(|capacity| *capacity > 0.0);
    series.memory_kib = memory.filter(|memory| *memory > 0.0);
    Ok(())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times and counts are none below zero, and a float to an integer saturates"
)]
fn used(row: &Row, fleet: &mut Fleet) -> Result<(), String> {
    let columns = Columns::of(row);
    let (vm, until) = (columns.vm()?, columns.needed("timestamp")?);
    let length = columns.number("duration")?.unwrap_or(STEP_MS as f64);
    if length > LONGEST_MS {
        return Err(format!("duration is {length}; write a day at most, {LONGEST_MS} ms"));
    }
    let cores = cores(&columns)?;
    let value = Value {
        cpu_mhz: columns.needed("cpu_usage")? as f32,
        memory_kib: columns.short("mem_usage")?,
        written_kib: columns.short("disk_write")?,
        received_kib: columns.short("net_rx")?,
        sent_kib: columns.short("net_tx")?,
    };
    let series = series(fleet, vm)?;
    series.cores = series.cores.max(cores);
    series.take(((until - length).max(0.0) as u64, until as u64), value)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count is none below zero, and a float to an integer saturates"
)]
fn cores(columns: &Columns<'_>) -> Result<u32, String> {
    Ok(columns.number("cpu_count")?.unwrap_or(0.0) as u32)
}

/// Gives each row of a file; one that cannot be understood costs itself. What makes the library panic
/// is a damaged file.
fn each(
    path: &Path,
    bad: &mut Bad,
    take: &mut dyn FnMut(&Row) -> Result<(), String>,
) -> Result<(), AnalyseError> {
    let unread = |cause| AnalyseError::Read { path: path.to_owned(), cause };
    let file = File::open(path).map_err(unread)?;
    let mut is_too_large = false;
    let read = catch_unwind(AssertUnwindSafe(|| -> Result<(), ParquetError> {
        let reader = SerializedFileReader::new(file)?;
        let groups = reader.metadata().row_groups();
        let mut columns = groups.iter().flat_map(|group| group.columns());
        is_too_large = columns.any(|column| column.uncompressed_size() > COLUMN_AT_MOST);
        if is_too_large {
            return Ok(());
        }
        for (number, row) in (1..).zip(reader.get_row_iter(None)?) {
            if let Err(why) = take(&row?) {
                bad.note(path, number, why);
            }
        }
        Ok(())
    }));
    if is_too_large {
        return Err(AnalyseError::TooLarge { path: path.to_owned(), what: "1 GiB in a column" });
    }
    match read {
        Ok(read) => read.map_err(|cause| unread(io::Error::other(cause))),
        Err(_) => Err(unread(io::Error::other("its parts contradict each other"))),
    }
}
