//! Puts an answer on the screen: one JSON document for scripts, or tables for people.

use std::io::{self, IsTerminal, Write};

use comfy_table::{Table, presets};
use common::wire::DESCRIPTORS;
use owo_colors::{OwoColorize, Style};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use thiserror::Error;

use crate::arguments::{Colour, Global, Output};

/// Why an answer is not on the screen.
#[derive(Debug, Error)]
pub(crate) enum PrintError {
    #[error("could not write to standard output")]
    Write(#[from] io::Error),
    #[error("could not turn the answer into JSON")]
    Json(#[from] serde_json::Error),
    #[error("this program does not know the message {0}")]
    Message(String),
    #[error("could not read the answer again")]
    Decode(#[from] prost::DecodeError),
}

/// Where and how answers are written.
#[derive(Debug)]
pub(crate) struct Printer {
    output: Output,
    coloured: bool,
}

impl Printer {
    pub(crate) fn new(global: &Global) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let coloured = match global.colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => io::stdout().is_terminal() && !plain,
        };
        Self { output: global.output, coloured }
    }

    /// Without colours, as a table.
    #[cfg(test)]
    pub(crate) const fn plain() -> Self {
        Self { output: Output::Table, coloured: false }
    }

    /// Writes `message`, of the type `name` in the admin package, as JSON, or what `people` makes.
    pub(crate) fn answer<M: Message>(
        &self,
        name: &str,
        message: &M,
        people: impl FnOnce(&Self, &M) -> String,
    ) -> Result<(), PrintError> {
        let text = match self.output {
            Output::Json => json(name, message, Spread::Lines)?,
            Output::Table | Output::Csv => people(self, message),
        };
        self.line(text.trim_end())
    }

    /// As [`Printer::answer`], for one of many: JSON stays on one line.
    pub(crate) fn row<M: Message>(
        &self,
        name: &str,
        message: &M,
        people: impl FnOnce(&Self, &M) -> String,
    ) -> Result<(), PrintError> {
        let text = match self.output {
            Output::Json => json(name, message, Spread::OneLine)?,
            Output::Table | Output::Csv => people(self, message),
        };
        self.line(text.trim_end())
    }

    /// Writes one line, or several.
    #[expect(clippy::unused_self, reason = "writing goes through the printer, whatever it is")]
    pub(crate) fn line(&self, text: &str) -> Result<(), PrintError> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")?;
        Ok(out.flush()?)
    }

    /// Clears a terminal before the next round of `--watch`.
    pub(crate) fn clear(&self) -> Result<(), PrintError> {
        if self.output == Output::Table && io::stdout().is_terminal() {
            let mut out = io::stdout().lock();
            write!(out, "\x1b[H\x1b[2J")?;
            out.flush()?;
        }
        Ok(())
    }

    /// How something that takes long goes: on one line of a terminal, for people who wait; or, if it
    /// is `wanted`, line by line wherever standard error leads.
    pub(crate) fn progress(&self, wanted: bool) -> Progress {
        let is_terminal = io::stderr().is_terminal();
        let shown = wanted || (is_terminal && self.output == Output::Table);
        Progress { shown, in_place: is_terminal, is_open: false }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    fn styled(&self, text: &str, style: Style) -> String {
        let text = safe(text);
        if self.coloured { text.style(style).to_string() } else { text }
    }

    pub(crate) fn good(&self, text: &str) -> String {
        self.styled(text, Style::new().green())
    }

    pub(crate) fn bad(&self, text: &str) -> String {
        self.styled(text, Style::new().red())
    }

    pub(crate) fn heading(&self, text: &str) -> String {
        self.styled(text, Style::new().bold())
    }

    pub(crate) fn claim(&self, holds: bool) -> String {
        if holds { self.good("yes") } else { "no".to_owned() }
    }
}

/// One line on standard error that is written anew, or many.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: bool,
    in_place: bool,
    is_open: bool,
}

impl Progress {
    pub(crate) fn tell(&mut self, text: &str) -> Result<(), PrintError> {
        if !self.shown {
            return Ok(());
        }
        let mut out = io::stderr().lock();
        if self.in_place {
            write!(out, "\r\x1b[K{text}")?;
            self.is_open = true;
        } else {
            writeln!(out, "{text}")?;
        }
        Ok(out.flush()?)
    }

    /// Takes the line away: the answer follows.
    pub(crate) fn end(&mut self) -> Result<(), PrintError> {
        if std::mem::take(&mut self.is_open) {
            let mut out = io::stderr().lock();
            write!(out, "\r\x1b[K")?;
            out.flush()?;
        }
        Ok(())
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // What is told next, such as a refusal, begins on a line of its own.
        drop(self.end());
    }
}

/// What a guest names itself may hold control characters; a terminal shall not obey them.
pub(crate) fn safe(text: &str) -> String {
    let misread = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if misread(c) { '\u{fffd}' } else { c }).collect()
}

/// A table without lines, as wide as it must be.
pub(crate) fn table<const N: usize>(
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(head.map(str::to_uppercase));
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// How JSON is laid out.
#[derive(Clone, Copy)]
enum Spread {
    Lines,
    OneLine,
}

fn json<M: Message>(name: &str, message: &M, spread: Spread) -> Result<String, PrintError> {
    let full = format!("sinter.admin.v1.{name}");
    let pool =
        DescriptorPool::decode(DESCRIPTORS).map_err(|_| PrintError::Message(full.clone()))?;
    let descriptor = pool.get_message_by_name(&full).ok_or(PrintError::Message(full))?;
    let message = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?;
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .stringify_64_bit_integers(false)
        .skip_default_fields(false);
    let mut text = Vec::new();
    match spread {
        Spread::Lines => {
            let mut serializer = serde_json::Serializer::pretty(&mut text);
            message.serialize_with_options(&mut serializer, &options)?;
        }
        Spread::OneLine => {
            let mut serializer = serde_json::Serializer::new(&mut text);
            message.serialize_with_options(&mut serializer, &options)?;
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_does_not_obey_a_name() {
        assert_eq!(safe("a\u{1b}[2Jb\u{202e}c"), "a\u{fffd}[2Jb\u{fffd}c");
    }

    #[test]
    fn json_keeps_unknown_apart_from_zero() {
        let machine =
            common::wire::admin::v1::Machine { cpu_peak_millicores: None, ..Default::default() };
        let text = json("Machine", &machine, Spread::Lines).unwrap();
        assert!(!text.contains("cpu_peak_millicores"), "{text}");
    }
}
