//! How text looks on the screen: tables without lines, colours only on a terminal, nothing that a terminal
//! would obey.

use std::io::{self, IsTerminal as _};

use comfy_table::{Cell as Field, Color, ContentArrangement, Table, presets};
use owo_colors::{OwoColorize as _, Style};

use crate::platform;

/// How a field is meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Tone {
    #[default]
    Plain,
    Good,
    Bad,
    Doubtful,
    Faint,
}

/// One field of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

impl<T: ToString> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: safe(&text.to_string()), tone: Tone::Plain }
    }
}

impl Cell {
    pub(super) fn toned(text: impl ToString, tone: Tone) -> Self {
        Self { tone, ..Self::from(text) }
    }

    /// The value, or a dash for what is not known.
    pub(super) fn maybe(value: Option<impl ToString>) -> Self {
        value.map_or_else(|| Self::toned("-", Tone::Faint), Self::from)
    }

    fn field(&self) -> Field {
        let field = Field::new(&self.text);
        match self.tone {
            Tone::Plain => field,
            Tone::Good => field.fg(Color::DarkGreen),
            Tone::Bad => field.fg(Color::DarkRed),
            Tone::Doubtful => field.fg(Color::DarkYellow),
            Tone::Faint => field.fg(Color::DarkGrey),
        }
    }
}

/// What is written on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paper {
    /// Characters in a line; `None` if lines may be of any length.
    pub(super) columns: Option<u16>,
    /// Colours are shown.
    pub(super) coloured: bool,
}

impl Paper {
    /// As standard output is.
    pub(super) fn of_terminal() -> Self {
        let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_terminal = io::stdout().is_terminal();
        let size = platform::terminal().filter(|_| is_terminal);
        Self { columns: size.map(|size| size.columns), coloured: is_terminal && !is_plain }
    }

    /// A table without lines; fields that do not fit are cut.
    pub(super) fn table<const N: usize>(
        &self,
        head: [&str; N],
        rows: impl IntoIterator<Item = [Cell; N]>,
    ) -> String {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).force_no_tty().set_truncation_indicator("…");
        if self.coloured {
            table.enforce_styling();
        }
        if let Some(columns) = self.columns {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns);
        }
        table.set_header(head.map(str::to_uppercase));
        for row in rows {
            let mut row = comfy_table::Row::from(row.iter().map(Cell::field));
            row.max_height(1);
            table.add_row(row);
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }

    /// Names beside their values, cut to the line.
    pub(super) fn pairs(&self, pairs: impl IntoIterator<Item = (String, String)>) -> String {
        let line = |(name, value): (String, String)| {
            let line = format!("  {:24} {}", safe(&name), safe(&value));
            self.cut(&line) + "\n"
        };
        pairs.into_iter().map(line).collect()
    }

    /// A line that stands above what belongs together.
    pub(super) fn heading(&self, text: &str) -> String {
        self.styled(&self.cut(&safe(text)), Style::new().bold())
    }

    /// A line about something that is amiss.
    pub(super) fn caution(&self, text: &str) -> String {
        self.styled(&self.cut(&safe(text)), Style::new().yellow())
    }

    /// A word in its tone.
    pub(super) fn word(&self, text: &str, tone: Tone) -> String {
        let style = match tone {
            Tone::Plain => Style::new(),
            Tone::Good => Style::new().green(),
            Tone::Bad => Style::new().red(),
            Tone::Doubtful => Style::new().yellow(),
            Tone::Faint => Style::new().bright_black(),
        };
        self.styled(&safe(text), style)
    }

    fn styled(&self, text: &str, style: Style) -> String {
        if self.coloured { text.style(style).to_string() } else { text.to_owned() }
    }

    fn cut(&self, line: &str) -> String {
        let Some(columns) = self.columns.map(usize::from) else { return line.to_owned() };
        if line.chars().count() <= columns {
            return line.to_owned();
        }
        line.chars().take(columns.saturating_sub(1)).chain(['…']).collect()
    }
}

/// What a guest names itself may hold control characters; a terminal shall not obey them.
pub(super) fn safe(text: &str) -> String {
    let misread = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if misread(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Paper = Paper { columns: None, coloured: false };

    #[test]
    fn a_terminal_does_not_obey_a_name() {
        let table = WIDE.table(["name"], [[Cell::from("a\u{1b}[2Jb\u{202e}c")]]);
        assert_eq!(table, "NAME\na\u{fffd}[2Jb\u{fffd}c\n");
    }

    #[test]
    fn what_does_not_fit_is_cut_and_nothing_is_wrapped() {
        let paper = Paper { columns: Some(40), coloured: false };
        let row = || [Cell::from("/usr/bin/a file with a long name"), Cell::from("x".repeat(200))];
        let table = paper.table(["file", "argument"], [row(), row()]);
        assert_eq!(table.lines().count(), 3);
        assert!(table.lines().all(|line| line.chars().count() <= 40), "{table}");
        assert!(table.contains('…'));
        assert!(paper.pairs([("n".into(), "y".repeat(99))]).trim_end().chars().count() <= 40);
    }

    #[test]
    fn colours_are_only_where_they_are_wanted() {
        let rows = || [[Cell::toned("failed", Tone::Bad)]];
        assert!(!WIDE.table(["state"], rows()).contains('\u{1b}'));
        let coloured = Paper { coloured: true, ..WIDE };
        assert!(coloured.table(["state"], rows()).contains('\u{1b}'));
        assert!(!WIDE.heading("flows").contains('\u{1b}'));
    }
}
