//! The lines of a text file, packed by gzip or not, with bounds: a file from elsewhere may be anything.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use flate2::read::MultiGzDecoder;

use super::read::AnalyseError;

/// Longest line that is read; a day of five-minute values has some thousand bytes.
const LONGEST_LINE: u64 = 1 << 20;
/// Most bytes of one file, unpacked: a small packed file may hold more than any disk.
const LARGEST_TEXT: u64 = 8 << 30;

/// What becomes of a line: its number, and its text or why it has none.
type Take<'a> = dyn FnMut(u64, Result<&str, String>) -> Result<(), AnalyseError> + 'a;

/// Gives each line, without its end, with its number from 1. A line that is no text or too long is
/// given as the reason why.
///
/// # Errors
///
/// [`AnalyseError::Read`] if the file cannot be read, [`AnalyseError::TooLarge`] if it has no end.
pub(super) fn each(path: &Path, take: &mut Take<'_>) -> Result<(), AnalyseError> {
    let unread = |cause| AnalyseError::Read { path: path.to_owned(), cause };
    let file = File::open(path).map_err(unread)?;
    let mut text = reader(path, file).take(LARGEST_TEXT);
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        number += 1;
        let read = text.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line);
        if read.map_err(unread)? == 0 {
            break;
        }
        if line.last() != Some(&b'\n') && line.len() as u64 >= LONGEST_LINE {
            skip_line(&mut text).map_err(unread)?;
            take(number, Err(format!("is longer than {LONGEST_LINE} bytes")))?;
            continue;
        }
        match std::str::from_utf8(&line) {
            Ok(written) => take(number, Ok(written.trim_end_matches(['\n', '\r'])))?,
            Err(_) => take(number, Err("is no UTF-8 text".to_owned()))?,
        }
    }
    if text.limit() == 0 {
        return Err(AnalyseError::TooLarge { path: path.to_owned(), what: "8 GiB of text" });
    }
    Ok(())
}

fn reader(path: &Path, file: File) -> Box<dyn BufRead> {
    let is_packed = path.extension().is_some_and(|extension| extension == "gz");
    if is_packed {
        Box::new(BufReader::new(MultiGzDecoder::new(file)))
    } else {
        Box::new(BufReader::new(file))
    }
}

/// Reads to the end of a line without keeping it.
fn skip_line(text: &mut impl BufRead) -> io::Result<()> {
    loop {
        let held = text.fill_buf()?;
        if held.is_empty() {
            return Ok(());
        }
        let end = held.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(held.len(), |end| end + 1);
        text.consume(length);
        if end.is_some() {
            return Ok(());
        }
    }
}
