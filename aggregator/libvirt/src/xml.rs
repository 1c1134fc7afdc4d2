//! libvirt's descriptions as a tree that can be changed and written again.
//!
//! Everything is kept but comments, processing instructions and blanks between elements, which
//! say nothing. Names keep their prefixes. What is put in is escaped when it is written, so that a
//! text can never become an element. Depth and size are bounded.

pub use bounded_xml::XmlError;
use bounded_xml::{Bounds, Start, Tree};

/// libvirt's own descriptions stay below twenty.
const BOUNDS: Bounds = Bounds { depth: 64, elements: 200_000 };

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
        bounded_xml::read(text, BOUNDS)
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
            bounded_xml::write_attribute(into, name, value);
        }
        if self.children.is_empty() && self.text.is_empty() {
            into.push_str("/>");
            return;
        }
        into.push('>');
        bounded_xml::write_text(into, &self.text);
        for child in &self.children {
            child.write_into(into);
        }
        into.push_str("</");
        into.push_str(&self.name);
        into.push('>');
    }
}

impl Tree for Element {
    fn begun(start: &Start<'_>) -> Result<Self, XmlError> {
        let attributes = bounded_xml::attributes(start).collect::<Result<_, _>>()?;
        let name = bounded_xml::name_of(start.name().as_ref())?.to_owned();
        Ok(Self { name, attributes, ..Self::default() })
    }

    fn text_mut(&mut self) -> &mut String {
        &mut self.text
    }

    fn take(&mut self, child: Self) {
        self.children.push(child);
    }

    fn end(&mut self) {
        self.text = self.text.trim().to_owned();
    }
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
}
