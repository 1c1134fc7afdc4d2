//! libvirt's descriptions as a tree that can be changed and written again.
//!
//! Everything is kept but comments, processing instructions and blanks between elements, which
//! say nothing. Names keep their prefixes. What is put in is escaped when it is written, so that a
//! text can never become an element. Depth and size are bounded.

use std::fmt::Write as _;

use quick_xml::{Reader, escape, events::Event};
use thiserror::Error;

/// Deepest nesting; libvirt's own descriptions stay below twenty.
const MAX_DEPTH: usize = 64;
/// Most elements.
const MAX_ELEMENTS: usize = 200_000;

/// Why a text is no description.
#[derive(Debug, Error)]
pub enum XmlError {
    /// It is no XML.
    #[error("it is no XML")]
    Syntax(#[source] quick_xml::Error),
    /// An attribute is none.
    #[error("an attribute is not well-formed")]
    Attribute(#[source] quick_xml::events::attributes::AttrError),
    /// It uses something that descriptions do not have, or more than they have.
    #[error("it is no description of libvirt's: {0}")]
    Form(&'static str),
}

/// An element.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element {
    /// Its name, with its prefix.
    pub name: String,
    /// Its attributes, in order.
    pub attributes: Vec<(String, String)>,
    /// The elements in it, in order.
    pub children: Vec<Element>,
    /// The text in it.
    pub text: String,
}

impl Element {
    /// One with nothing in it.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// With one more attribute.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.set(name, value);
        self
    }

    /// With a text.
    #[must_use]
    pub fn saying(mut self, text: impl Into<String>) -> Self {
        self.text = text.into();
        self
    }

    /// With one more element in it.
    #[must_use]
    pub fn holding(mut self, child: Self) -> Self {
        self.children.push(child);
        self
    }

    /// Reads a description.
    ///
    /// # Errors
    ///
    /// See [`XmlError`].
    pub fn parse(text: &str) -> Result<Self, XmlError> {
        let mut reader = Reader::from_str(text);
        // Closed by `End`; the first is what holds the root.
        let mut open = vec![Self::default()];
        let mut count = 0;
        loop {
            match reader.read_event().map_err(XmlError::Syntax)? {
                Event::Start(start) => {
                    open.push(begun(&start)?);
                    count += 1;
                }
                Event::Empty(start) => {
                    let element = begun(&start)?;
                    count += 1;
                    top(&mut open)?.children.push(element);
                }
                Event::End(_) => {
                    let mut element = open.pop().ok_or(XmlError::Form("an end too many"))?;
                    element.text = element.text.trim().to_owned();
                    top(&mut open)?.children.push(element);
                }
                Event::Text(text) => {
                    let text = text.decode().map_err(|cause| XmlError::Syntax(cause.into()))?;
                    top(&mut open)?.text.push_str(&text);
                }
                Event::CData(data) => {
                    let text = data.decode().map_err(|cause| XmlError::Syntax(cause.into()))?;
                    top(&mut open)?.text.push_str(&text);
                }
                Event::GeneralRef(reference) => {
                    let name =
                        reference.decode().map_err(|cause| XmlError::Syntax(cause.into()))?;
                    let text = escape::unescape(&format!("&{name};"))
                        .map(|text| text.into_owned())
                        .map_err(|_| XmlError::Form("an entity of its own"))?;
                    top(&mut open)?.text.push_str(&text);
                }
                Event::DocType(_) => return Err(XmlError::Form("a document type")),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
                Event::Eof => break,
            }
            if open.len() > MAX_DEPTH || count > MAX_ELEMENTS {
                return Err(XmlError::Form("too deep or too large"));
            }
        }
        let holder = open.pop().filter(|_| open.is_empty());
        let mut children = holder.ok_or(XmlError::Form("an end is missing"))?.children;
        match (children.pop(), children.is_empty()) {
            (Some(root), true) => Ok(root),
            _ => Err(XmlError::Form("not one element")),
        }
    }

    /// The value of an attribute.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Gives an attribute a value.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        match self.attributes.iter_mut().find(|(own, _)| own == name) {
            Some((_, own)) => *own = value,
            None => self.attributes.push((name.to_owned(), value)),
        }
    }

    /// The first element of that name in it.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// As [`Self::child`], along a path: `os/type`.
    #[must_use]
    pub fn at(&self, path: &str) -> Option<&Self> {
        path.split('/').try_fold(self, |element, name| element.child(name))
    }

    /// The text at a path, if there is one.
    #[must_use]
    pub fn text_at(&self, path: &str) -> Option<&str> {
        self.at(path).map(|element| element.text.as_str()).filter(|text| !text.is_empty())
    }

    /// All elements of that name in it.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// All elements of that name in it, to be changed.
    pub fn all_mut<'a>(&'a mut self, name: &'a str) -> impl Iterator<Item = &'a mut Self> {
        self.children.iter_mut().filter(move |child| child.name == name)
    }

    /// The first element of that name in it, made if it is not there.
    pub fn child_mut(&mut self, name: &str) -> &mut Self {
        let at = self.children.iter().position(|child| child.name == name);
        let at = at.unwrap_or_else(|| {
            self.children.push(Self::new(name));
            self.children.len() - 1
        });
        &mut self.children[at]
    }

    /// Takes all elements of that name out of it.
    pub fn remove(&mut self, name: &str) {
        self.children.retain(|child| child.name != name);
    }

    /// As libvirt reads it.
    #[must_use]
    pub fn write(&self) -> String {
        let mut text = String::new();
        self.write_into(&mut text);
        text
    }

    fn write_into(&self, into: &mut String) {
        into.push('<');
        into.push_str(&self.name);
        for (name, value) in &self.attributes {
            // Writing to a text cannot fail.
            let _infallible = write!(into, " {name}=\"{}\"", escape::escape(value.as_str()));
        }
        if self.children.is_empty() && self.text.is_empty() {
            into.push_str("/>");
            return;
        }
        into.push('>');
        into.push_str(&escape::escape(self.text.as_str()));
        for child in &self.children {
            child.write_into(into);
        }
        let _infallible = write!(into, "</{}>", self.name);
    }
}

fn top(open: &mut [Element]) -> Result<&mut Element, XmlError> {
    open.last_mut().ok_or(XmlError::Form("an end too many"))
}

fn begun(start: &quick_xml::events::BytesStart<'_>) -> Result<Element, XmlError> {
    let text = |bytes: &[u8]| {
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| XmlError::Form("not UTF-8"))
    };
    let mut element = Element { name: text(start.name().as_ref())?, ..Element::default() };
    for attribute in start.attributes() {
        let attribute = attribute.map_err(XmlError::Attribute)?;
        let value = attribute.unescape_value().map_err(XmlError::Syntax)?.into_owned();
        element.attributes.push((text(attribute.key.as_ref())?, value));
    }
    Ok(element)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: &str = "<?xml version='1.0'?>\n<domain type='kvm'>\n  <name>a &amp; b&#33;</name>\n\
        <!-- nothing --><os><type arch='x86_64'>hvm</type></os>\n  <metadata><s:x \
        xmlns:s='urn:x' at=\"&lt;1&gt;\"/></metadata><devices><disk/><disk/></devices></domain>";

    #[test]
    fn a_description_is_read_changed_and_written() {
        let mut domain = Element::parse(DOMAIN).unwrap();
        assert_eq!(domain.text_at("name"), Some("a & b!"));
        assert_eq!(domain.at("os/type").unwrap().attribute("arch"), Some("x86_64"));
        assert_eq!(domain.at("metadata/s:x").unwrap().attribute("at"), Some("<1>"));
        assert_eq!(domain.child("devices").unwrap().all("disk").count(), 2);

        domain.child_mut("name").text = "</name><evil/>".to_owned();
        domain.remove("devices");
        let again = Element::parse(&domain.write()).unwrap();

        assert_eq!(again.text_at("name"), Some("</name><evil/>"));
        assert_eq!(again, domain);
    }

    #[test]
    fn what_is_no_description_is_an_error() {
        let deep = "<a>".repeat(100) + &"</a>".repeat(100);
        for text in [
            "",
            "plain",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "<a b=1/>",
            "<a>&own;</a>",
            "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>",
            &deep,
        ] {
            assert!(Element::parse(text).is_err(), "{text}");
        }
        for end in 0..DOMAIN.len() {
            assert!(Element::parse(&DOMAIN[..end]).is_err(), "{end}");
        }
    }
}
