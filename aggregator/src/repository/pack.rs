//! How large rows are packed. A row that fits into a leaf of the store is kept as it is; one that
//! does not would be cut into parts, each of which is checked, logged and cached, which costs more
//! than packing it. A table of connections packs to a tenth.

use std::{borrow::Cow, io};

use bytes::Bytes;

use super::frame::INLINE_AT_MOST;

/// What a packed row begins with: that of a zstd frame. No row in MessagePack does, for that would
/// be the number 40, and every row is a map, a list or a text; nor does one of samples, for no id
/// is that long.
const PACKED: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
/// The quickest of the ordinary levels: more would pack little better.
const LEVEL: i32 = 1;

/// The row as it is kept.
pub(super) fn pack(row: Vec<u8>) -> Bytes {
    if row.len() <= INLINE_AT_MOST {
        return row.into();
    }
    match zstd::bulk::compress(&row, LEVEL) {
        // Into a box, for the room that was made for the worst case is not held on to.
        Ok(packed) if packed.len() < row.len() => packed.into_boxed_slice().into(),
        _ => row.into(),
    }
}

/// The row as it was.
pub(super) fn unpack(kept: &[u8]) -> io::Result<Cow<'_, [u8]>> {
    if kept.starts_with(&PACKED) {
        return zstd::stream::decode_all(kept).map(Cow::Owned);
    }
    Ok(Cow::Borrowed(kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_any_size_comes_back() {
        for size in [0, 1, INLINE_AT_MOST, INLINE_AT_MOST + 1, 1 << 20] {
            let row = b"MessagePack ".repeat(size / 12 + 1)[..size].to_vec();
            let kept = pack(row.clone());
            assert_eq!(unpack(&kept).unwrap(), row);
            assert!(size <= INLINE_AT_MOST || kept.len() < size / 10);
        }
    }

    #[test]
    fn a_large_row_that_is_kept_unpacked_is_read_too() {
        let row = vec![0xC0; 2 * INLINE_AT_MOST];
        assert_eq!(unpack(&row).unwrap(), row);
    }
}
