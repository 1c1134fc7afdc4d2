//! What the messages of a log add up to: keys and their framed values.
//!
//! A page spans the keys from its low to its high bound, and pages between them span all keys. So
//! whatever a page says supersedes all that was said of that span before, and no index is needed.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
};

use super::log::{Kind, Message, number, text};

/// Framed values by stored key, as the last readable message left them.
pub(super) type Values = BTreeMap<Vec<u8>, Vec<u8>>;

/// Takes in messages in the order of the history.
pub(super) fn values(messages: &[Message]) -> Values {
    let mut values = Values::new();
    // What the keys in a page's links lack at their front.
    let mut prefixes: HashMap<u64, Vec<u8>> = HashMap::new();
    for message in messages {
        match message.kind {
            Kind::Free => {
                prefixes.remove(&message.page);
            }
            Kind::Page => {
                // A page that makes no sense is left out; what it replaced stays.
                if let Some(page) = page(&message.body) {
                    prefixes.insert(message.page, page.prefix.clone());
                    replace(&mut values, page);
                }
            }
            Kind::Link => {
                if let Some(prefix) = prefixes.get(&message.page) {
                    // Other links change no value.
                    let _changed = link(&mut values, prefix, &message.body);
                }
            }
        }
    }
    values
}

struct Page {
    low: Vec<u8>,
    high: Vec<u8>,
    prefix: Vec<u8>,
    /// `None` for a page that holds no values.
    leaf: Option<Vec<(Vec<u8>, Vec<u8>)>>,
}

fn page(mut bytes: &[u8]) -> Option<Page> {
    let rest = &mut bytes;
    let (_next, _merging_child) = (number(rest)?, number(rest)?);
    let (flags, after) = rest.split_at_checked(2)?;
    *rest = after;
    let prefix_length = usize::from(flags[1]);
    let low = text(rest)?.to_vec();
    let high = text(rest)?.to_vec();
    let prefix = low.get(..prefix_length)?.to_vec();
    let (is_index, after) = rest.split_first()?;
    *rest = after;
    let count = usize::try_from(number(rest)?).ok()?;
    if *is_index != 0 {
        return Some(Page { low, high, prefix, leaf: None });
    }
    // Each takes a byte at least: a count beyond that is none to make room for.
    if count > rest.len() {
        return None;
    }
    let mut keys = Vec::with_capacity(count);
    for _ in 0..count {
        keys.push([prefix.as_slice(), text(rest)?].concat());
    }
    let mut leaf = Vec::with_capacity(count);
    for key in keys {
        leaf.push((key, text(rest)?.to_vec()));
    }
    Some(Page { low, high, prefix, leaf: Some(leaf) })
}

fn replace(values: &mut Values, page: Page) {
    let Some(leaf) = page.leaf else { return };
    let ends = !page.high.is_empty();
    if ends && page.high <= page.low {
        return;
    }
    let end = if ends { Bound::Excluded(page.high) } else { Bound::Unbounded };
    let span = (Bound::Included(page.low), end);
    let former: Vec<_> = values.range(span).map(|(key, _)| key.clone()).collect();
    for key in former {
        values.remove(&key);
    }
    values.extend(leaf);
}

fn link(values: &mut Values, prefix: &[u8], bytes: &[u8]) -> Option<()> {
    let (kind, mut rest) = bytes.split_first()?;
    let rest = &mut rest;
    match kind {
        0 => {
            let key = [prefix, text(rest)?].concat();
            values.insert(key, text(rest)?.to_vec());
        }
        1 => {
            values.remove([prefix, text(rest)?].concat().as_slice());
        }
        _ => {}
    }
    Some(())
}
