//! Knows a key by its looks, for it may stand where no name says what it is.

use super::STRUCK;

/// Shorter texts are names.
const LONG: usize = 20;
/// From here on one case is enough.
const VERY_LONG: usize = 32;

/// A value as it may be told.
pub(super) fn value(text: &str) -> String {
    if is_random(text) {
        return STRUCK.to_owned();
    }
    // A path or a dotted name with one part that is a key.
    let mut told = String::with_capacity(text.len());
    for part in text.split_inclusive(['/', '.', ':', '@']) {
        let end = part.trim_end_matches(['/', '.', ':', '@']);
        told.push_str(if is_random(end) { STRUCK } else { end });
        told.push_str(&part[end.len()..]);
    }
    told
}

/// Whether a text looks as if it came out of a generator of keys: long, of the signs of base64 or hexadecimal
/// digits, and mixed as no word is.
fn is_random(text: &str) -> bool {
    let text = text.trim_matches(['"', '\'']);
    let signs = text.strip_prefix('/').map_or(text, |_| "");
    if signs.len() < LONG
        || !signs.bytes().all(|sign| sign.is_ascii_alphanumeric() || b"+/=_-".contains(&sign))
    {
        return false;
    }
    let count = |is: fn(&u8) -> bool| signs.bytes().filter(is).count();
    let (digits, upper, lower) =
        (count(u8::is_ascii_digit), count(u8::is_ascii_uppercase), count(u8::is_ascii_lowercase));
    let is_mixed = digits > 0 && upper > 0 && lower > 0;
    // Hexadecimal, base32, an uuid: one case, and more digits than a name has.
    let is_of_digits =
        signs.len() >= VERY_LONG && digits * 6 >= signs.len() && !signs.contains('/');
    // Without digits: so many changes of case are no name.
    let changes = signs
        .as_bytes()
        .windows(2)
        .filter(|two| two[0].is_ascii_lowercase() && two[1].is_ascii_uppercase());
    is_mixed || is_of_digits || (signs.len() >= VERY_LONG && changes.count() * 5 >= signs.len())
}
