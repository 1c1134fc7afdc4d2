//! One cell of a table: what kinds there are, and how it becomes the value it stands for.

use std::{fmt::Display, str::FromStr};

use common::clock::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Text.
    Text,
    /// Several values in one, as JSON.
    Json,
    /// A whole number from 0 to 2^64 - 1.
    Count,
    /// A number of 0 or more: a share, a mean, a rate.
    Real,
    /// `true` or `false`.
    Flag,
    /// A moment, to the millisecond, in UTC.
    Time,
}

impl Kind {
    /// What may stand in such a column, for people.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Text => "write text",
            Self::Json => "write JSON",
            Self::Count => "write a whole number from 0 to 18446744073709551615",
            Self::Real => "write a number of 0 or more, such as 0.25",
            Self::Flag => "write true or false",
            Self::Time => "write a time such as 2026-01-31T12:00:00.000Z",
        }
    }
}

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// It may be empty: not known.
    pub optional: bool,
    /// What it means, with its unit.
    pub meaning: &'static str,
}

/// A cell.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Empty,
    Text(String),
    Count(u64),
    Real(f64),
    Flag(bool),
    Time(Timestamp),
}

/// Whether a number is one that may stand in a table.
pub(super) fn is_real(real: &f64) -> bool {
    real.is_finite() && *real >= 0.0
}

/// A cell that is no value of its column.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{column} is {value:?}; {remedy}")]
pub struct BadCell {
    /// Which column.
    pub column: &'static str,
    /// What stands there, shortened.
    pub value: String,
    /// What may stand there.
    pub remedy: String,
}

impl BadCell {
    pub(super) fn new(column: &'static str, value: &str, remedy: impl Into<String>) -> Self {
        const SHOWN: usize = 80;
        let shown = value.char_indices().nth(SHOWN).map_or(value, |(end, _)| &value[..end]);
        Self { column, value: shown.to_owned(), remedy: remedy.into() }
    }
}

/// A row while it is put together, cell by cell in the order of the columns.
#[derive(Debug, Default)]
pub(super) struct Row(pub(super) Vec<Cell>);

impl Row {
    pub(super) fn text(&mut self, value: impl Display) -> &mut Self {
        self.push(Cell::Text(value.to_string()))
    }

    pub(super) fn count(&mut self, value: u64) -> &mut Self {
        self.push(Cell::Count(value))
    }

    pub(super) fn real(&mut self, value: f64) -> &mut Self {
        self.push(Cell::Real(value))
    }

    pub(super) fn flag(&mut self, value: bool) -> &mut Self {
        self.push(Cell::Flag(value))
    }

    pub(super) fn time(&mut self, value: Timestamp) -> &mut Self {
        self.push(Cell::Time(value))
    }

    /// Ids, texts and numbers always are JSON; what is not would be a mistake of ours, and is empty.
    pub(super) fn json(&mut self, value: &impl Serialize) -> &mut Self {
        self.push(serde_json::to_string(value).map_or(Cell::Empty, Cell::Text))
    }

    pub(super) fn maybe_text(&mut self, value: Option<impl Display>) -> &mut Self {
        self.push(value.map_or(Cell::Empty, |value| Cell::Text(value.to_string())))
    }

    pub(super) fn maybe_count(&mut self, value: Option<u64>) -> &mut Self {
        self.push(value.map_or(Cell::Empty, Cell::Count))
    }

    pub(super) fn maybe_real(&mut self, value: Option<f64>) -> &mut Self {
        self.push(value.map_or(Cell::Empty, Cell::Real))
    }

    fn push(&mut self, cell: Cell) -> &mut Self {
        self.0.push(cell);
        self
    }
}

/// The cells of a row that is read, in the order of the columns.
#[derive(Debug)]
pub(super) struct Fields {
    columns: std::slice::Iter<'static, Column>,
    cells: std::vec::IntoIter<Cell>,
}

impl Fields {
    pub(super) fn new(columns: &'static [Column], cells: Vec<Cell>) -> Self {
        Self { columns: columns.iter(), cells: cells.into_iter() }
    }

    fn next(&mut self) -> (&'static str, Kind, Cell) {
        let cell = self.cells.next().unwrap_or(Cell::Empty);
        let column = self.columns.next();
        let (name, kind) = column.map_or(("", Kind::Text), |column| (column.name, column.kind));
        (name, kind, cell)
    }

    /// An empty cell where there must be none.
    fn present<T>(&mut self, pick: impl FnOnce(Cell) -> Option<T>) -> Result<T, BadCell> {
        let (name, kind, cell) = self.next();
        pick(cell).ok_or_else(|| BadCell::new(name, "", kind.remedy()))
    }

    fn maybe<T>(&mut self, pick: impl FnOnce(Cell) -> Option<T>) -> Result<Option<T>, BadCell> {
        let (name, kind, cell) = self.next();
        if cell == Cell::Empty {
            return Ok(None);
        }
        pick(cell).map(Some).ok_or_else(|| BadCell::new(name, "", kind.remedy()))
    }

    pub(super) fn text(&mut self) -> Result<String, BadCell> {
        self.present(as_text)
    }

    pub(super) fn count(&mut self) -> Result<u64, BadCell> {
        self.present(as_count)
    }

    pub(super) fn maybe_count(&mut self) -> Result<Option<u64>, BadCell> {
        self.maybe(as_count)
    }

    pub(super) fn real(&mut self) -> Result<f64, BadCell> {
        self.present(as_real)
    }

    pub(super) fn maybe_real(&mut self) -> Result<Option<f64>, BadCell> {
        self.maybe(as_real)
    }

    pub(super) fn flag(&mut self) -> Result<bool, BadCell> {
        self.present(|cell| if let Cell::Flag(value) = cell { Some(value) } else { None })
    }

    pub(super) fn time(&mut self) -> Result<Timestamp, BadCell> {
        self.present(|cell| if let Cell::Time(value) = cell { Some(value) } else { None })
    }

    /// A text that says what it stands for: an id, an address.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&mut self) -> Result<T, BadCell> {
        let name = self.name();
        let text = self.text()?;
        text.parse().map_err(|cause| BadCell::new(name, &text, format!("{cause}")))
    }

    pub(super) fn maybe_parsed<T: FromStr<Err: Display>>(&mut self) -> Result<Option<T>, BadCell> {
        let name = self.name();
        let Some(text) = self.maybe(as_text)? else { return Ok(None) };
        text.parse().map(Some).map_err(|cause| BadCell::new(name, &text, format!("{cause}")))
    }

    /// A number that must fit into fewer bits.
    pub(super) fn narrow<T: TryFrom<u64>>(&mut self) -> Result<T, BadCell> {
        let name = self.name();
        let count = self.count()?;
        let remedy = format!("write a number of {} bits", size_of::<T>() * 8);
        T::try_from(count).map_err(|_| BadCell::new(name, &count.to_string(), remedy))
    }

    pub(super) fn maybe_narrow<T: TryFrom<u64>>(&mut self) -> Result<Option<T>, BadCell> {
        let name = self.name();
        let Some(count) = self.maybe_count()? else { return Ok(None) };
        let remedy = format!("write a number of {} bits", size_of::<T>() * 8);
        T::try_from(count).map(Some).map_err(|_| BadCell::new(name, &count.to_string(), remedy))
    }

    pub(super) fn json<T: DeserializeOwned>(&mut self) -> Result<T, BadCell> {
        let name = self.name();
        from_json(name, &self.text()?)
    }

    pub(super) fn maybe_json<T: DeserializeOwned>(&mut self) -> Result<Option<T>, BadCell> {
        let name = self.name();
        self.maybe(as_text)?.map(|text| from_json(name, &text)).transpose()
    }

    fn name(&self) -> &'static str {
        self.columns.as_slice().first().map_or("", |column| column.name)
    }
}

fn from_json<T: DeserializeOwned>(column: &'static str, text: &str) -> Result<T, BadCell> {
    let wrong = |cause| BadCell::new(column, text, format!("{}: {cause}", Kind::Json.remedy()));
    serde_json::from_str(text).map_err(wrong)
}

fn as_text(cell: Cell) -> Option<String> {
    if let Cell::Text(value) = cell { Some(value) } else { None }
}

fn as_count(cell: Cell) -> Option<u64> {
    if let Cell::Count(value) = cell { Some(value) } else { None }
}

fn as_real(cell: Cell) -> Option<f64> {
    if let Cell::Real(value) = cell { Some(value) } else { None }
}
