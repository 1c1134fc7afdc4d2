//! Reads sled's log without sled: every message that checks, wherever it lies, however damaged the
//! rest is. Nothing here panics on any bytes.
//!
//! ```text
//!  segment of 512 KiB:  header | message | message | ...
//!  message:             crc32 | kind | length | number of the segment | page | body
//! ```
//!
//! A message says which segment of the history it belongs to, so that the segment's own header is
//! not needed, and what an earlier use of the segment left behind is told by its number.

use std::{fs, path::Path};

/// sled's default; the store never sets another.
const SEGMENT: usize = 512 << 10;
/// The fixed part of a message: checksum and kind.
const FIXED: usize = 5;

/// What a message does to its page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The page is this, whatever it was.
    Page,
    /// One key of the page changes.
    Link,
    /// The page is no more.
    Free,
}

/// One message whose checksum is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// Its place in the history.
    pub(super) place: u64,
    /// The page it is about.
    pub(super) page: u64,
    pub(super) kind: Kind,
    pub(super) body: Vec<u8>,
}

/// All messages of a log in the order of the history. `blobs` is where long ones lie.
pub(super) fn messages(log: &[u8], blobs: &Path) -> Vec<Message> {
    let mut found = Vec::new();
    for segment in log.chunks(SEGMENT) {
        let mut at = 0;
        while at + FIXED < segment.len() {
            match message(segment, at, blobs) {
                Some((read, length)) => {
                    found.extend(read);
                    at += length;
                }
                // Damage, padding, or the header: the next message begins somewhere behind it.
                None => at += 1,
            }
        }
    }
    found.sort_by_key(|message| message.place);
    found
}

/// The message at a place, if there is one, and its length. Those that change no page are `None`.
fn message(segment: &[u8], at: usize, blobs: &Path) -> Option<(Option<Message>, usize)> {
    let whole = segment.get(at..)?;
    let kind = *whole.get(4)?;
    if !(1..=11).contains(&kind) {
        return None;
    }
    let mut rest = whole.get(FIXED..)?;
    let length = usize::try_from(number(&mut rest)?).ok()?;
    let segment_number = number(&mut rest)?;
    let page = number(&mut rest)?;
    let head = whole.len() - rest.len();
    let body = rest.get(..length)?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(body);
    hasher.update(whole.get(4..head)?);
    if (hasher.finalize() ^ u32::MAX).to_le_bytes() != whole[..4] {
        return None;
    }
    let place = segment_number.checked_mul(SEGMENT as u64)?.checked_add(at as u64)?;
    let of = |kind, body| Some(Message { place, page, kind, body });
    let read = match kind {
        4 => of(Kind::Free, Vec::new()),
        8 => of(Kind::Page, body.to_vec()),
        9 => blob(blobs, body, kind).and_then(|body| of(Kind::Page, body)),
        10 => of(Kind::Link, body.to_vec()),
        11 => blob(blobs, body, kind).and_then(|body| of(Kind::Link, body)),
        _ => None,
    };
    Some((read, head + length))
}

/// A long body lies in a file of its own: checksum, kind, bytes.
fn blob(blobs: &Path, name: &[u8], kind: u8) -> Option<Vec<u8>> {
    let name = u64::from_le_bytes(name.try_into().ok()?);
    let file = fs::read(blobs.join(name.to_string())).ok()?;
    let (crc, rest) = file.split_at_checked(4)?;
    let is_right = crc32fast::hash(rest).to_le_bytes() == crc && rest.first() == Some(&kind);
    is_right.then(|| rest[1..].to_vec())
}

/// Takes a number off the front: one byte if it is small, else its length and its bytes.
pub(super) fn number(bytes: &mut &[u8]) -> Option<u64> {
    let (first, rest) = bytes.split_first()?;
    let first = u64::from(*first);
    let little_endian = |size: usize| {
        let mut eight = [0; 8];
        eight.get_mut(..size)?.copy_from_slice(rest.get(..size)?);
        Some(u64::from_le_bytes(eight))
    };
    let byte = |at: usize| rest.get(at).copied().map(u64::from);
    let (value, taken) = match first {
        0..=240 => (first, 0),
        241..=248 => (240 + 256 * (first - 241) + byte(0)?, 1),
        249 => (2288 + 256 * byte(0)? + byte(1)?, 2),
        _ => {
            let size = usize::try_from(first - 247).ok()?;
            (little_endian(size)?, size)
        }
    };
    *bytes = rest.get(taken..)?;
    Some(value)
}

/// Takes a text with its length off the front.
pub(super) fn text<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(number(bytes)?).ok()?;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length_are_read() {
        for (bytes, value) in [
            (vec![7], 7),
            (vec![241, 0], 240),
            (vec![248, 255], 2287),
            (vec![249, 1, 2], 2546),
            (vec![250, 0, 0, 1], 65536),
            (vec![255, 1, 0, 0, 0, 0, 0, 0, 0], 1),
        ] {
            let mut rest = bytes.as_slice();
            assert_eq!((number(&mut rest), rest.len()), (Some(value), 0));
        }
        assert_eq!(number(&mut [250, 0].as_slice()), None);
    }

    #[test]
    fn noise_holds_no_message() {
        let noise: Vec<u8> =
            (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        assert!(messages(&noise, Path::new("/nowhere")).is_empty());
    }
}
