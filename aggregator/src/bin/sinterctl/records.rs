//! `records import` and `records schema`: exported tables, checked and described. Needs no aggregator.

use std::io::{self, Write as _};

use aggregator::tables::{Limits, Reader, Table};
use serde_json::json;

use crate::{
    arguments::{Global, ImportRecords, Output},
    failure::Failure,
    print::{PrintError, Printer, safe, table},
};

/// Reads a folder of tables, counts its rows, and names the lines that are none.
///
/// # Errors
///
/// [`Failure::BadLines`] if some lines were none.
pub(crate) fn import(global: &Global, import: &ImportRecords) -> Result<(), Failure> {
    let limits = Limits { keep_good: true, ..Limits::default() };
    let mut reader = Reader::open(&import.folder, limits)?;
    let (mut first, mut last) = (None, None);
    while let Some(joined) = reader.next_window()? {
        first.get_or_insert(joined.from);
        last = Some(joined.to);
    }
    let (counts, bad, bad_lines) = reader.close();
    let printer = Printer::new(global);
    let text = match global.output {
        Output::Json => {
            let rows: serde_json::Map<_, _> =
                counts.iter().map(|(table, count)| (table.to_string(), json!(count))).collect();
            let ends = [first, last].map(|at| at.map(common::clock::Timestamp::as_millis));
            let [from_unix_ms, to_unix_ms] = ends;
            let told = json!({
                "rows": rows,
                "bad_lines": bad_lines,
                "from_unix_ms": from_unix_ms,
                "to_unix_ms": to_unix_ms,
            });
            serde_json::to_string_pretty(&told).map_err(PrintError::Json)?
        }
        Output::Table | Output::Csv => table(
            ["table", "rows"],
            counts.iter().map(|(table, count)| [table.to_string(), count.to_string()]),
        ),
    };
    printer.line(text.trim_end())?;
    let mut err = io::stderr().lock();
    for bad in &bad {
        // Nobody is left to tell when standard error is closed; the exit code tells it too.
        drop(writeln!(err, "{}", safe(&bad.to_string())));
    }
    if bad_lines == 0 {
        return Ok(());
    }
    let good = counts.values().sum::<u64>();
    let [bad, good] = [bad_lines, good].map(|count| usize::try_from(count).unwrap_or(usize::MAX));
    Err(Failure::BadLines { program: "exported tables", bad, good })
}

/// Prints every column of every table.
///
/// # Errors
///
/// If standard output does not take it.
pub(crate) fn schema(global: &Global) -> Result<(), Failure> {
    let columns = || {
        let of = |table: Table| table.columns().iter().map(move |column| (table, column));
        Table::ALL.into_iter().flat_map(of)
    };
    let text = match global.output {
        Output::Json => {
            let told = columns().map(|(table, column)| {
                json!({
                    "table": table.name(),
                    "column": column.name,
                    "kind": format!("{:?}", column.kind).to_lowercase(),
                    "optional": column.optional,
                    "meaning": column.meaning,
                })
            });
            serde_json::to_string_pretty(&told.collect::<Vec<_>>()).map_err(PrintError::Json)?
        }
        Output::Table | Output::Csv => table(
            ["table", "column", "kind", "may be empty", "meaning"],
            columns().map(|(table, column)| {
                [
                    table.name().to_owned(),
                    column.name.to_owned(),
                    format!("{:?}", column.kind).to_lowercase(),
                    if column.optional { "yes" } else { "no" }.to_owned(),
                    column.meaning.to_owned(),
                ]
            }),
        ),
    };
    Printer::new(global).line(text.trim_end())?;
    Ok(())
}
