//! Tables as Parquet: groups of rows, each column typed and compressed.
//!
//! The library checks what it reads, but not all of it: where a damaged file makes it panic, that is
//! caught here and becomes an error like any other.

use std::{
    collections::VecDeque,
    fmt,
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use common::clock::Timestamp;
use parquet::{
    basic::{Compression, Type as Physical},
    column::reader::{ColumnReader, ColumnReaderImpl},
    data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type},
    errors::ParquetError,
    file::{
        properties::WriterProperties,
        reader::{FileReader as _, SerializedFileReader},
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::parser::parse_message_type,
};

use super::{
    BadLine, Table, TableError,
    cell::{BadCell, Cell, Column, Kind, Row, is_real},
    delimited::{columns_error, io_error},
    reader::{Fault, Numbered},
};

/// Rows of one group: some megabytes while they are put together.
const GROUP: usize = 16_384;
/// Rows decoded at once.
const BATCH: usize = 1_024;
/// Bytes of one cell at most.
const CELL_AT_MOST: usize = 8 << 20;
/// Bytes of one column of a group at most, unpacked.
const COLUMN_AT_MOST: i64 = 1 << 30;

/// The table's columns, as Parquet writes a schema.
fn message(table: Table) -> String {
    let column = |column: &Column| {
        let repeated = if column.optional { "optional" } else { "required" };
        let (physical, logical) = match column.kind {
            Kind::Text => ("binary", " (STRING)"),
            Kind::Json => ("binary", " (JSON)"),
            Kind::Count => ("int64", " (INTEGER(64,false))"),
            Kind::Real => ("double", ""),
            Kind::Flag => ("boolean", ""),
            Kind::Time => ("int64", " (TIMESTAMP(MILLIS,true))"),
        };
        format!("{repeated} {physical} {}{logical};\n", column.name)
    };
    let columns: String = table.columns().iter().map(column).collect();
    format!("message {table} {{\n{columns}}}")
}

/// A Parquet file that is written.
pub(super) struct ColumnarWriter {
    file: PathBuf,
    table: Table,
    writer: SerializedFileWriter<File>,
    held: Vec<Row>,
}

impl fmt::Debug for ColumnarWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ColumnarWriter").field("file", &self.file).finish_non_exhaustive()
    }
}

impl ColumnarWriter {
    pub(super) fn create(file: PathBuf, opened: File, table: Table) -> Result<Self, TableError> {
        let failed = |cause| write_error(&file, cause);
        let schema = Arc::new(parse_message_type(&message(table)).map_err(failed)?);
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let writer = SerializedFileWriter::new(opened, schema, Arc::new(properties));
        Ok(Self { writer: writer.map_err(failed)?, file, table, held: Vec::new() })
    }

    pub(super) fn take(&mut self, row: Row) -> Result<(), TableError> {
        self.held.push(row);
        if self.held.len() < GROUP { Ok(()) } else { self.flush() }
    }

    pub(super) fn close(mut self) -> Result<(), TableError> {
        self.flush()?;
        self.writer.close().map_err(|cause| write_error(&self.file, cause))?;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), TableError> {
        let held = std::mem::take(&mut self.held);
        if held.is_empty() {
            return Ok(());
        }
        let columns = self.table.columns();
        self.group(columns, &held).map_err(|cause| write_error(&self.file, cause))
    }

    fn group(&mut self, columns: &[Column], rows: &[Row]) -> Result<(), ParquetError> {
        let mut group = self.writer.next_row_group()?;
        for (place, column) in columns.iter().enumerate() {
            let cells: Vec<&Cell> = rows.iter().filter_map(|row| row.0.get(place)).collect();
            let Some(mut writer) = group.next_column()? else { break };
            match column.kind {
                Kind::Text | Kind::Json => put::<ByteArrayType>(&mut writer, column, &cells, bytes),
                Kind::Count | Kind::Time => put::<Int64Type>(&mut writer, column, &cells, int),
                Kind::Real => put::<DoubleType>(&mut writer, column, &cells, |cell| match cell {
                    Cell::Real(real) => Some(*real),
                    _ => None,
                }),
                Kind::Flag => put::<BoolType>(&mut writer, column, &cells, |cell| match cell {
                    Cell::Flag(flag) => Some(*flag),
                    _ => None,
                }),
            }?;
            writer.close()?;
        }
        group.close()?;
        Ok(())
    }
}

fn put<T: DataType>(
    writer: &mut SerializedColumnWriter<'_>,
    column: &Column,
    cells: &[&Cell],
    value: impl Fn(&Cell) -> Option<T::T>,
) -> Result<(), ParquetError> {
    let values: Vec<Option<T::T>> = cells.iter().map(|cell| value(cell)).collect();
    let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
    let values: Vec<T::T> = values.into_iter().flatten().collect();
    let levels = column.optional.then_some(levels.as_slice());
    writer.typed::<T>().write_batch(&values, levels, None)?;
    Ok(())
}

fn bytes(cell: &Cell) -> Option<ByteArray> {
    if let Cell::Text(text) = cell { Some(ByteArray::from(text.as_str())) } else { None }
}

/// Counts beyond half of their range are negative to Parquet, which its reader undoes.
const fn int(cell: &Cell) -> Option<i64> {
    match cell {
        Cell::Count(count) => Some(count.cast_signed()),
        Cell::Time(at) => Some(at.as_millis().cast_signed()),
        _ => None,
    }
}

/// A Parquet file that is read.
pub(super) struct Columnar {
    file: PathBuf,
    columns: &'static [Column],
    reader: SerializedFileReader<File>,
    /// Where each column stands in the file; `None` for an optional one that is not there.
    places: Vec<Option<usize>>,
    next_group: usize,
    readers: Vec<Option<(ColumnReader, bool)>>,
    left_in_group: usize,
    decoded: VecDeque<Vec<Cell>>,
    row: u64,
}

impl fmt::Debug for Columnar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Columnar").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Columnar {
    pub(super) fn open(file: PathBuf, table: Table) -> Result<Self, TableError> {
        let opened = File::open(&file).map_err(|cause| io_error("open", &file, cause))?;
        let reader = guarded(&file, || SerializedFileReader::new(opened))?;
        let columns = table.columns();
        let places = places(&file, &reader, columns)?;
        let (readers, decoded) = (Vec::new(), VecDeque::new());
        Ok(Self {
            file,
            columns,
            reader,
            places,
            next_group: 0,
            readers,
            left_in_group: 0,
            decoded,
            row: 0,
        })
    }

    pub(super) fn next_row(&mut self) -> Option<Result<Numbered, Fault>> {
        while self.decoded.is_empty() {
            match self.decode() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(cause) => return Some(Err(Fault::Fatal(cause))),
            }
        }
        let cells = self.decoded.pop_front()?;
        self.row += 1;
        let line = self.row;
        for (column, cell) in self.columns.iter().zip(&cells) {
            let is_missing = *cell == Cell::Empty && !column.optional;
            let is_no_number = matches!(cell, Cell::Real(real) if !is_real(real));
            if is_missing || is_no_number {
                let what = BadCell::new(column.name, "", column.kind.remedy()).to_string();
                let window = match cells.first() {
                    Some(Cell::Text(window)) => window.clone(),
                    _ => String::new(),
                };
                let bad = BadLine { file: self.file.clone(), line, what };
                return Some(Err(Fault::Line { bad, window }));
            }
        }
        Some(Ok(Numbered { line, cells }))
    }

    /// Decodes more rows; says whether there may be any.
    fn decode(&mut self) -> Result<bool, TableError> {
        if self.left_in_group == 0 && !self.open_group()? {
            return Ok(false);
        }
        let count = self.left_in_group.min(BATCH);
        let mut rows: Vec<Vec<Cell>> = vec![Vec::with_capacity(self.columns.len()); count];
        for (column, reader) in self.columns.iter().zip(&mut self.readers) {
            let cells = match reader {
                None => vec![Cell::Empty; count],
                Some((reader, is_optional)) => {
                    guarded(&self.file, || cells(column, reader, *is_optional, count))?
                }
            };
            if cells.len() != count {
                return Err(damaged(&self.file, format!("{} has too few rows", column.name)));
            }
            rows.iter_mut().zip(cells).for_each(|(row, cell)| row.push(cell));
        }
        self.left_in_group -= count;
        self.decoded.extend(rows);
        Ok(true)
    }

    fn open_group(&mut self) -> Result<bool, TableError> {
        let metadata = self.reader.metadata();
        if self.next_group >= metadata.num_row_groups() {
            return Ok(false);
        }
        let group = metadata.row_group(self.next_group);
        let rows = usize::try_from(group.num_rows());
        self.left_in_group =
            rows.map_err(|_| damaged(&self.file, "a group has fewer than no rows".to_owned()))?;
        if group.columns().iter().any(|column| column.uncompressed_size() > COLUMN_AT_MOST) {
            let what = format!("a column of a group unpacks to more than {COLUMN_AT_MOST} bytes");
            return Err(TableError::TooMuch { file: self.file.clone(), what });
        }
        let (reader, number, places) = (&self.reader, self.next_group, &self.places);
        self.readers = guarded(&self.file, || {
            let group = reader.get_row_group(number)?;
            let open = |place: &Option<usize>| {
                let Some(place) = *place else { return Ok(None) };
                let column = group.get_column_reader(place)?;
                let schema = reader.metadata().file_metadata().schema_descr();
                Ok(Some((column, schema.column(place).max_def_level() > 0)))
            };
            places.iter().map(open).collect()
        })?;
        self.next_group += 1;
        Ok(true)
    }
}

fn cells(
    column: &Column,
    reader: &mut ColumnReader,
    is_optional: bool,
    count: usize,
) -> Result<Vec<Cell>, ParquetError> {
    match reader {
        ColumnReader::ByteArrayColumnReader(reader) => {
            values(reader, is_optional, count, |bytes: ByteArray| {
                let text = std::str::from_utf8(bytes.data());
                let text = text.map_err(|_| wrong(column, "is not UTF-8"))?;
                if text.len() > CELL_AT_MOST {
                    return Err(wrong(column, "has a text that is too long"));
                }
                Ok(Cell::Text(text.to_owned()))
            })
        }
        ColumnReader::Int64ColumnReader(reader) => {
            values(reader, is_optional, count, |int: i64| {
                let count = int.cast_unsigned();
                let is_time = column.kind == Kind::Time;
                Ok(if is_time {
                    Cell::Time(Timestamp::from_millis(count))
                } else {
                    Cell::Count(count)
                })
            })
        }
        ColumnReader::DoubleColumnReader(reader) => {
            values(reader, is_optional, count, |real| Ok(Cell::Real(real)))
        }
        ColumnReader::BoolColumnReader(reader) => {
            values(reader, is_optional, count, |flag| Ok(Cell::Flag(flag)))
        }
        _ => Err(wrong(column, "has another type than its table says")),
    }
}

fn wrong(column: &Column, what: &str) -> ParquetError {
    ParquetError::General(format!("{} {what}", column.name))
}

fn values<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    is_optional: bool,
    count: usize,
    cell: impl Fn(T::T) -> Result<Cell, ParquetError>,
) -> Result<Vec<Cell>, ParquetError> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let mut read = 0;
    while read < count {
        let told = is_optional.then_some(&mut levels);
        let (rows, _, _) = reader.read_records(count - read, told, None, &mut values)?;
        if rows == 0 {
            break;
        }
        read += rows;
    }
    let mut values = values.into_iter();
    if !is_optional {
        return values.map(cell).collect();
    }
    let of_level = |level: i16| if level == 0 { None } else { values.next() };
    let told = levels.into_iter().map(of_level);
    told.map(|value| value.map_or(Ok(Cell::Empty), &cell)).collect()
}

fn places(
    file: &Path,
    reader: &SerializedFileReader<File>,
    columns: &'static [Column],
) -> Result<Vec<Option<usize>>, TableError> {
    let schema = reader.metadata().file_metadata().schema_descr();
    for told in schema.columns() {
        let Some(column) = columns.iter().find(|column| column.name == told.path().string()) else {
            let what = format!("there is no column {:?}; leave it out", told.path().string());
            return Err(columns_error(file, what));
        };
        let physical = match column.kind {
            Kind::Text | Kind::Json => Physical::BYTE_ARRAY,
            Kind::Count | Kind::Time => Physical::INT64,
            Kind::Real => Physical::DOUBLE,
            Kind::Flag => Physical::BOOLEAN,
        };
        if told.physical_type() != physical || told.max_rep_level() > 0 || told.max_def_level() > 1
        {
            let what = format!("{} is no single {physical}; convert it", column.name);
            return Err(columns_error(file, what));
        }
    }
    let place = |column: &Column| {
        let place = schema.columns().iter().position(|told| told.path().string() == column.name);
        let missing = || columns_error(file, format!("it has no column {}; add it", column.name));
        if place.is_none() && !column.optional { Err(missing()) } else { Ok(place) }
    };
    columns.iter().map(place).collect()
}

/// Calls the library; a panic in it is a damaged file.
fn guarded<T>(
    file: &Path,
    call: impl FnOnce() -> Result<T, ParquetError>,
) -> Result<T, TableError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|cause| damaged(file, cause.to_string())),
        Err(_) => Err(damaged(file, "its parts contradict each other".to_owned())),
    }
}

fn damaged(file: &Path, what: String) -> TableError {
    TableError::Damaged { file: file.to_owned(), what }
}

fn write_error(file: &Path, cause: ParquetError) -> TableError {
    io_error("write", file, std::io::Error::other(cause))
}
