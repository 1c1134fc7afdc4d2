//! Properties of objects, page by page.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    client::{Client, Session},
    error::{Error, Fault},
    xml::{Element, Moref},
};

/// Objects of one page.
const PAGE: usize = 100;

/// An object with those of its properties that could be had.
#[derive(Debug, Clone)]
pub struct Object {
    /// Which.
    pub of: Moref,
    /// Values by path; what we may not see or what is not set is missing.
    pub properties: BTreeMap<String, Element>,
    /// Paths of those that were refused.
    pub refused: BTreeSet<String>,
}

impl Object {
    /// The text of a property.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<&str> {
        self.properties.get(path).map(|value| value.text.as_str()).filter(|text| !text.is_empty())
    }

    /// The number of a property.
    #[must_use]
    pub fn number<N: std::str::FromStr>(&self, path: &str) -> Option<N> {
        self.text(path)?.parse().ok()
    }

    /// The object that a property refers to.
    #[must_use]
    pub fn moref(&self, path: &str) -> Option<Moref> {
        self.properties.get(path).and_then(moref)
    }
}

/// The object that a value refers to.
#[must_use]
pub fn moref(value: &Element) -> Option<Moref> {
    value.moref()
}

/// The objects that a list refers to.
#[must_use]
pub fn morefs(list: Option<&Element>) -> Vec<Moref> {
    list.into_iter().flat_map(|list| &list.children).filter_map(Element::moref).collect()
}

pub(crate) fn property_set(kind: &str, paths: &[&str]) -> Element {
    Element::new("propSet")
        .holding(Element::text("type", kind))
        .holding_all(paths.iter().map(|path| Element::text("pathSet", path)))
}

/// What could not be had because nobody is logged in is no property missing.
pub(crate) fn not_logged_in(method: &str, told: &Element) -> Option<Error> {
    let faults = told.all("missingSet").filter_map(|missing| missing.child("fault"));
    let fault = faults.map(Fault::of_localized).find(|fault| fault.kind == "NotAuthenticated")?;
    Some(Error::Fault { method: method.to_owned(), fault })
}

impl Client {
    /// Properties of objects of one type. One that is gone is left out.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn properties(
        &self,
        kind: &str,
        objects: &[Moref],
        paths: &[&str],
    ) -> Result<Vec<Object>, Error> {
        let mut found = Vec::with_capacity(objects.len());
        for page in objects.chunks(PAGE) {
            let sets = page
                .iter()
                .map(|of| Element::new("objectSet").holding(Element::reference("obj", of)));
            let spec = Element::new("specSet")
                .holding(property_set(kind, paths))
                .holding_all(sets)
                .holding(Element::text("reportMissingObjectsInResults", true));
            match self.retrieve(spec).await {
                // In spite of what it was told.
                Err(error) if error.is(&["ManagedObjectNotFound"]) && page.len() == 1 => {}
                answer => found.extend(answer?),
            }
        }
        Ok(found)
    }

    /// As [`Self::properties`], of one object; `None` if it is gone.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn object(&self, of: &Moref, paths: &[&str]) -> Result<Option<Object>, Error> {
        let found = self.properties(&of.kind, std::slice::from_ref(of), paths).await?;
        Ok(found.into_iter().next())
    }

    /// All pages in one session; from the first again if that is over.
    async fn retrieve(&self, spec: Element) -> Result<Vec<Object>, Error> {
        let session = self.session().await?;
        match self.pages(&session, spec.clone()).await {
            Err(error) if error.is(&["NotAuthenticated"]) => {
                self.give_up(&session).await;
                self.pages(&*self.session().await?, spec).await
            }
            found => found,
        }
    }

    async fn pages(&self, session: &Session, spec: Element) -> Result<Vec<Object>, Error> {
        let collector = session.content.object("propertyCollector")?;
        let options = Element::new("options").holding(Element::text("maxObjects", PAGE));
        let mut method = "RetrievePropertiesEx";
        let mut arguments = vec![spec, options];
        let mut found = Vec::new();
        loop {
            let answer = self.call_in(session, method, &collector, arguments).await?;
            let Some(page) = answer.child("returnval") else { return Ok(found) };
            for told in page.all("objects") {
                if let Some(error) = not_logged_in(method, told) {
                    return Err(error);
                }
                found.extend(object(told));
            }
            let Some(token) = page.text_at("token") else { return Ok(found) };
            method = "ContinueRetrievePropertiesEx";
            arguments = vec![Element::text("token", token)];
        }
    }
}

pub(crate) fn object(told: &Element) -> Option<Object> {
    let of = told.child("obj")?.moref()?;
    let property =
        |set: &Element| Some((set.text_at("name")?.to_owned(), set.child("val")?.clone()));
    let refused = told.all("missingSet").filter_map(|set| set.text_at("path").map(str::to_owned));
    Some(Object {
        of,
        properties: told.all("propSet").filter_map(property).collect(),
        refused: refused.collect(),
    })
}
