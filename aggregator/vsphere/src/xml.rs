//! The elements of requests and answers, as a tree.
//!
//! Names lose their prefixes, which vSphere uses for nothing. Of attributes only the two that mean
//! something are kept: an object's type, and `xsi:type`, which says what a value is. Depth and
//! number are bounded; comments and blanks between elements are left out.

use std::fmt;

pub use bounded_xml::XmlError;
use bounded_xml::{Bounds, Start, Tree};

/// Snapshots in snapshots are the deepest that is asked for; a page of a hundred machines has some
/// thirty thousand elements.
const BOUNDS: Bounds = Bounds { depth: 96, elements: 1_000_000 };

/// The reference of an object at one vCenter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moref {
    /// Its type, such as `VirtualMachine`.
    pub kind: String,
    /// Its value, such as `vm-39`.
    pub value: String,
}

impl Moref {
    /// A reference of that type and value.
    #[must_use]
    pub fn new(kind: &str, value: &str) -> Self {
        Self { kind: kind.to_owned(), value: value.to_owned() }
    }
}

impl fmt::Display for Moref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.value)
    }
}

/// An element.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element {
    /// Its name.
    pub name: String,
    /// What its value is, if it says so by `xsi:type`.
    pub kind: Option<String>,
    /// The type of the object it refers to, if it is a reference.
    pub refers_to: Option<String>,
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

    /// One with a text.
    #[must_use]
    pub fn text(name: &str, text: impl fmt::Display) -> Self {
        Self { text: text.to_string(), ..Self::new(name) }
    }

    /// A reference.
    #[must_use]
    pub fn reference(name: &str, to: &Moref) -> Self {
        Self { refers_to: Some(to.kind.clone()), ..Self::text(name, &to.value) }
    }

    /// Saying what it is.
    #[must_use]
    pub fn of_kind(mut self, kind: &str) -> Self {
        self.kind = Some(kind.to_owned());
        self
    }

    /// With one more element in it.
    #[must_use]
    pub fn holding(mut self, child: Self) -> Self {
        self.children.push(child);
        self
    }

    /// With more elements in it.
    #[must_use]
    pub fn holding_all(mut self, children: impl IntoIterator<Item = Self>) -> Self {
        self.children.extend(children);
        self
    }

    /// The first element of that name in it.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// As [`Self::child`], along a path: `connectable/connected`.
    #[must_use]
    pub fn at(&self, path: &str) -> Option<&Self> {
        path.split('/').try_fold(self, |element, name| element.child(name))
    }

    /// The text at a path, if there is one.
    #[must_use]
    pub fn text_at(&self, path: &str) -> Option<&str> {
        self.at(path).map(|element| element.text.as_str()).filter(|text| !text.is_empty())
    }

    /// The number at a path, if there is one.
    #[must_use]
    pub fn number_at<N: std::str::FromStr>(&self, path: &str) -> Option<N> {
        self.text_at(path)?.parse().ok()
    }

    /// Whether `true` stands at a path.
    #[must_use]
    pub fn is_true_at(&self, path: &str) -> bool {
        matches!(self.text_at(path), Some("true" | "1"))
    }

    /// All elements of that name in it.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The object that it refers to.
    #[must_use]
    pub fn moref(&self) -> Option<Moref> {
        let kind = self.refers_to.as_ref()?;
        (!self.text.is_empty()).then(|| Moref::new(kind, &self.text))
    }

    /// Puts `child` in the place of the one of its name; after the last of `before` if there is none,
    /// since vSphere reads elements in their one order.
    pub fn put(&mut self, child: Self, before: &[&str]) {
        if let Some(own) = self.children.iter_mut().find(|own| own.name == child.name) {
            *own = child;
            return;
        }
        let last = self.children.iter().rposition(|own| before.contains(&own.name.as_str()));
        self.children.insert(last.map_or(0, |at| at + 1), child);
    }

    /// Takes all elements of that name out of it.
    pub fn remove(&mut self, name: &str) {
        self.children.retain(|child| child.name != name);
    }

    /// Reads an answer.
    ///
    /// # Errors
    ///
    /// See [`XmlError`].
    pub fn parse(text: &str) -> Result<Self, XmlError> {
        bounded_xml::read(text, BOUNDS)
    }

    /// As vSphere reads it.
    pub(crate) fn write_into(&self, into: &mut String) {
        into.push('<');
        into.push_str(&self.name);
        for (name, value) in [("xsi:type", &self.kind), ("type", &self.refers_to)] {
            if let Some(value) = value {
                bounded_xml::write_attribute(into, name, value);
            }
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
        let mut element = Self::new(bounded_xml::name_of(start.local_name().as_ref())?);
        for attribute in bounded_xml::attributes(start) {
            let (name, value) = attribute?;
            match name.split_once(':') {
                None if name == "type" => element.refers_to = Some(value),
                // Whatever prefix stands for the schema's namespace.
                Some((_, "type")) => element.kind = Some(value),
                _ => {}
            }
        }
        Ok(element)
    }

    fn text_mut(&mut self) -> &mut String {
        &mut self.text
    }

    fn take(&mut self, child: Self) {
        self.children.push(child);
    }

    /// A value keeps its blanks.
    fn end(&mut self) {
        if !self.children.is_empty() {
            self.text = self.text.trim().to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "<?xml version='1.0'?>\n<s:R xmlns:s='urn:x'>\n <val \
        xmlns:_i='urn:y' _i:type='Description'><label>a &amp; b&#33;</label></val> <obj \
        type=\"VirtualMachine\">vm-39</obj><!-- nothing --><n>12</n><t>true</t><e></e></s:R>";

    #[test]
    fn an_answer_is_read_and_what_is_put_in_stays_text() {
        let answer = Element::parse(ANSWER).unwrap();
        assert_eq!(answer.name, "R");
        assert_eq!(answer.child("val").unwrap().kind.as_deref(), Some("Description"));
        assert_eq!(answer.text_at("val/label"), Some("a & b!"));
        assert_eq!(
            answer.child("obj").unwrap().moref(),
            Some(Moref::new("VirtualMachine", "vm-39"))
        );
        assert_eq!((answer.number_at::<i32>("n"), answer.is_true_at("t")), (Some(12), true));
        assert_eq!(answer.text_at("e"), None);

        let evil = Element::text("name", "</name><evil/>");
        let mut written = String::new();
        evil.write_into(&mut written);
        assert_eq!(Element::parse(&written).unwrap(), evil);
    }

    #[test]
    fn an_element_is_put_where_it_belongs() {
        let mut device = Element::parse("<d><key>1</key><unit>7</unit></d>").unwrap();
        device.put(Element::text("backing", "b"), &["key", "deviceInfo"]);
        device.put(Element::text("unit", "8"), &[]);
        let names: Vec<_> = device.children.iter().map(|child| child.name.as_str()).collect();
        assert_eq!((names, device.text_at("unit")), (vec!["key", "backing", "unit"], Some("8")));
    }
}
