//! Tasks: what takes longer than a call.

use std::time::Duration;

use tokio::time::{self, Instant};

use crate::{
    client::Client,
    error::{Error, Fault},
    property::morefs,
    xml::{Element, Moref},
};

/// The first pause before a task is looked at again; it doubles from there.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest of these pauses.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

impl Client {
    /// Begins a task and waits for its end; gives what it led to.
    ///
    /// # Errors
    ///
    /// See [`Error`]. [`Error::Late`] says nothing of whether it will end well.
    pub async fn run(
        &self,
        method: &str,
        this: &Moref,
        arguments: Vec<Element>,
        within: Duration,
    ) -> Result<Option<Moref>, Error> {
        let answer = self.call(method, this, arguments).await?;
        let task = answer.child("returnval").and_then(Element::moref);
        let lacking = Error::Lacking { method: method.to_owned(), what: "task" };
        self.end_of(method, &task.ok_or(lacking)?, within).await
    }

    async fn end_of(
        &self,
        method: &str,
        task: &Moref,
        within: Duration,
    ) -> Result<Option<Moref>, Error> {
        let until = Instant::now() + within;
        let mut pause = FIRST_PAUSE;
        loop {
            let paths = ["info.state", "info.error", "info.result"];
            // A task that is forgotten is over; how, its caller sees by looking.
            let Some(told) = self.object(task, &paths).await? else { return Ok(None) };
            match told.text("info.state") {
                Some("success") => {
                    return Ok(told.moref("info.result"));
                }
                Some("error") => {
                    let lacking = Error::Lacking { method: method.to_owned(), what: "fault" };
                    let told = told.properties.get("info.error").ok_or(lacking)?;
                    let fault = Fault::of_localized(told);
                    return Err(Error::Fault { method: method.to_owned(), fault });
                }
                _ if Instant::now() >= until => {
                    return Err(Error::Late { method: method.to_owned(), within });
                }
                _ => time::sleep(pause).await,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Waits for what is under way at an object: also what was begun by a call whose answer was
    /// lost. Gives what those that ended well led to, lately or now.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn settle(&self, object: &Moref, within: Duration) -> Result<Vec<Moref>, Error> {
        let Some(told) = self.object(object, &["recentTask"]).await? else { return Ok(Vec::new()) };
        let tasks = morefs(told.properties.get("recentTask"));
        let mut results = Vec::new();
        for task in self.properties("Task", &tasks, &["info.state", "info.result"]).await? {
            let result = match task.text("info.state") {
                Some("success") => task.moref("info.result"),
                Some("queued" | "running") => {
                    match self.end_of("a task that was under way", &task.of, within).await {
                        // Whoever began it, it is over.
                        Err(Error::Fault { .. }) => None,
                        ended => ended?,
                    }
                }
                _ => None,
            };
            results.extend(result);
        }
        Ok(results)
    }
}
