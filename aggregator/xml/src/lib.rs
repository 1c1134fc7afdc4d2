//! Reads what a vendor's server sends as XML into a tree of its client's own making.
//!
//! Depth and number of elements are bounded before they are believed. Nothing is looked up: of
//! entities only XML's own are known, and a document type is refused. Comments, processing
//! instructions and declarations are left out. What is put in is escaped when it is written, so that
//! a text can never become an element.

use std::fmt::Write as _;

use quick_xml::{Reader, events::Event};
use thiserror::Error;

/// An element's beginning.
pub use quick_xml::events::BytesStart as Start;

/// Why a text is no tree.
#[derive(Debug, Error)]
pub enum XmlError {
    /// It is no XML.
    #[error("it is no XML")]
    Syntax(#[source] quick_xml::Error),
    /// An attribute is none.
    #[error("an attribute is not well-formed")]
    Attribute(#[source] quick_xml::events::attributes::AttrError),
    /// It uses something that no vendor's answers have, or more than they have.
    #[error("it is not what is answered here: {0}")]
    Form(&'static str),
}

/// What is believed at most.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Deepest nesting.
    pub depth: usize,
    /// Most elements.
    pub elements: usize,
}

/// An element as its reader keeps it.
pub trait Tree: Default {
    /// One with a name and attributes, and nothing in it yet.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    fn begun(start: &Start<'_>) -> Result<Self, XmlError>;

    /// The text in it so far.
    fn text_mut(&mut self) -> &mut String;

    /// Takes in an element that is whole.
    fn take(&mut self, child: Self);

    /// Called once nothing more comes into it.
    fn end(&mut self);
}

/// Reads the one element of a text.
///
/// # Errors
///
/// See [`XmlError`].
pub fn read<T: Tree>(text: &str, bounds: Bounds) -> Result<T, XmlError> {
    let mut reader = Reader::from_str(text);
    // Closed by `End`.
    let mut open: Vec<T> = Vec::new();
    let mut root = None;
    let mut count = 0;
    loop {
        match reader.read_event().map_err(XmlError::Syntax)? {
            Event::Start(start) => {
                count += 1;
                open.push(T::begun(&start)?);
            }
            Event::Empty(start) => {
                count += 1;
                close(&mut open, &mut root, T::begun(&start)?)?;
            }
            Event::End(_) => {
                let mut element = open.pop().ok_or(XmlError::Form("an end too many"))?;
                element.end();
                close(&mut open, &mut root, element)?;
            }
            Event::Text(text) => {
                let text = text.decode().map_err(|cause| XmlError::Syntax(cause.into()))?;
                say(&mut open, &text)?;
            }
            Event::CData(text) => {
                let text = text.decode().map_err(|cause| XmlError::Syntax(cause.into()))?;
                say(&mut open, &text)?;
            }
            Event::GeneralRef(name) => {
                let name = name.decode().map_err(|cause| XmlError::Syntax(cause.into()))?;
                let text = quick_xml::escape::unescape(&format!("&{name};"))
                    .map(|text| text.into_owned())
                    .map_err(|_| XmlError::Form("an entity of its own"))?;
                say(&mut open, &text)?;
            }
            Event::DocType(_) => return Err(XmlError::Form("a document type")),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
        if open.len() >= bounds.depth || count > bounds.elements {
            return Err(XmlError::Form("too deep or too large"));
        }
    }
    if !open.is_empty() {
        return Err(XmlError::Form("an end is missing"));
    }
    root.ok_or(XmlError::Form("no element"))
}

/// Puts a whole element where it belongs.
fn close<T: Tree>(open: &mut [T], root: &mut Option<T>, element: T) -> Result<(), XmlError> {
    match (open.last_mut(), root.is_some()) {
        (Some(within), _) => within.take(element),
        (None, false) => *root = Some(element),
        (None, true) => return Err(XmlError::Form("not one element")),
    }
    Ok(())
}

/// Outside of the one element there are blanks alone, or what says how the text is encoded.
fn say<T: Tree>(open: &mut [T], text: &str) -> Result<(), XmlError> {
    match open.last_mut() {
        Some(within) => within.text_mut().push_str(text),
        None if text.trim_start_matches('\u{feff}').trim().is_empty() => {}
        None => return Err(XmlError::Form("a text outside")),
    }
    Ok(())
}

/// The text of a name.
///
/// # Errors
///
/// If it is not UTF-8.
pub fn name_of(bytes: &[u8]) -> Result<&str, XmlError> {
    std::str::from_utf8(bytes).map_err(|_| XmlError::Form("not UTF-8"))
}

/// Name and value of each attribute of a beginning.
pub fn attributes<'a>(
    start: &'a Start<'a>,
) -> impl Iterator<Item = Result<(String, String), XmlError>> + 'a {
    start.attributes().map(|attribute| {
        let attribute = attribute.map_err(XmlError::Attribute)?;
        let value = attribute.unescape_value().map_err(XmlError::Syntax)?.into_owned();
        Ok((name_of(attribute.key.as_ref())?.to_owned(), value))
    })
}

/// Writes an attribute, with a blank before it.
pub fn write_attribute(into: &mut String, name: &str, value: &str) {
    // Writing to a text cannot fail.
    let _infallible = write!(into, " {name}=\"{}\"", quick_xml::escape::escape(value));
}

/// Writes a text.
pub fn write_text(into: &mut String, text: &str) {
    into.push_str(&quick_xml::escape::escape(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its name, its text, what is in it.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Plain(String, String, Vec<Plain>);

    impl Tree for Plain {
        fn begun(start: &Start<'_>) -> Result<Self, XmlError> {
            attributes(start).collect::<Result<Vec<_>, _>>()?;
            Ok(Self(name_of(start.name().as_ref())?.to_owned(), String::new(), Vec::new()))
        }

        fn text_mut(&mut self) -> &mut String {
            &mut self.1
        }

        fn take(&mut self, child: Self) {
            self.2.push(child);
        }

        fn end(&mut self) {
            self.1 = self.1.trim().to_owned();
        }
    }

    const BOUNDS: Bounds = Bounds { depth: 64, elements: 1_000 };
    const TEXT: &str = "<?xml version='1.0'?>\n<a at='&lt;'> <b>x &amp; <![CDATA[<y>]]>&#33;</b>\n\
        <!-- nothing --><c/></a>\n";

    fn refused(text: &str) -> XmlError {
        read::<Plain>(text, BOUNDS).unwrap_err()
    }

    #[test]
    fn what_is_there_is_read_and_nothing_else() {
        let read = read::<Plain>(TEXT, BOUNDS).unwrap();

        let plain = |name: &str, text: &str, within| Plain(name.into(), text.into(), within);
        let within = vec![plain("b", "x & <y>!", vec![]), plain("c", "", vec![])];
        assert_eq!(read, plain("a", "", within));
    }

    #[test]
    fn what_is_no_tree_is_an_error() {
        for text in [
            "",
            "plain",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "<a/>text",
            "</a>",
            "<a b=1/>",
            "<a>&own;</a>",
            "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>",
        ] {
            let _error = refused(text);
        }
        for end in 0..TEXT.trim_end().len() {
            let _error = refused(&TEXT[..end]);
        }
    }

    #[test]
    fn depth_and_number_are_bounded() {
        let deep = |depth: usize| "<a>".repeat(depth) + &"</a>".repeat(depth);
        assert!(read::<Plain>(&deep(BOUNDS.depth - 1), BOUNDS).is_ok());
        assert!(refused(&deep(BOUNDS.depth)).to_string().ends_with("too deep or too large"));
        let wide = |count: usize| format!("<a>{}</a>", "<b/>".repeat(count - 1));
        assert!(read::<Plain>(&wide(BOUNDS.elements), BOUNDS).is_ok());
        let told = refused(&wide(BOUNDS.elements + 1)).to_string();
        assert_eq!(told, "it is not what is answered here: too deep or too large");
    }
}
