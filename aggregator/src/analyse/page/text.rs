//! Text of a page.

/// As it may stand in HTML, in text as well as in a quoted attribute. What would turn text around or
/// steer a terminal is shown as a replacement.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                safe.push('\u{fffd}');
            }
            c if c.is_control() => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// That some are not shown; empty if all are.
pub(super) fn more(all: usize, shown: usize, what: &str) -> String {
    match all.checked_sub(shown) {
        None | Some(0) => String::new(),
        Some(more) => format!("<p class=\"note\">{more} more {what} are not shown.</p>"),
    }
}

/// A rate, in the unit that reads best.
pub(super) fn rate(per_second: f64) -> String {
    if per_second >= 1.0 {
        format!("{per_second:.1} /s")
    } else if per_second * 60.0 >= 1.0 {
        format!("{:.1} /min", per_second * 60.0)
    } else {
        format!("{:.2} /h", per_second * 3600.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_a_name() {
        assert_eq!(
            escaped("<img src='x' onerror=\"a&b\">\u{202e}\u{1b}"),
            "&lt;img src=&#39;x&#39; onerror=&quot;a&amp;b&quot;&gt;\u{fffd}\u{fffd}"
        );
    }
}
