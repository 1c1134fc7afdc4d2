//! That nothing is lost on the way, and that no file does harm.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use common::{
    clock::Timestamp,
    mix::EffectiveMix,
    sketch::Sketch,
    units::{Bytes, Millicores},
};
use tempfile::TempDir;

use super::*;
use crate::{
    hypervisor::{Allocation, Power},
    join::{
        EdgeKey, EndCount, JoinedMachine, OwnCount, Party, Told, Traffic, Use, Used,
        tests::fleet::{demonstration, name, vm},
    },
};

const FORMATS: [Format; 2] = [Format::Csv, Format::Parquet];

/// A window whose texts and numbers are as odd as they may be.
fn odd() -> Joined {
    let mut joined = demonstration().joined(1).remove(0);
    joined.from = Timestamp::from_millis(1_700_000_000_123);
    joined.to = joined.from + Duration::from_secs(300);
    joined.window = "w-odd".parse().unwrap();
    joined.remarks = vec!["a, \"b\"\r\nc\\n".to_owned(), String::new()];
    let side = Use {
        watched: Duration::new(299, 999_999_999),
        cpu_mean: Some(Millicores(u64::MAX)),
        cpu_peak: None,
        memory_peak: Some(Bytes(0)),
        received_per_second: Some(0.1 + 0.2),
        sent_per_second: Some(f64::MIN_POSITIVE),
        written_per_second: None,
    };
    let mut used = Used {
        cpu_peak: Millicores(u64::MAX),
        listens: [1, u16::MAX].into(),
        written_per_second: Some(-0.0),
        ..Used::default()
    };
    for value in [0, 1, 5_000, u64::MAX] {
        used.cpu_quantiles.insert(value);
    }
    let mut looks = Sketch::default();
    looks.insert(7);
    let machine = JoinedMachine {
        name: " a name,\nin two \"lines\" \\ ".to_owned(),
        power: Some(Power::Off),
        allocation: Allocation { memory: Some(Bytes(1)), ..Allocation::default() },
        labels: BTreeSet::from(["one, two".to_owned(), "\n".to_owned()]),
        addresses: ["::1".parse().unwrap(), "10.0.0.1".parse().unwrap()].into(),
        coverage: 1.0 / 3.0,
        guest: side,
        out_of_memory: Some(0),
        mix: Some(EffectiveMix { generation: 7, ..EffectiveMix::default() }),
        applications: [(name("web"), used)].into(),
        contradictions: vec!["it says \"no\"".to_owned()],
        counted: Some(OwnCount { sent_per_second: Some(0.1), ..OwnCount::default() }),
        cpu_looks: looks,
        ..JoinedMachine::default()
    };
    joined.machines.insert(vm("odd"), machine);
    let key = EdgeKey {
        client: Party::External { address: "fe80::1".parse().unwrap() },
        server: Party::Machine { vm: vm("odd"), application: None },
        port: u16::MAX,
    };
    let traffic = Traffic {
        exchanges: Some(u64::MAX),
        starts: vec![Timestamp::from_millis(1), Timestamp::from_millis(2)],
        detected: Some(0.97),
        answered_at: ["[::1]:80".parse().unwrap()].into(),
        told: Told { by_server: Some(EndCount { opened: 1, bytes: None }), by_client: None },
        ..Traffic::default()
    };
    joined.edges.insert(key, traffic);
    joined
}

fn fleet() -> Vec<Joined> {
    let mut windows = demonstration().joined(3);
    windows.push(odd());
    windows
}

fn written(format: Format) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), format, &fleet()).unwrap();
    folder
}

fn keeping() -> Limits {
    Limits { keep_good: true, ..Limits::default() }
}

/// Changes one file.
fn change(folder: &Path, file: &str, change: impl Fn(String) -> String) {
    let path = folder.join(file);
    let text = fs::read_to_string(&path).unwrap();
    let changed = change(text.clone());
    assert_ne!(text, changed, "nothing was changed");
    fs::write(path, changed).unwrap();
}

#[test]
fn windows_come_back_as_they_were_in_either_format() {
    for format in FORMATS {
        let folder = tempfile::tempdir().unwrap();
        let counts = write(folder.path(), format, &fleet()).unwrap();
        let tables = read(folder.path(), Limits::default()).unwrap();
        assert_eq!(tables.windows, fleet(), "{format:?}");
        assert_eq!(tables.counts, counts);
        assert!(counts.values().all(|count| *count > 0), "{counts:?}");
    }
}

#[test]
fn every_record_is_one_line() {
    let folder = written(Format::Csv);
    for table in Table::ALL {
        let text = fs::read_to_string(folder.path().join(format!("{table}.csv"))).unwrap();
        let rows: usize = fleet().iter().map(|joined| to_rows::rows(table, joined).len()).sum();
        assert_eq!(text.lines().count(), rows + 1, "{table}");
    }
}

#[test]
fn every_row_has_a_cell_of_the_right_kind_for_each_column() {
    for joined in fleet() {
        for table in Table::ALL {
            for row in to_rows::rows(table, &joined) {
                assert_eq!(row.0.len(), table.columns().len(), "{table}");
                for (cell, column) in row.0.iter().zip(table.columns()) {
                    let fits = match cell {
                        cell::Cell::Empty => column.optional,
                        cell::Cell::Text(_) => matches!(column.kind, Kind::Text | Kind::Json),
                        cell::Cell::Count(_) => column.kind == Kind::Count,
                        cell::Cell::Real(_) => column.kind == Kind::Real,
                        cell::Cell::Flag(_) => column.kind == Kind::Flag,
                        cell::Cell::Time(_) => column.kind == Kind::Time,
                    };
                    assert!(fits, "{table}.{} holds {cell:?}", column.name);
                }
            }
        }
    }
}

#[test]
fn a_bad_cell_is_named_with_its_line_value_and_remedy() {
    let folder = written(Format::Csv);
    change(folder.path(), "records.csv", |text| text.replacen(",ok,", ",fine,", 1));
    let error = read(folder.path(), Limits::default()).unwrap_err().to_string();
    assert!(error.contains("records.csv, line "), "{error}");
    assert!(error.contains("outcome is \"fine\"; write ok, failed or unknown"), "{error}");

    let tables = read(folder.path(), keeping()).unwrap();
    assert_eq!(tables.bad_lines, 1);
    let records = |windows: &[Joined]| windows.iter().map(|w| w.records.len()).sum::<usize>();
    assert_eq!(records(&tables.windows) + 1, records(&fleet()));
}

#[test]
fn numbers_that_are_none_are_refused() {
    for (from, to, remedy) in [
        (",true,", ",yes,", "write true or false"),
        (",1,", ",NaN,", "write a"),
        (",1,", ",-1,", "write a"),
    ] {
        let folder = written(Format::Csv);
        change(folder.path(), "edges.csv", |text| text.replacen(from, to, 1));
        let error = read(folder.path(), Limits::default()).unwrap_err().to_string();
        assert!(error.contains("edges.csv, line ") && error.contains(remedy), "{error}");
    }
}

#[test]
fn rows_that_are_missing_or_too_many_are_noticed() {
    let folder = written(Format::Csv);
    change(folder.path(), "edges.csv", |text| {
        let mut lines: Vec<&str> = text.lines().collect();
        lines.remove(2);
        lines.join("\n") + "\n"
    });
    let error = read(folder.path(), Limits::default()).unwrap_err().to_string();
    assert!(error.contains("by the table of windows"), "{error}");

    let folder = written(Format::Csv);
    change(folder.path(), "edges.csv", |text| {
        let line = text.lines().nth(1).unwrap().to_owned();
        text + &line.replacen("w-", "v-", 1) + "\n"
    });
    let error = read(folder.path(), Limits::default()).unwrap_err().to_string();
    assert!(error.contains("which windows has not"), "{error}");
    let tables = read(folder.path(), keeping()).unwrap();
    assert_eq!((tables.bad_lines, tables.windows), (1, fleet()));
}

#[test]
fn columns_may_stand_in_another_order_and_must_be_there() {
    let folder = written(Format::Csv);
    change(folder.path(), "records.csv", |text| {
        let swapped = text.lines().map(|line| {
            let (head, last) = line.rsplit_once(',').unwrap();
            format!("{last},{head}\n")
        });
        swapped.collect()
    });
    assert_eq!(read(folder.path(), Limits::default()).unwrap().windows, fleet());
    change(folder.path(), "records.csv", |text| text.replacen("outcome", "result", 1));
    let error = read(folder.path(), Limits::default()).unwrap_err().to_string();
    assert!(error.contains("there is no column \"result\""), "{error}");
}

#[test]
fn a_line_without_end_is_refused_before_it_fills_the_memory() {
    let folder = written(Format::Csv);
    change(folder.path(), "windows.csv", |text| text + "w-9,\"" + &"x".repeat(20 << 20));
    let error = read(folder.path(), Limits::default()).unwrap_err();
    let error = common::task::Chain(&error).to_string();
    assert!(error.contains("a line has more than 8388608 bytes"), "{error}");
}

#[test]
fn a_folder_without_its_tables_and_one_that_has_them_are_told_apart() {
    let empty = tempfile::tempdir().unwrap();
    let error = read(empty.path(), Limits::default()).unwrap_err().to_string();
    assert!(error.contains("has no windows.csv nor windows.parquet"), "{error}");
    let folder = written(Format::Csv);
    assert!(matches!(write(folder.path(), Format::Csv, &fleet()), Err(TableError::Io { .. })));
    write(folder.path(), Format::Parquet, &fleet()).unwrap();
    let error = read(folder.path(), Limits::default()).unwrap_err().to_string();
    assert!(error.contains("remove one of them"), "{error}");
}

/// Whatever is cut off and whichever byte is turned: an error or what is still whole, no panic.
#[test]
fn a_damaged_file_is_an_error_and_never_a_panic() {
    for format in FORMATS {
        for table in [Table::Windows, Table::Edges, Table::Machines] {
            let folder = written(format);
            let path = folder.path().join(format!("{table}.{}", format.extension()));
            let whole = fs::read(&path).unwrap();
            for part in 1..40 {
                fs::write(&path, &whole[..whole.len() * part / 40]).unwrap();
                read(folder.path(), Limits::default()).unwrap_err();
                read(folder.path(), keeping()).map(|_| ()).unwrap_or_default();
                let mut turned = whole.clone();
                let place = whole.len() * part / 40;
                turned[place] ^= 0xFF;
                fs::write(&path, &turned).unwrap();
                if let Ok(tables) = read(folder.path(), Limits::default()) {
                    assert_eq!(tables.windows.len(), fleet().len());
                }
            }
        }
    }
}

#[test]
fn a_thing_that_is_no_parquet_is_named() {
    let folder = written(Format::Parquet);
    fs::write(folder.path().join("edges.parquet"), b"PAR1 and nothing of it PAR1").unwrap();
    let error = read(folder.path(), Limits::default()).unwrap_err().to_string();
    assert!(error.contains("edges.parquet cannot be read as Parquet"), "{error}");
}

#[test]
fn more_than_the_limits_allow_is_refused() {
    let folder = written(Format::Csv);
    let few = Limits { windows: 2, ..Limits::default() };
    assert!(matches!(read(folder.path(), few), Err(TableError::TooMuch { .. })));
    let short = Limits { rows_of_window: 1, ..Limits::default() };
    assert!(matches!(read(folder.path(), short), Err(TableError::TooMuch { .. })));
}

#[test]
fn every_column_is_named_once_and_says_what_it_means() {
    for table in Table::ALL {
        assert_eq!(table.columns()[0].name, "window");
        let names: BTreeSet<&str> = table.columns().iter().map(|column| column.name).collect();
        assert_eq!(names.len(), table.columns().len(), "{table}");
        assert!(table.columns().iter().all(|column| !column.meaning.is_empty()));
    }
}
