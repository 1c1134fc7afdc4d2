//! How a value lies in the embedded store: format, checksum, and the account of all values.
//!
//! ```text
//!  inline   1 | crc32 of table, key and value | value
//!  spilled  2 | crc32 of table, key and value | id of its parts | length
//! ```
//!
//! The account holds, per table, how many values there are and the sum of their fingerprints. It is
//! part of every commit, so that a value that is gone, came back, or is an older one is seen even
//! though every single checksum is right.

use std::collections::BTreeMap;

const INLINE: u8 = 1;
const SPILLED: u8 = 2;
const CRC: usize = 4;
const HEAD: usize = 1 + CRC;
/// A leaf of the tree holds some twenty values and is rewritten as a whole; with values of at most
/// this length it stays far below the size at which sled puts it into a file of its own.
pub(super) const INLINE_AT_MOST: usize = 4096;

/// A value as it lies in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framed<'a> {
    /// All of it.
    Inline { crc: u32, value: &'a [u8] },
    /// Its parts lie under `id`.
    Spilled { crc: u32, id: u64, length: u32 },
}

impl<'a> Framed<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(HEAD)?;
        let crc = u32::from_le_bytes(head[1..].try_into().ok()?);
        match head[0] {
            INLINE => Some(Self::Inline { crc, value: rest }),
            SPILLED if rest.len() == 12 => Some(Self::Spilled {
                crc,
                id: u64::from_be_bytes(rest[..8].try_into().ok()?),
                length: u32::from_le_bytes(rest[8..].try_into().ok()?),
            }),
            _ => None,
        }
    }

    pub(super) fn write(self) -> Vec<u8> {
        let length = if let Self::Inline { value, .. } = self { value.len() } else { 12 };
        let mut bytes = Vec::with_capacity(HEAD + length);
        match self {
            Self::Inline { crc, value } => {
                bytes.push(INLINE);
                bytes.extend(crc.to_le_bytes());
                bytes.extend_from_slice(value);
            }
            Self::Spilled { crc, id, length } => {
                bytes.push(SPILLED);
                bytes.extend(crc.to_le_bytes());
                bytes.extend(id.to_be_bytes());
                bytes.extend(length.to_le_bytes());
            }
        }
        bytes
    }

    pub(super) const fn crc(self) -> u32 {
        match self {
            Self::Inline { crc, .. } | Self::Spilled { crc, .. } => crc,
        }
    }
}

/// The checksum of a value at its place: one that strayed to another key does not check.
pub(super) fn checksum(key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.finalize()
}

/// How many values a table has, and the sum of their fingerprints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) count: u64,
    sum: u64,
}

impl Tally {
    pub(super) const fn add(&mut self, crc: u32) {
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(fingerprint(crc));
    }

    pub(super) const fn remove(&mut self, crc: u32) {
        self.count = self.count.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(fingerprint(crc));
    }
}

/// Spreads a checksum over 64 bits, so that sums of few do not meet by chance (splitmix64).
const fn fingerprint(crc: u32) -> u64 {
    let mut z = (crc as u64).wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// What the store holds after its last commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Account {
    /// Commits so far.
    pub(super) commits: u64,
    /// By table.
    pub(super) tables: BTreeMap<u8, Tally>,
}

impl Account {
    pub(super) fn tally(&mut self, table: u8) -> &mut Tally {
        self.tables.entry(table).or_default()
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let mut bytes = self.commits.to_le_bytes().to_vec();
        for (table, tally) in &self.tables {
            bytes.push(*table);
            bytes.extend(tally.count.to_le_bytes());
            bytes.extend(tally.sum.to_le_bytes());
        }
        bytes
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let number = |bytes: &[u8]| Some(u64::from_le_bytes(bytes.try_into().ok()?));
        let (commits, rest) = bytes.split_at_checked(8)?;
        let mut account = Self { commits: number(commits)?, tables: BTreeMap::new() };
        for tally in rest.chunks(17) {
            let (count, sum) = (number(tally.get(1..9)?)?, number(tally.get(9..17)?)?);
            account.tables.insert(tally[0], Tally { count, sum });
        }
        Some(account)
    }

    /// The first table in which `found` is not what was written.
    pub(super) fn differs(&self, found: &Self) -> Option<(u8, u64, u64)> {
        let tables = self.tables.keys().chain(found.tables.keys());
        tables.into_iter().find_map(|table| {
            let of = |account: &Self| account.tables.get(table).copied().unwrap_or_default();
            let (written, there) = (of(self), of(found));
            (written != there).then_some((*table, written.count, there.count))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_back() {
        let inline = Framed::Inline { crc: 7, value: b"value" };
        let spilled = Framed::Spilled { crc: 8, id: 9, length: 10 };
        assert_eq!(Framed::read(&inline.write()), Some(inline));
        assert_eq!(Framed::read(&spilled.write()), Some(spilled));
        assert_eq!(Framed::read(b"\x09abcdefgh"), None);
        assert_eq!(Framed::read(b"\x01ab"), None);
    }

    #[test]
    fn an_account_reads_back_and_tells_where_it_differs() {
        let mut account = Account { commits: 3, ..Account::default() };
        account.tally(1).add(5);
        account.tally(2).add(6);
        let mut other = account.clone();
        other.tally(2).remove(6);
        other.tally(2).add(7);

        assert_eq!(Account::read(&account.write()), Some(account.clone()));
        assert_eq!(account.differs(&account), None);
        assert_eq!(account.differs(&other), Some((2, 1, 1)));
    }
}
