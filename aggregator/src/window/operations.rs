//! What an application did on block devices in a window, by the size of the operations.

use std::collections::BTreeMap;

use common::sample::DeviceUse;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OperationKind {
    /// Read.
    Read,
    /// Written.
    Write,
    /// Given back.
    Discard,
}

/// What names operations of one kind and size.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OperationKey {
    /// On which device.
    pub device: String,
    /// What was done.
    pub kind: OperationKind,
    /// `floor(log2(bytes per operation))` from one sample to the next; `None` if nobody counts
    /// their bytes.
    pub size_class: Option<u32>,
}

/// How often, and how much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Operations {
    /// How many operations.
    pub count: u64,
    /// How many bytes; `None` if nobody counts them.
    pub bytes: Option<u64>,
}

/// Takes in what one device counted from one sample to the next. A count that fell began anew;
/// what it lost in between is not known and left out.
pub(super) fn take(
    sums: &mut BTreeMap<OperationKey, Operations>,
    device: &str,
    was: DeviceUse,
    now: DeviceUse,
) {
    let bytes = |was: u64, now: u64| Some(now.saturating_sub(was));
    let parts = [
        (OperationKind::Read, was.reads, now.reads, bytes(was.read.0, now.read.0)),
        (OperationKind::Write, was.writes, now.writes, bytes(was.written.0, now.written.0)),
        (OperationKind::Discard, was.discards, now.discards, None),
    ];
    for (kind, was, now, bytes) in parts {
        let count = now.saturating_sub(was);
        if count == 0 {
            continue;
        }
        let size_class = bytes.and_then(|bytes| (bytes / count).checked_ilog2());
        let key = OperationKey { device: device.to_owned(), kind, size_class };
        let sum = sums.entry(key).or_default();
        sum.count = sum.count.saturating_add(count);
        if let Some(bytes) = bytes {
            sum.bytes = Some(sum.bytes.unwrap_or(0).saturating_add(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use common::units::Bytes;

    use super::*;

    #[test]
    fn operations_are_counted_by_their_size_and_never_backwards() {
        let first = DeviceUse { writes: 10, written: Bytes(40_960), ..DeviceUse::default() };
        let second = DeviceUse { writes: 11, written: Bytes(40_960 + 4_096), discards: 2, ..first };
        let large = DeviceUse { writes: 12, written: Bytes(45_056 + (1 << 20)), ..second };
        let anew = DeviceUse::default();
        let mut sums = BTreeMap::new();
        for pair in [first, second, large, anew].windows(2) {
            take(&mut sums, "vda", pair[0], pair[1]);
        }
        let told: Vec<_> = sums
            .iter()
            .map(|(key, sum)| (key.kind, key.size_class, sum.count, sum.bytes))
            .collect();
        let expected = [
            (OperationKind::Write, Some(12), 1, Some(4_096)),
            (OperationKind::Write, Some(20), 1, Some(1 << 20)),
            (OperationKind::Discard, None, 2, None),
        ];
        assert_eq!(told, expected);
    }
}
