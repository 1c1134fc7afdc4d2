//! Where a page ended. The token is opaque: the list it belongs to, the key, and a checksum, so
//! that one of another list or a mistyped one is refused instead of giving some other page.

use tonic::Status;

use super::refusal::bad_field;

const CRC: usize = 4;

/// The token of the page that begins at `key` of `list`.
pub(super) fn token(list: &str, key: &[u8]) -> String {
    let mut bytes = key.to_vec();
    bytes.extend(checksum(list, key).to_le_bytes());
    hex::encode(bytes)
}

/// The key a token stands for; `None` for the first page.
pub(super) fn key(list: &str, token: &str) -> Result<Option<Vec<u8>>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let wrong = || bad_field("page_token", "this list gave no such token; leave it empty to begin");
    let bytes = hex::decode(token).map_err(|_| wrong())?;
    let (key, crc) = bytes
        .len()
        .checked_sub(CRC)
        .and_then(|middle| bytes.split_at_checked(middle))
        .ok_or_else(wrong)?;
    if checksum(list, key).to_le_bytes() != crc {
        return Err(wrong());
    }
    Ok(Some(key.to_vec()))
}

/// How many rows a page has: as many as asked for, `usual` if nothing is asked, a thousand at most.
pub(super) fn size(asked: u32, usual: usize) -> usize {
    const LARGEST: usize = 1_000;
    match usize::try_from(asked).unwrap_or(LARGEST) {
        0 => usual,
        asked => asked.min(LARGEST),
    }
}

/// A page of rows that are sorted by `key`, and the token of the next.
pub(super) fn cut<T>(
    rows: Vec<T>,
    (list, from): (&str, Option<Vec<u8>>),
    size: usize,
    key: impl Fn(&T) -> Vec<u8>,
) -> (Vec<T>, String) {
    let begins = |row: &T| from.as_ref().is_none_or(|from| key(row) >= *from);
    let mut rows: Vec<_> = rows.into_iter().skip_while(|row| !begins(row)).collect();
    let next = rows.get(size).map(|row| token(list, &key(row))).unwrap_or_default();
    rows.truncate(size);
    (rows, next)
}

fn checksum(list: &str, key: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(list.as_bytes());
    hasher.update(&[0]);
    hasher.update(key);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_without_a_hole() {
        let rows: Vec<u8> = (0..10).collect();
        let mut from = String::new();
        let mut all = Vec::new();
        loop {
            let begin = key("rows", &from).unwrap();
            let (page, next) = cut(rows.clone(), ("rows", begin), 3, |row| vec![*row]);
            all.extend(page);
            from = next;
            if from.is_empty() {
                break;
            }
        }
        assert_eq!(all, rows);
    }

    #[test]
    fn a_token_of_another_list_is_refused() {
        let token = token("machines", b"web");
        assert_eq!(key("machines", &token).unwrap(), Some(b"web".to_vec()));
        for (list, token) in [("agents", token.as_str()), ("machines", "00"), ("machines", "zz")] {
            let refused = key(list, token).unwrap_err();
            assert!(refused.message().starts_with("page_token:"), "{refused}");
        }
    }
}
