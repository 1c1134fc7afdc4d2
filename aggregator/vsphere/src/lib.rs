//! vSphere's SOAP interface, as far as a fleet's inventory, counters and clones need it.
//!
//! ```text
//!  Client ── calls, tasks, properties ── one session, renewed when it is over
//!    └ Watch ── a collector of that session: pages of what is there, then of what changed
//! ```
//!
//! Requests are built from elements, so that a text can never become one; answers are read with
//! bounded size, depth and number of elements. Nothing is retried but what a session's end cut off:
//! whether a call may be made twice is known to its caller alone.

mod call;
mod client;
mod error;
mod perf;
mod privilege;
mod property;
mod task;
mod watch;
#[cfg(test)]
mod tests;
pub mod xml;

pub use self::{
    call::{CloneSpec, ConfigSpec, search_by_uuid},
    client::{Client, Content, Login, LoginSource, Session},
    error::{Error, Fault},
    perf::{Counter, PerfQuery, Series},
    property::{Object, moref, morefs},
    watch::{Change, Page, Update, Watch, Watched},
    xml::{Element, Moref},
};
