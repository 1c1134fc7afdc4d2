//! External data representation (RFC 4506): big-endian, everything padded to four bytes.
//!
//! The decoder trusts no length: it compares it with what is there before it takes or reserves
//! anything.

use thiserror::Error;
use uuid::Uuid;

/// Longest text the protocol knows.
const MAX_TEXT: usize = 4 << 20;

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum XdrError {
    /// It ends too early.
    #[error("{wanted} bytes are missing for {what}")]
    Short {
        /// For what.
        what: &'static str,
        /// How many more there should be.
        wanted: usize,
    },
    /// A length that no message has.
    #[error("{what} claims to have {length} elements, at most {most} are allowed")]
    Long {
        /// What.
        what: &'static str,
        /// How many it claims.
        length: usize,
        /// How many there may be.
        most: usize,
    },
    /// A number that stands for nothing known.
    #[error("{what} is {number}, which stands for nothing")]
    Unknown {
        /// What.
        what: &'static str,
        /// The number.
        number: u32,
    },
    /// A text that is no UTF-8.
    #[error("a text is not UTF-8")]
    Text,
}

/// Puts values into bytes.
#[derive(Debug, Clone, Default)]
pub struct Encoder(Vec<u8>);

impl Encoder {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was put in.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// An unsigned number of 32 bits.
    #[must_use]
    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// A signed number of 32 bits.
    #[must_use]
    pub fn i32(mut self, value: i32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// An unsigned number of 64 bits.
    #[must_use]
    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// Bytes of a length that both sides know.
    #[must_use]
    pub fn fixed(mut self, value: &[u8]) -> Self {
        self.0.extend(value);
        self.pad()
    }

    /// Bytes with their length before them.
    #[must_use]
    pub fn opaque(self, value: &[u8]) -> Self {
        // Longer than four gibibytes is longer than any frame, which is refused when it is sent.
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX)).fixed(value)
    }

    /// A text.
    #[must_use]
    pub fn text(self, value: &str) -> Self {
        self.opaque(value.as_bytes())
    }

    /// A text that may be absent.
    #[must_use]
    pub fn optional_text(self, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.u32(1).text(value),
            None => self.u32(0),
        }
    }

    fn pad(mut self) -> Self {
        while !self.0.len().is_multiple_of(4) {
            self.0.push(0);
        }
        self
    }
}

/// Takes values out of bytes.
#[derive(Debug, Clone)]
pub struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    /// At the beginning.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// How many bytes were not taken yet.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.0.len()
    }

    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], XdrError> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or_else(|| XdrError::Short { what, wanted: length - self.0.len() })?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], XdrError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    /// An unsigned number of 32 bits.
    ///
    /// # Errors
    ///
    /// If the bytes end before it does.
    pub fn u32(&mut self) -> Result<u32, XdrError> {
        Ok(u32::from_be_bytes(self.array("a number")?))
    }

    /// A signed number of 32 bits.
    ///
    /// # Errors
    ///
    /// If the bytes end before it does.
    pub fn i32(&mut self) -> Result<i32, XdrError> {
        Ok(i32::from_be_bytes(self.array("a number")?))
    }

    /// An unsigned number of 64 bits.
    ///
    /// # Errors
    ///
    /// If the bytes end before it does.
    pub fn u64(&mut self) -> Result<u64, XdrError> {
        Ok(u64::from_be_bytes(self.array("a long number")?))
    }

    /// A signed number of 64 bits.
    ///
    /// # Errors
    ///
    /// If the bytes end before it does.
    pub fn i64(&mut self) -> Result<i64, XdrError> {
        Ok(i64::from_be_bytes(self.array("a long number")?))
    }

    /// Bytes of a length that both sides know.
    ///
    /// # Errors
    ///
    /// If the bytes end before them.
    pub fn fixed(&mut self, length: usize) -> Result<&'a [u8], XdrError> {
        let taken = self.take(length, "bytes")?;
        self.take(length.next_multiple_of(4) - length, "padding")?;
        Ok(taken)
    }

    /// A uuid.
    ///
    /// # Errors
    ///
    /// If the bytes end before it does.
    pub fn uuid(&mut self) -> Result<Uuid, XdrError> {
        Ok(Uuid::from_bytes(self.array("a uuid")?))
    }

    /// A length of at most `most`.
    ///
    /// # Errors
    ///
    /// If it is larger, or the bytes end before it does.
    pub fn length(&mut self, what: &'static str, most: usize) -> Result<usize, XdrError> {
        let length = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        if length > most {
            return Err(XdrError::Long { what, length, most });
        }
        Ok(length)
    }

    /// Bytes with their length before them.
    ///
    /// # Errors
    ///
    /// If there are more than `most`, or fewer than they claim.
    pub fn opaque(&mut self, most: usize) -> Result<&'a [u8], XdrError> {
        let length = self.length("bytes", most)?;
        self.fixed(length)
    }

    /// A text.
    ///
    /// # Errors
    ///
    /// If it is longer than the protocol allows or than what is there, or is no UTF-8.
    pub fn text(&mut self) -> Result<String, XdrError> {
        let length = self.length("a text", MAX_TEXT)?;
        let bytes = self.fixed(length)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| XdrError::Text)
    }

    /// A value that may be absent.
    ///
    /// # Errors
    ///
    /// Those of `value`.
    pub fn optional<T>(
        &mut self,
        value: impl FnOnce(&mut Self) -> Result<T, XdrError>,
    ) -> Result<Option<T>, XdrError> {
        match self.u32()? {
            0 => Ok(None),
            1 => value(self).map(Some),
            number => Err(XdrError::Unknown { what: "whether a value follows", number }),
        }
    }

    /// At most `most` values, each of which takes at least four bytes.
    ///
    /// # Errors
    ///
    /// If there are more, or those of `value`.
    pub fn list<T>(
        &mut self,
        most: usize,
        mut value: impl FnMut(&mut Self) -> Result<T, XdrError>,
    ) -> Result<Vec<T>, XdrError> {
        let length = self.length("a list", most)?;
        let wanted = length.saturating_mul(4).saturating_sub(self.0.len());
        if wanted > 0 {
            return Err(XdrError::Short { what: "a list", wanted });
        }
        // Not reserved at once: an element may be larger in memory than on the wire.
        let mut values = Vec::new();
        for _ in 0..length {
            values.push(value(self)?);
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Encoder {
        Encoder::new().u32(7).text("libvirt").optional_text(None).u64(1 << 40).fixed(&[1; 16])
    }

    fn read(bytes: &[u8]) -> Result<(u32, String, Option<String>, u64, Uuid), XdrError> {
        let mut decoder = Decoder::new(bytes);
        Ok((
            decoder.u32()?,
            decoder.text()?,
            decoder.optional(Decoder::text)?,
            decoder.u64()?,
            decoder.uuid()?,
        ))
    }

    #[test]
    fn what_was_written_is_read_back() {
        let read = read(written().bytes()).unwrap();
        let expected = (7, "libvirt".to_owned(), None, 1 << 40, Uuid::from_bytes([1; 16]));
        assert_eq!(read, expected);
        assert_eq!(Encoder::new().text("abcde").bytes(), b"\0\0\0\x05abcde\0\0\0");
    }

    #[test]
    fn no_beginning_of_a_message_is_a_message() {
        let whole = written();
        for end in 0..whole.bytes().len() {
            let short = read(&whole.bytes()[..end]).unwrap_err();
            assert!(matches!(short, XdrError::Short { .. }), "{end}: {short}");
        }
    }

    #[test]
    fn a_length_is_held_against_what_is_there_before_anything_is_reserved() {
        let huge = Encoder::new().u32(u32::MAX);
        let long = Decoder::new(huge.bytes()).text().unwrap_err();
        assert!(matches!(long, XdrError::Long { .. }), "{long}");

        let many = Encoder::new().u32(1_000_000).u32(1);
        let short = Decoder::new(many.bytes()).list(2_000_000, Decoder::u32).unwrap_err();
        assert_eq!(short, XdrError::Short { what: "a list", wanted: 3_999_996 });
        let long = Decoder::new(many.bytes()).list(1_000, Decoder::u32).unwrap_err();
        assert!(matches!(long, XdrError::Long { length: 1_000_000, most: 1_000, .. }), "{long}");
    }

    #[test]
    fn a_value_neither_there_nor_absent_is_refused() {
        let neither = Encoder::new().u32(2);
        let unknown = Decoder::new(neither.bytes()).optional(Decoder::u32).unwrap_err();
        assert!(matches!(unknown, XdrError::Unknown { number: 2, .. }), "{unknown}");
        let bytes = Encoder::new().opaque(&[0xff, 0xfe]);
        assert_eq!(Decoder::new(bytes.bytes()).text().unwrap_err(), XdrError::Text);
    }
}
