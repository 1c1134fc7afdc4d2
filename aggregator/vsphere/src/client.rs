//! One vCenter or host: how a call is made, and the session that all are made in.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use reqwest::{
    Response, StatusCode, Url,
    header::{CONTENT_TYPE, COOKIE, SET_COOKIE},
};
use tokio::sync::Mutex;
use tracing::debug;

use crate::{
    error::{Error, Fault},
    xml::{Element, Moref},
};

/// Of the interface's version whose calls are made; every vCenter since answers to it.
const ACTION: &str = "\"urn:vim25/6.5\"";
/// Largest answer that is read: a page of a hundred machines has two or three megabytes.
const ANSWER_LIMIT: usize = 64 << 20;
/// Longest cookie that is sent back.
const COOKIE_LIMIT: usize = 1_024;
const HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
    <soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" \
    xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\" \
    xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xmlns=\"urn:vim25\">\
    <soapenv:Body>";
const TAIL: &str = "</soapenv:Body></soapenv:Envelope>";

/// Who we say we are.
#[derive(Clone)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Says who we are, anew for each session: a password may change.
pub type LoginSource =
    Box<dyn Fn() -> Result<Login, Box<dyn std::error::Error + Send + Sync>> + Send + Sync>;

/// The objects that everything begins with.
#[derive(Debug, Clone)]
pub struct Content {
    told: Element,
}

impl Content {
    /// One of them, such as `rootFolder`.
    ///
    /// # Errors
    ///
    /// If this vCenter or host has none.
    pub fn object(&self, name: &'static str) -> Result<Moref, Error> {
        let found = self.told.child(name).and_then(Element::moref);
        found.ok_or(Error::Lacking { method: "RetrieveServiceContent".to_owned(), what: name })
    }

    /// What it says of itself.
    #[must_use]
    pub fn about(&self, name: &str) -> Option<&str> {
        self.told.child("about")?.text_at(name)
    }
}

/// Being logged in. What was made in a session ends with it.
#[derive(Debug)]
pub struct Session {
    cookie: String,
    /// Its key, by which another may end it.
    pub key: String,
    /// What was told at its beginning.
    pub content: Content,
}

/// One vCenter or host.
pub struct Client {
    http: reqwest::Client,
    url: Url,
    login: LoginSource,
    session: Mutex<Option<Arc<Session>>>,
    calls: AtomicU64,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

impl Client {
    /// The interface at `url`, of which only scheme, host and port count. Nothing is asked yet.
    #[must_use]
    pub fn new(http: reqwest::Client, mut url: Url, login: LoginSource) -> Self {
        url.set_path("/sdk");
        Self { http, url, login, session: Mutex::default(), calls: AtomicU64::new(0) }
    }

    /// How many calls were made.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// The session that calls are made in; logs in if there is none.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn session(&self) -> Result<Arc<Session>, Error> {
        let mut held = self.session.lock().await;
        if let Some(session) = held.as_ref() {
            return Ok(Arc::clone(session));
        }
        let session = Arc::new(self.log_in().await?);
        Ok(Arc::clone(held.insert(session)))
    }

    /// Makes a call of an object; in a session of its own if the present one is over. Gives what
    /// it was answered.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn call(
        &self,
        method: &str,
        this: &Moref,
        arguments: Vec<Element>,
    ) -> Result<Element, Error> {
        let session = self.session().await?;
        match self.call_in(&session, method, this, arguments.clone()).await {
            Err(error) if error.is(&["NotAuthenticated"]) => {
                self.give_up(&session).await;
                let session = self.session().await?;
                self.call_in(&session, method, this, arguments).await
            }
            answer => answer,
        }
    }

    /// As [`Self::call`], in one session alone.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn call_in(
        &self,
        session: &Session,
        method: &str,
        this: &Moref,
        arguments: Vec<Element>,
    ) -> Result<Element, Error> {
        let asked = question(method, this, arguments);
        let (answer, _) = self.ask(method, &asked, Some(&session.cookie)).await?;
        Ok(answer)
    }

    /// Forgets a session that is over.
    pub(crate) async fn give_up(&self, session: &Session) {
        let mut held = self.session.lock().await;
        if held.as_ref().is_some_and(|own| own.cookie == session.cookie) {
            debug!(url = self.url.as_str(), "session over");
            *held = None;
        }
    }

    async fn log_in(&self) -> Result<Session, Error> {
        let root = Moref::new("ServiceInstance", "ServiceInstance");
        let method = "RetrieveServiceContent";
        let (told, _) = self.ask(method, &question(method, &root, Vec::new()), None).await?;
        let lacking = |what| Error::Lacking { method: method.to_owned(), what };
        let told = told.child("returnval").ok_or_else(|| lacking("returnval"))?.clone();
        let content = Content { told };
        let Login { user, password } = (self.login)().map_err(Error::Login)?;
        let words = vec![Element::text("userName", user), Element::text("password", password)];
        let asked = question("Login", &content.object("sessionManager")?, words);
        let (answer, cookie) = self.ask("Login", &asked, None).await?;
        let lacking = |what| Error::Lacking { method: "Login".to_owned(), what };
        let cookie = cookie.ok_or_else(|| lacking("cookie"))?;
        let key = answer.text_at("returnval/key").ok_or_else(|| lacking("key"))?.to_owned();
        debug!(url = self.url.as_str(), version = content.about("apiVersion"), "logged in");
        Ok(Session { cookie, key, content })
    }

    /// Sends an envelope; gives the answer, and the cookie that came with it.
    async fn ask(
        &self,
        method: &str,
        body: &Element,
        cookie: Option<&str>,
    ) -> Result<(Element, Option<String>), Error> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mut envelope = HEAD.to_owned();
        body.write_into(&mut envelope);
        envelope.push_str(TAIL);
        let mut request = self
            .http
            .post(self.url.clone())
            .header(CONTENT_TYPE, "text/xml; charset=utf-8")
            .header("SOAPAction", ACTION)
            .body(envelope);
        if let Some(cookie) = cookie {
            request = request.header(COOKIE, cookie);
        }
        let unanswered = |cause| Error::Unanswered { method: method.to_owned(), cause };
        let response = request.send().await.map_err(unanswered)?;
        let (status, cookie) = (response.status(), cookie_of(&response));
        let text = text_of(method, response).await?;
        let refused = || Error::Status { method: method.to_owned(), status };
        // A fault comes with 500; whatever else is no success is not vSphere speaking.
        if !status.is_success() && status != StatusCode::INTERNAL_SERVER_ERROR {
            return Err(refused());
        }
        let answer = Element::parse(&text).map_err(|cause| match status.is_success() {
            true => Error::Unreadable { method: method.to_owned(), cause },
            false => refused(),
        })?;
        let body = answer.child("Body").and_then(|body| body.children.first());
        match body {
            Some(fault) if fault.name == "Fault" => {
                Err(Error::Fault { method: method.to_owned(), fault: Fault::of_envelope(fault) })
            }
            Some(answer) if status.is_success() => Ok((answer.clone(), cookie)),
            _ => Err(refused()),
        }
    }
}

fn question(method: &str, this: &Moref, arguments: Vec<Element>) -> Element {
    let mut question = Element::new(method);
    question.children.push(Element::reference("_this", this));
    question.children.extend(arguments);
    question
}

/// The session's cookie without what follows it.
fn cookie_of(response: &Response) -> Option<String> {
    let set = response.headers().get_all(SET_COOKIE).into_iter();
    let mut texts = set.filter_map(|value| value.to_str().ok());
    let cookie = texts.find(|text| text.starts_with("vmware_soap_session="))?;
    let cookie = cookie.split(';').next()?.trim();
    (cookie.len() <= COOKIE_LIMIT).then(|| cookie.to_owned())
}

async fn text_of(method: &str, mut response: Response) -> Result<String, Error> {
    let unanswered = |cause| Error::Unanswered { method: method.to_owned(), cause };
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unanswered)? {
        if body.len() + chunk.len() > ANSWER_LIMIT {
            return Err(Error::TooLarge { method: method.to_owned(), limit: ANSWER_LIMIT });
        }
        body.extend_from_slice(&chunk);
    }
    // What is no UTF-8 is one name spelt wrongly, not an answer lost.
    Ok(String::from_utf8(body)
        .unwrap_or_else(|cause| String::from_utf8_lossy(cause.as_bytes()).into_owned()))
}
