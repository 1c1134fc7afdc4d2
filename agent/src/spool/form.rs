//! The form of a sample on disk: keys, parts, and the head of the first part.

use common::{clock::Timestamp, sample::SampleId};

/// Bytes of one part.
const PART: usize = 4000;
/// Bytes of a head: checksum, length, when it was taken, whether it is a full one.
pub(super) const HEAD: usize = 4 + 4 + 8 + 1;
/// What is known of a sample without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) bytes: u32,
    pub(super) taken_at: Timestamp,
    pub(super) full: bool,
    pub(super) crc: u32,
}

pub(super) fn insert_into(batch: &mut sled::Batch, id: SampleId, head: Head, packed: &[u8]) {
    let mut first = head.crc.to_be_bytes().to_vec();
    first.extend(head.bytes.to_be_bytes());
    first.extend(head.taken_at.as_millis().to_be_bytes());
    first.push(u8::from(head.full));
    let (own, rest) = packed.split_at(packed.len().min(PART - HEAD));
    first.extend(own);
    batch.insert(write_key(id, 0), first);
    for (part, bytes) in (1_u16..).zip(rest.chunks(PART)) {
        batch.insert(write_key(id, part), bytes);
    }
}

pub(super) fn write_key(id: SampleId, part: u16) -> Vec<u8> {
    let mut key = id.epoch.to_be_bytes().to_vec();
    key.extend(id.sequence.to_be_bytes());
    key.extend(part.to_be_bytes());
    key
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

pub(super) fn read_key(key: &[u8]) -> Option<(SampleId, u64)> {
    (key.len() == 18).then(|| {
        let id = SampleId { epoch: number(&key[..8]), sequence: number(&key[8..16]) };
        (id, number(&key[16..]))
    })
}

pub(super) fn read_last(note: &[u8]) -> Option<(SampleId, Timestamp)> {
    let (id, _) = read_key(note.get(..18)?)?;
    Some((id, Timestamp::from_millis(number(note.get(18..26)?))))
}

pub(super) fn read_head(value: &[u8]) -> Option<Head> {
    let head = value.get(..HEAD)?;
    Some(Head {
        crc: u32::try_from(number(&head[..4])).ok()?,
        bytes: u32::try_from(number(&head[4..8])).ok()?,
        taken_at: Timestamp::from_millis(number(&head[8..16])),
        full: head[16] != 0,
    })
}
