//! A real libvirtd with a real guest, and somebody before its socket.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use aggregator::hypervisor::{
    Hypervisor,
    libvirt::{LibvirtHost, LibvirtHypervisor},
};
use async_trait::async_trait;
use common::id::VmId;
use libvirt_rpc::{Address, Credentials};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    task::{JoinHandle, JoinSet},
};

use super::{Bench, Held};
use crate::{kvm::Lab, vmlab::lacking};

/// Numbers of the calls of libvirt's protocol that change something.
const CHANGES: [u32; 21] =
    [9, 11, 29, 39, 41, 42, 48, 49, 93, 94, 125, 174, 185, 199, 204, 219, 231, 234, 237, 258, 264];
/// The protocol's main program; others number their calls anew.
const REMOTE: u32 = 0x2000_8086;
/// Of a message that answers a call.
const REPLY: u32 = 1;
/// Longest message, as libvirt itself has it.
const LONGEST: u32 = 33_554_432;

/// A host with one guest. It ends with this.
#[derive(Debug)]
pub struct LibvirtBench {
    lab: Arc<Lab>,
    between: Between,
    hypervisor: LibvirtHypervisor,
    source: VmId,
}

impl LibvirtBench {
    /// Boots one. To be called on the async runtime.
    ///
    /// # Errors
    ///
    /// What it takes.
    pub fn up() -> Result<Self, String> {
        if let Some(lacking) = lacking() {
            return Err(lacking);
        }
        Ok(Self::of(Arc::new(Lab::up())))
    }

    /// A host that is there.
    #[must_use]
    pub fn of(lab: Arc<Lab>) -> Self {
        let between = Between::open(&lab.socket());
        let host = LibvirtHost {
            name: "lab".to_owned(),
            address: Address::of_socket(&between.socket),
            credentials: Credentials::default(),
            uplinks: BTreeSet::new(),
        };
        let source = lab.virsh(&["domuuid", "g1"]).trim().parse().unwrap();
        Self { lab, between, hypervisor: LibvirtHypervisor::new(vec![host]), source }
    }

    fn names(&self, arguments: &[&str]) -> BTreeSet<String> {
        let told = self.lab.virsh(arguments);
        told.lines().map(|line| line.trim().to_owned()).filter(|name| !name.is_empty()).collect()
    }

    fn label(&self, change: &[&str]) {
        let of = ["metadata", "g1", "--config", "--live", "--uri", "urn:sinter:labels:1"];
        self.lab.virsh(&[of.as_slice(), change].concat());
    }
}

#[async_trait(?Send)]
impl Bench for LibvirtBench {
    fn adapter(&self) -> &'static str {
        "libvirt"
    }

    fn hypervisor(&self) -> &dyn Hypervisor {
        &self.hypervisor
    }

    fn source(&self) -> &VmId {
        &self.source
    }

    async fn machines(&self) -> BTreeMap<String, bool> {
        let running = self.names(&["list", "--name"]);
        let all = self.names(&["list", "--all", "--name"]);
        all.into_iter().map(|name| (name.clone(), running.contains(&name))).collect()
    }

    async fn things(&self) -> BTreeSet<String> {
        let mut things = self.names(&["list", "--all", "--name"]);
        things.extend(self.names(&["net-list", "--all", "--name"]));
        let files = fs::read_dir(self.lab.pool()).unwrap();
        things.extend(files.map(|entry| entry.unwrap().file_name().into_string().unwrap()));
        things
    }

    async fn keep(&mut self) -> VmId {
        self.label(&["--key", "labels", "--set", "<labels>gold sinter:never-touch</labels>"]);
        self.source.clone()
    }

    async fn give_free(&mut self) {
        self.label(&["--remove"]);
    }

    async fn go(&mut self) -> Held {
        self.lab.end_libvirt();
        Ok(())
    }

    async fn come_back(&mut self) {
        self.lab.start_libvirt();
    }

    fn lose_next_answer(&mut self) -> Held {
        self.between.orders.lost.store(0, Ordering::SeqCst);
        self.between.orders.lose.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn was_lost(&mut self) -> bool {
        self.between.orders.lose.store(false, Ordering::SeqCst);
        self.between.orders.lost.load(Ordering::SeqCst) > 0
    }
}

/// Stands before a socket, hands on all that both sides say, and loses the answer to the next call
/// that changes something when it is told to.
#[derive(Debug)]
struct Between {
    socket: PathBuf,
    orders: Arc<Orders>,
    _folder: TempDir,
    _stands: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Orders {
    lose: AtomicBool,
    lost: AtomicUsize,
}

impl Between {
    fn open(server: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let orders = Arc::new(Orders::default());
        let (heard, server) = (Arc::clone(&orders), server.to_owned());
        let stands = async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(hand_on(client, server.clone(), Arc::clone(&heard)));
            }
        };
        #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
        let stands = tokio::spawn(stands);
        Self { socket, orders, _folder: folder, _stands: stands }
    }
}

/// One message with its length.
async fn message(from: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let length = from.read_u32().await.ok().filter(|length| (28..=LONGEST).contains(length))?;
    let mut message = length.to_be_bytes().to_vec();
    message.resize(length as usize, 0);
    from.read_exact(&mut message[4..]).await.ok()?;
    Some(message)
}

/// A number of a message's head: program, version, call, type, serial, status.
fn head(message: &[u8], at: usize) -> u32 {
    let bytes = &message[4 + 4 * at..8 + 4 * at];
    u32::from_be_bytes(bytes.try_into().unwrap())
}

async fn hand_on(client: UnixStream, server: PathBuf, orders: Arc<Orders>) {
    let Ok(server) = UnixStream::connect(server).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let doomed = Mutex::new(None);
    let asking = async {
        while let Some(asked) = message(&mut from_client).await {
            let is_change = head(&asked, 0) == REMOTE && CHANGES.contains(&head(&asked, 2));
            if is_change && orders.lose.swap(false, Ordering::SeqCst) {
                *doomed.lock().unwrap() = Some(head(&asked, 4));
            }
            if to_server.write_all(&asked).await.is_err() {
                return;
            }
        }
    };
    let answering = async {
        while let Some(answer) = message(&mut from_server).await {
            let is_reply = head(&answer, 3) == REPLY;
            if is_reply && *doomed.lock().unwrap() == Some(head(&answer, 4)) {
                orders.lost.fetch_add(1, Ordering::SeqCst);
                return;
            }
            if to_client.write_all(&answer).await.is_err() {
                return;
            }
        }
    };
    // Whichever side ends, both do.
    tokio::select! {
        () = asking => {}
        () = answering => {}
    }
}
