//! Where in a message one stands, and the checks every field goes through.

use std::{collections::BTreeMap, fmt, str::FromStr};

use super::{BadMessage, LONGEST_CONTENT, LONGEST_PATH, LONGEST_TEXT, MOST_ROWS};
use crate::clock::Timestamp;

/// The first moment of the year 2200. What is dated later is no time that a clock showed.
const LATEST_MS: i64 = 7_258_118_400_000;

/// The place of a field in its message. It is written out only when the field is refused.
#[derive(Debug, Clone, Copy)]
pub(super) enum Field<'a> {
    /// The message itself.
    Message,
    /// A field of it.
    Named(&'a Field<'a>, &'static str),
    /// A row of a field.
    Row(&'a Field<'a>, usize),
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message => f.write_str("message"),
            Self::Named(Self::Message, name) => f.write_str(name),
            Self::Named(before, name) => write!(f, "{before}.{name}"),
            Self::Row(before, row) => write!(f, "{before}[{row}]"),
        }
    }
}

impl<'a> Field<'a> {
    pub(super) const fn of(&'a self, name: &'static str) -> Self {
        Self::Named(self, name)
    }

    pub(super) fn refuse(&self, value: impl fmt::Display, remedy: &'static str) -> BadMessage {
        BadMessage::new(self.to_string(), value, remedy)
    }

    /// A part that must be there.
    pub(super) fn required<T>(&self, part: Option<T>) -> Result<T, BadMessage> {
        part.ok_or_else(|| self.refuse("missing", "send it"))
    }

    /// A text for people, without anything a terminal or a page could take for an order.
    pub(super) fn text(&self, text: String) -> Result<String, BadMessage> {
        self.bounded(&text, LONGEST_TEXT, "send at most 256 bytes")?;
        Ok(inert(text))
    }

    /// The path of a file, or the like.
    pub(super) fn path(&self, text: String) -> Result<String, BadMessage> {
        self.bounded(&text, LONGEST_PATH, "send at most 4096 bytes")?;
        Ok(inert(text))
    }

    /// What is in a file: lines stay lines, and nothing else in it is an order.
    pub(super) fn content(&self, text: String) -> Result<String, BadMessage> {
        self.bounded(&text, LONGEST_CONTENT, "send at most 65536 bytes")?;
        Ok(inert_but(text, |c| matches!(c, '\n' | '\r' | '\t')))
    }

    /// A text that counts to the byte: it is taken as it is or refused.
    pub(super) fn exact(&self, text: String) -> Result<String, BadMessage> {
        self.bounded(&text, LONGEST_PATH, "send at most 4096 bytes")?;
        if text.chars().any(is_order) {
            return Err(self.refuse(&text, "send no control characters"));
        }
        Ok(text)
    }

    fn bounded(&self, text: &str, most: usize, remedy: &'static str) -> Result<(), BadMessage> {
        if text.len() > most {
            return Err(self.refuse(format_args!("{} bytes long", text.len()), remedy));
        }
        Ok(())
    }

    /// Something that is written as text, such as an id or an address.
    pub(super) fn parsed<T: FromStr>(
        &self,
        text: &str,
        remedy: &'static str,
    ) -> Result<T, BadMessage> {
        self.bounded(text, LONGEST_TEXT, "send at most 256 bytes")?;
        text.parse().map_err(|_| self.refuse(text, remedy))
    }

    /// The same, where empty is not known.
    pub(super) fn parsed_if_any<T: FromStr>(
        &self,
        text: &str,
        remedy: &'static str,
    ) -> Result<Option<T>, BadMessage> {
        if text.is_empty() { Ok(None) } else { self.parsed(text, remedy).map(Some) }
    }

    /// An id; empty is not known.
    pub(super) fn id_if_any<T: FromStr>(&self, text: &str) -> Result<Option<T>, BadMessage> {
        self.parsed_if_any(text, ID)
    }

    /// An id.
    pub(super) fn id<T: FromStr>(&self, text: &str) -> Result<T, BadMessage> {
        self.parsed(text, ID)
    }

    /// A moment between 1970 and 2200; 0 is not known.
    pub(super) fn time(&self, ms: i64) -> Result<Timestamp, BadMessage> {
        match u64::try_from(ms) {
            Ok(since) if ms < LATEST_MS => Ok(Timestamp::from_millis(since)),
            _ => Err(self.refuse(ms, "send milliseconds since 1970, before the year 2200")),
        }
    }

    /// A port that something can listen on.
    pub(super) fn port(&self, port: u32) -> Result<u16, BadMessage> {
        match u16::try_from(port) {
            Ok(port) if port != 0 => Ok(port),
            _ => Err(self.refuse(port, "send a port from 1 to 65535")),
        }
    }

    /// A value of an enum; `Unspecified` is the reader's to refuse.
    pub(super) fn kind<E: TryFrom<i32>>(&self, value: i32) -> Result<E, BadMessage> {
        E::try_from(value).map_err(|_| self.refuse(value, KIND))
    }

    /// Refuses the enum value that says nothing, or one this version cannot use.
    pub(super) fn unusable(&self, name: &str) -> BadMessage {
        self.refuse(name, KIND)
    }

    /// All rows of a table or list, each under its own place.
    pub(super) fn rows<W, T>(
        &self,
        rows: Vec<W>,
        read: impl Fn(W, &Field<'_>) -> Result<T, BadMessage>,
    ) -> Result<Vec<T>, BadMessage> {
        self.counted(rows.len())?;
        let read_one = |(row, wire)| read(wire, &Field::Row(self, row));
        rows.into_iter().enumerate().map(read_one).collect()
    }

    /// Refuses more rows than a table may have.
    pub(super) fn counted(&self, rows: usize) -> Result<(), BadMessage> {
        if rows > MOST_ROWS {
            return Err(self.refuse(format_args!("{rows} rows long"), "send at most 65536 rows"));
        }
        Ok(())
    }
}

const ID: &str = "send 1 to 128 letters, digits and -_.:@+/";
const KIND: &str = "send a value that the protocol names and this version reads";

/// What a terminal or a page may take for an order: control characters, and those that turn the
/// direction of writing.
fn is_order(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn inert(text: String) -> String {
    inert_but(text, |_| false)
}

fn inert_but(text: String, is_meant: impl Fn(char) -> bool) -> String {
    let is_bad = |c| is_order(c) && !is_meant(c);
    if text.chars().any(is_bad) {
        return text
            .chars()
            .map(|c| if is_bad(c) { char::REPLACEMENT_CHARACTER } else { c })
            .collect();
    }
    text
}

/// `text`, no longer than a text may be.
pub(super) fn cut(text: &str) -> String {
    cut_to(text, LONGEST_TEXT)
}

/// `text`, no longer than a path may be.
pub(super) fn cut_path(text: &str) -> String {
    cut_to(text, LONGEST_PATH)
}

/// `text`, no longer than what is in a file may be.
pub(super) fn cut_content(text: &str) -> String {
    cut_to(text, LONGEST_CONTENT)
}

fn cut_to(text: &str, most: usize) -> String {
    text[..text.floor_char_boundary(most)].to_owned()
}

/// `text` as an optional field has it: empty is not known.
pub(super) fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// The same the other way, cut to what a text may be.
pub(super) fn or_empty(text: Option<&String>) -> String {
    text.map(|text| cut(text)).unwrap_or_default()
}

/// A moment as the wire has it.
pub(super) fn millis(at: Timestamp) -> i64 {
    i64::try_from(at.as_millis()).unwrap_or(i64::MAX)
}

/// Names and what stands under them; a name that stands twice is refused.
pub(super) fn by_name<K: Ord + fmt::Display, V>(
    rows: Vec<(K, V)>,
    field: &Field<'_>,
) -> Result<BTreeMap<K, V>, BadMessage> {
    let mut by_name = BTreeMap::new();
    for (name, row) in rows {
        if by_name.contains_key(&name) {
            return Err(field.refuse(format_args!("naming {name} twice"), "name each once"));
        }
        by_name.insert(name, row);
    }
    Ok(by_name)
}

/// Gives a wire type its `TryFrom` over the reader that knows its place.
macro_rules! conversion {
    ($($wire:ty => $word:ty, $read:path;)+) => {$(
        impl TryFrom<$wire> for $word {
            type Error = BadMessage;

            fn try_from(wire: $wire) -> Result<Self, BadMessage> {
                $read(wire, &Field::Message)
            }
        }
    )+};
}

pub(super) use conversion;
