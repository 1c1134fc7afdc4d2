//! A simulated vCenter as its own administrator sees it, and somebody between it and us who loses
//! answers.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use aggregator::{
    hypervisor::vsphere::VsphereCentre,
    vendor::{Address, Trust},
};
use common::id::VmId;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

use vsphere_soap::{Client, Element, Login, Moref, Object, Watch};

pub use crate::vcsim::PASSWORD;
use crate::vcsim::{USER, Vcsim, lacking};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until there is something.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Writes a file with a password, which only we may read.
pub fn write_credentials(path: &Path, password: &str) {
    fs::write(path, format!("user = '{USER}'\npassword = '{password}'\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A simulated vCenter. It ends with this.
#[derive(Debug)]
pub struct Centre {
    vcsim: Vcsim,
    files: TempDir,
    client: Client,
}

impl Centre {
    /// Starts one; says what it takes if that is not there.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub async fn up(arguments: &[&str]) -> Result<Self, String> {
        if let Some(lacking) = lacking() {
            return Err(lacking);
        }
        let vcsim = Vcsim::start(arguments).unwrap();
        let files = tempfile::tempdir().unwrap();
        let client = client_of(&vcsim);
        Ok(Self { vcsim, files, client })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.vcsim.url.rsplit('/').next().unwrap().parse().unwrap()
    }

    /// A file with a password.
    pub fn credentials(&self, password: &str) -> PathBuf {
        let path = self.files.path().join(password);
        write_credentials(&path, password);
        path
    }

    /// As it is configured.
    pub fn described(&self) -> VsphereCentre {
        VsphereCentre {
            name: "lab".to_owned(),
            address: Address {
                credentials: Some(self.credentials(PASSWORD)),
                ..address_of(&self.vcsim)
            },
            uplinks: std::collections::BTreeSet::new(),
        }
    }

    /// As it is configured, reached at another address without TLS.
    pub fn described_at(&self, at: SocketAddr) -> VsphereCentre {
        let mut described = self.described();
        described.address.url = format!("http://{at}").parse().unwrap();
        described
    }

    /// Kills it.
    pub fn end(&mut self) {
        self.vcsim.end();
    }

    /// Starts it again where it was, with the fleet of its beginning.
    pub async fn begin_again(&mut self) {
        self.vcsim.begin_again().unwrap();
        self.client = client_of(&self.vcsim);
    }

    /// All objects of a type.
    pub async fn all(&self, kind: &str, paths: &[&str]) -> Vec<Object> {
        let mut watch = Watch::begin(&self.client, &[(kind, &["name"])]).await.unwrap();
        let mut found = Vec::new();
        loop {
            let page = watch.next(&self.client).await.unwrap();
            found.extend(page.updates.into_iter().map(|update| update.of));
            if !page.has_more {
                break;
            }
        }
        self.client.properties(kind, &found, paths).await.unwrap()
    }

    async fn named(&self, name: &str) -> Moref {
        let all = self.all("VirtualMachine", &["name"]).await;
        all.into_iter().find(|vm| vm.text("name") == Some(name)).unwrap().of
    }

    /// The uuid of a machine by its name.
    pub async fn uuid_of(&self, name: &str) -> String {
        self.uuid(&self.named(name).await).await
    }

    /// The uuid of a machine.
    pub async fn uuid(&self, of: &Moref) -> String {
        let told = self.client.object(of, &["config.uuid"]).await.unwrap().unwrap();
        told.text("config.uuid").unwrap().to_owned()
    }

    /// A machine by its uuid.
    pub async fn find(&self, vm: &VmId) -> Option<Moref> {
        self.client.machines_of(vm.as_str()).await.unwrap().pop()
    }

    async fn the(&self, vm: &VmId) -> Moref {
        self.find(vm).await.unwrap()
    }

    async fn run(&self, method: &str, this: &Moref, arguments: Vec<Element>) -> Option<Moref> {
        self.client.run(method, this, arguments, PATIENCE).await.unwrap()
    }

    /// Gives a machine another name.
    pub async fn rename(&self, vm: &VmId, name: &str) {
        let arguments = vec![Element::text("newName", name)];
        self.run("Rename_Task", &self.the(vm).await, arguments).await;
    }

    /// Starts or stops a machine by another's hand.
    pub async fn power(&self, method: &str, vm: &VmId) {
        self.run(method, &self.the(vm).await, Vec::new()).await;
    }

    /// Deletes a machine.
    pub async fn destroy(&self, of: &Moref) {
        self.run("Destroy_Task", of, Vec::new()).await;
    }

    /// Adds a device to a machine.
    pub async fn add_device(&self, vm: &VmId, device: Element) {
        let change = Element::new("deviceChange")
            .of_kind("VirtualDeviceConfigSpec")
            .holding(Element::text("operation", "add"))
            .holding(device);
        let spec = Element::new("spec").holding(change);
        self.run("ReconfigVM_Task", &self.the(vm).await, vec![spec]).await;
    }

    /// The further settings of a machine.
    pub async fn settings(&self, vm: &VmId) -> BTreeMap<String, String> {
        let path = "config.extraConfig";
        let told = self.client.object(&self.the(vm).await, &[path]).await.unwrap().unwrap();
        let one = |one: &Element| {
            let value = one.text_at("value").unwrap_or_default().to_owned();
            (one.text_at("key").unwrap().to_owned(), value)
        };
        told.properties[path].children.iter().map(one).collect()
    }

    /// A copy as an administrator makes one, with all settings of the original.
    pub async fn copy(&self, vm: &VmId, name: &str) -> Moref {
        let of = self.the(vm).await;
        let paths = ["parent", "resourcePool", "config.extraConfig"];
        let told = self.client.object(&of, &paths).await.unwrap().unwrap();
        let extra = told.properties["config.extraConfig"].children.iter();
        let extra = extra.map(|one| Element { name: "extraConfig".to_owned(), ..one.clone() });
        let pool = Element::reference("pool", &told.moref("resourcePool").unwrap());
        let spec = Element::new("spec")
            .holding(Element::new("location").holding(pool))
            .holding(Element::text("template", false))
            .holding(Element::new("config").holding_all(extra.map(of_kind)))
            .holding(Element::text("powerOn", false));
        let folder = Element::reference("folder", &told.moref("parent").unwrap());
        let arguments = vec![folder, Element::text("name", name), spec];
        self.run("CloneVM_Task", &of, arguments).await.unwrap()
    }

    /// Writes a machine's labels.
    pub async fn label(&self, name: &str, labels: &str) {
        let content = self.client.session().await.unwrap().content.clone();
        let manager = content.object("customFieldsManager").unwrap();
        let name_of =
            vec![Element::text("name", "sinter.labels"), Element::text("moType", "VirtualMachine")];
        let made = self.client.call("AddCustomFieldDef", &manager, name_of).await.unwrap();
        let key = made.text_at("returnval/key").unwrap();
        let arguments = vec![
            Element::reference("entity", &self.named(name).await),
            Element::text("key", key),
            Element::text("value", labels),
        ];
        self.client.call("SetField", &manager, arguments).await.unwrap();
    }

    /// Ends every session but our own; gives how many there were.
    pub async fn end_other_sessions(&self) -> usize {
        let session = self.client.session().await.unwrap();
        let manager = session.content.object("sessionManager").unwrap();
        let told = self.client.object(&manager, &["sessionList"]).await.unwrap().unwrap();
        let keys = told.properties["sessionList"].children.iter();
        let keys = keys.filter_map(|one| one.text_at("key")).filter(|key| *key != session.key);
        let keys: Vec<Element> = keys.map(|key| Element::text("sessionId", key)).collect();
        let count = keys.len();
        self.client.call("TerminateSession", &manager, keys).await.unwrap();
        count
    }

    /// Names of all switches of hosts.
    pub async fn switches(&self) -> Vec<String> {
        let path = "configManager.networkSystem";
        let hosts = self.all("HostSystem", &[path]).await;
        let at: Vec<Moref> = hosts.iter().map(|host| host.moref(path).unwrap()).collect();
        let path = "networkInfo.vswitch";
        let told = self.client.properties("HostNetworkSystem", &at, &[path]).await.unwrap();
        let switches = told.iter().flat_map(|told| &told.properties[path].children);
        switches.map(|switch| switch.text_at("name").unwrap().to_owned()).collect()
    }
}

fn of_kind(option: Element) -> Element {
    option.of_kind("OptionValue")
}

fn address_of(vcsim: &Vcsim) -> Address {
    Address {
        url: vcsim.url.parse().unwrap(),
        trust: vcsim.fingerprint.clone().map(Trust::Fingerprint),
        credentials: None,
    }
}

fn client_of(vcsim: &Vcsim) -> Client {
    let address = address_of(vcsim);
    let login = Login { user: USER.to_owned(), password: PASSWORD.to_owned() };
    Client::new(address.client().unwrap(), address.url, Box::new(move || Ok(login.clone())))
}

/// Stands between a client and a server that do without TLS. It hands on all that both say, loses the
/// answer to a call when it is told to, and says words of the same length in the place of others.
#[derive(Debug)]
pub struct Between {
    address: SocketAddr,
    orders: Arc<Orders>,
    _stands: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Orders {
    /// One of these calls, whichever comes first.
    lose: Mutex<Vec<String>>,
    lost: AtomicUsize,
    instead: Mutex<Vec<(String, String)>>,
}

impl Orders {
    /// Whether a request is the one whose answer is to be lost.
    fn is_it(&self, request: &[u8]) -> bool {
        let mut lose = self.lose.lock().unwrap();
        let is_it = lose.iter().any(|call| {
            let call = format!("<{call}>");
            request.windows(call.len()).any(|part| part == call.as_bytes())
        });
        if is_it {
            lose.clear();
        }
        is_it
    }

    /// What is handed on of what was said.
    fn reworded(&self, said: &[u8]) -> Vec<u8> {
        let mut said = said.to_vec();
        for (words, others) in self.instead.lock().unwrap().iter() {
            let length = words.len();
            let found = said.windows(length).position(|part| part == words.as_bytes());
            if let Some(at) = found {
                said[at..at + length].copy_from_slice(others.as_bytes());
            }
        }
        said
    }
}

impl Between {
    /// Stands before a server.
    pub async fn open(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let orders = Arc::new(Orders::default());
        let heard = Arc::clone(&orders);
        let stands = async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(hand_on(client, server, Arc::clone(&heard)));
            }
        };
        #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
        let stands = tokio::spawn(stands);
        Self { address, orders, _stands: stands }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Loses the answer to the next call of that name.
    pub fn lose_answer_to(&self, call: &str) {
        self.lose_answer_to_one_of(&[call]);
    }

    /// Loses the answer to whichever of these calls is made next; to none if there are none.
    pub fn lose_answer_to_one_of(&self, calls: &[&str]) {
        self.orders.lost.store(0, Ordering::SeqCst);
        *self.orders.lose.lock().unwrap() = calls.iter().map(|&call| call.to_owned()).collect();
    }

    /// How many answers were lost since.
    #[must_use]
    pub fn lost(&self) -> usize {
        self.orders.lost.load(Ordering::SeqCst)
    }

    /// Says `others` where either side says `words`, from now on.
    ///
    /// # Panics
    ///
    /// If they have not the same length, which was said already.
    pub fn say_instead(&self, words: &str, others: &str) {
        assert_eq!(words.len(), others.len(), "{words} and {others}");
        self.orders.instead.lock().unwrap().push((words.to_owned(), others.to_owned()));
    }
}

async fn hand_on(mut client: TcpStream, server: SocketAddr, orders: Arc<Orders>) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let (mut asked, mut answered) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    // What was said of the present request so far.
    let mut request = Vec::new();
    let mut is_lost = false;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(count @ 1..) = read else { return };
                request.extend_from_slice(&asked[..count]);
                is_lost |= orders.is_it(&request);
                if server.write_all(&orders.reworded(&asked[..count])).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(count @ 1..) = read else { return };
                request.clear();
                if is_lost {
                    orders.lost.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                if client.write_all(&orders.reworded(&answered[..count])).await.is_err() {
                    return;
                }
            }
        }
    }
}
