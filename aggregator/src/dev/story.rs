//! How the story is written: one fact a line, with the seconds since it began, on standard output.

use std::{
    io::{self, Write as _},
    time::Instant,
};

use owo_colors::{OwoColorize as _, Style};

use super::DevError;

/// Tells what happens.
#[derive(Debug)]
pub(super) struct Story {
    begun: Instant,
    coloured: bool,
}

impl Story {
    pub(super) fn new(coloured: bool) -> Self {
        Self { begun: Instant::now(), coloured }
    }

    /// Tells a fact; the lines after its first one are set below it.
    pub(super) fn tell(&self, text: &str) -> Result<(), DevError> {
        let seconds = format!("{:7.1} s  ", self.begun.elapsed().as_secs_f64());
        let mut out = io::stdout().lock();
        for (number, line) in text.trim_end().lines().enumerate() {
            let margin = if number == 0 { &seconds } else { "           " };
            let margin = self.styled(margin, Style::new().dimmed());
            writeln!(out, "{margin}{line}").map_err(DevError::Tell)?;
        }
        out.flush().map_err(DevError::Tell)
    }

    pub(super) fn heading(&self, text: &str) -> String {
        self.styled(text, Style::new().bold())
    }

    pub(super) fn good(&self, text: &str) -> String {
        self.styled(text, Style::new().green())
    }

    pub(super) fn bad(&self, text: &str) -> String {
        self.styled(text, Style::new().red())
    }

    fn styled(&self, text: &str, style: Style) -> String {
        if self.coloured { text.style(style).to_string() } else { text.to_owned() }
    }
}

/// Columns as wide as they must be, two blanks apart.
pub(super) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<_> = (0..N).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  "));
        let line: String = cells.collect();
        text += "  ";
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let rows = [["a".to_owned(), "b".to_owned()], ["long".to_owned(), "c".to_owned()]];
        assert_eq!(columns(&rows), "  a     b\n  long  c\n");
    }
}
