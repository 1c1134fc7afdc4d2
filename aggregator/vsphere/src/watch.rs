//! What is there, page by page, and then what changed since.
//!
//! A watch lives in one session and ends with it: its owner then begins another, and reads all
//! anew.

use std::sync::Arc;

use tracing::debug;

use crate::{
    client::{Client, Session},
    error::Error,
    property::{not_logged_in, property_set},
    xml::{Element, Moref},
};

/// Objects of one page. vCenter gives no more than a hundred, whatever is asked for.
const PAGE: usize = 100;

/// A type of objects, and which of their properties are watched.
pub type Watched<'a> = (&'a str, &'a [&'a str]);

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It came; all of its properties are told.
    Enter,
    /// Some of its properties are others.
    Modify,
    /// It is gone.
    Leave,
}

/// A change of one object.
#[derive(Debug, Clone)]
pub struct Update {
    /// Which.
    pub of: Moref,
    /// What became of it.
    pub change: Change,
    /// Properties by path; `None` for one that is no more.
    pub properties: Vec<(String, Option<Element>)>,
}

/// Some of what changed.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The changes.
    pub updates: Vec<Update>,
    /// Whether there is more to be told already.
    pub has_more: bool,
}

/// A collector of changes.
#[derive(Debug)]
pub struct Watch {
    session: Arc<Session>,
    view: Moref,
    collector: Moref,
    version: String,
}

impl Watch {
    /// Begins to watch all objects of some types, in the present session.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn begin(client: &Client, watched: &[Watched<'_>]) -> Result<Self, Error> {
        let session = client.session().await?;
        match Self::begin_in(client, &session, watched).await {
            Err(error) if error.is(&["NotAuthenticated"]) => {
                client.give_up(&session).await;
                Self::begin_in(client, &client.session().await?, watched).await
            }
            begun => begun,
        }
    }

    async fn begin_in(
        client: &Client,
        session: &Arc<Session>,
        watched: &[Watched<'_>],
    ) -> Result<Self, Error> {
        let made = async |method: &str, this: &Moref, arguments| {
            let answer = client.call_in(session, method, this, arguments).await?;
            let lacking = Error::Lacking { method: method.to_owned(), what: "returnval" };
            answer.child("returnval").and_then(Element::moref).ok_or(lacking)
        };
        let arguments =
            vec![Element::reference("container", &session.content.object("rootFolder")?)]
                .into_iter()
                .chain(watched.iter().map(|(kind, _)| Element::text("type", kind)))
                .chain([Element::text("recursive", true)])
                .collect();
        let manager = session.content.object("viewManager")?;
        let view = made("CreateContainerView", &manager, arguments).await?;
        // One of our own: whoever else uses the session's has nothing to do with our filters.
        let shared = session.content.object("propertyCollector")?;
        let collector = made("CreatePropertyCollector", &shared, Vec::new()).await?;
        let along = Element::new("selectSet")
            .of_kind("TraversalSpec")
            .holding(Element::text("type", "ContainerView"))
            .holding(Element::text("path", "view"))
            .holding(Element::text("skip", false));
        let from = Element::new("objectSet")
            .holding(Element::reference("obj", &view))
            .holding(Element::text("skip", true))
            .holding(along);
        let spec = Element::new("spec")
            .holding_all(watched.iter().map(|(kind, paths)| property_set(kind, paths)))
            .holding(from);
        let arguments = vec![spec, Element::text("partialUpdates", false)];
        made("CreateFilter", &collector, arguments).await?;
        Ok(Self { session: Arc::clone(session), view, collector, version: String::new() })
    }

    /// How many objects it watches.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn count(&self, client: &Client) -> Result<u64, Error> {
        let told = client.object(&self.view, &["view"]).await?;
        let seen = told.as_ref().and_then(|told| told.properties.get("view"));
        Ok(seen.map_or(0, |list| list.children.len() as u64))
    }

    /// Whether it is of the session that calls are made in now.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn is_current(&self, client: &Client) -> Result<bool, Error> {
        Ok(Arc::ptr_eq(&self.session, &client.session().await?))
    }

    /// Takes back what the server holds for it, as far as it can be had: it would hold it until the
    /// session ends.
    pub async fn end(self, client: &Client) {
        let held = [("DestroyPropertyCollector", &self.collector), ("DestroyView", &self.view)];
        for (method, of) in held {
            if let Err(error) = client.call_in(&self.session, method, of, Vec::new()).await {
                debug!(%error, "not taken back");
                return;
            }
        }
    }

    /// The next page of what changed; an empty one if nothing did. Does not wait.
    ///
    /// # Errors
    ///
    /// See [`Error`]. After one the watch is of no use any more.
    pub async fn next(&mut self, client: &Client) -> Result<Page, Error> {
        const METHOD: &str = "WaitForUpdatesEx";
        let options = Element::new("options")
            .holding(Element::text("maxWaitSeconds", 0))
            .holding(Element::text("maxObjectUpdates", PAGE));
        let arguments = vec![Element::text("version", &self.version), options];
        let answer = client.call_in(&self.session, METHOD, &self.collector, arguments).await;
        if let Err(error) = &answer
            && error.is(&["NotAuthenticated"])
        {
            client.give_up(&self.session).await;
        }
        let answer = answer?;
        let Some(told) = answer.child("returnval") else { return Ok(Page::default()) };
        let lacking = Error::Lacking { method: METHOD.to_owned(), what: "version" };
        self.version = told.text_at("version").ok_or(lacking)?.to_owned();
        let mut page = Page { updates: Vec::new(), has_more: told.is_true_at("truncated") };
        for told in told.all("filterSet").flat_map(|filter| filter.all("objectSet")) {
            if let Some(error) = not_logged_in(METHOD, told) {
                client.give_up(&self.session).await;
                return Err(error);
            }
            page.updates.extend(update(told));
        }
        Ok(page)
    }
}

/// What cannot be understood costs itself alone.
pub(crate) fn update(told: &Element) -> Option<Update> {
    let change = match told.text_at("kind")? {
        "enter" => Change::Enter,
        "modify" => Change::Modify,
        "leave" => Change::Leave,
        _ => return None,
    };
    let property = |told: &Element| {
        let is_set = !matches!(told.text_at("op"), Some("remove" | "indirectRemove"));
        let value = told.child("val").filter(|_| is_set).cloned();
        Some((told.text_at("name")?.to_owned(), value))
    };
    let properties = told.all("changeSet").filter_map(property).collect();
    Some(Update { of: told.child("obj")?.moref()?, change, properties })
}
