//! What the tests of the agents' port stand on: a hub behind a real port, a hypervisor that only
//! counts its machines, and agents that may be as bad as they like.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    time::Duration,
};

use aggregator::{
    catalogue::Catalogue,
    guest::{AgentHub, HubSetup, token_hash},
    hypervisor::{
        Allocation, CloneOrder, Hypervisor, HypervisorError, Inventory, Machine, Nic, Power,
        ProbeOrder, ProbeResult, Telemetry,
    },
    listener::{self, Certificates, Deadlines, Limits, Port, Terms},
    policy::Policy,
    repository::{Repository, TokenRecord},
    window::Seen,
};
use async_trait::async_trait;
use common::{
    clock::{Clock, SystemClock, Timestamp},
    delta::{self, Stamp},
    id::{NetworkId, VmId},
    mix::EffectiveMix,
    pki::{AgentKey, Authority, Role, SERVER_NAME},
    sample::{Facts, Interface, Observation, SampleId},
    signing::ListKey,
    wire::{
        agent::v1::{
            AttachRequest, AttachResponse, EnrollRequest, EnrollResponse, Hello,
            attach_request::Message as Up, attach_response::Message as Down,
            enrollment_service_client::EnrollmentServiceClient,
        },
        types::v1,
    },
};
use prost::Message as _;
use tokio::{sync::mpsc, task::JoinSet, time};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Status, Streaming,
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

pub const TOKEN: &str = "token-of-the-whole-fleet-0123456789";
/// No wait of these tests is meant to last this long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Machines `vm-1` to `vm-9`, with the addresses 10.0.0.1 to 10.0.0.9.
pub struct Machines;

fn nobody_asks() -> HypervisorError {
    HypervisorError::Refused { reason: "this one has only an inventory".into() }
}

pub fn mac(number: u8) -> String {
    format!("02:00:00:00:00:0{number}")
}

#[async_trait]
impl Hypervisor for Machines {
    fn name(&self) -> &str {
        "machines"
    }

    async fn inventory(&self) -> Result<Inventory, HypervisorError> {
        let machine = |number: u8| {
            let id: VmId = format!("vm-{number}").parse().unwrap();
            let nic = Nic {
                mac: mac(number),
                network: None,
                kind: "bridge".into(),
                addresses: vec![format!("10.0.0.{number}/24").parse().unwrap()],
                up: true,
            };
            let machine = Machine {
                id: id.clone(),
                name: id.as_str().to_owned(),
                host: "host-1".parse().unwrap(),
                power: Power::On,
                allocation: Allocation::default(),
                nics: vec![nic],
                volumes: Vec::new(),
                cloned_from: None,
                plan: None,
                labels: BTreeSet::new(),
            };
            (id, machine)
        };
        Ok(Inventory { machines: (1..10).map(machine).collect(), ..Inventory::default() })
    }

    async fn telemetry(&self) -> Result<BTreeMap<VmId, Telemetry>, HypervisorError> {
        Err(nobody_asks())
    }

    async fn clone_vm(&self, _: &CloneOrder) -> Result<(), HypervisorError> {
        Err(nobody_asks())
    }

    async fn configure(&self, _: &VmId, _: &Allocation) -> Result<(), HypervisorError> {
        Err(nobody_asks())
    }

    async fn start(&self, _: &VmId) -> Result<(), HypervisorError> {
        Err(nobody_asks())
    }

    async fn stop(&self, _: &VmId, _: Duration) -> Result<(), HypervisorError> {
        Err(nobody_asks())
    }

    async fn isolate(&self, _: &VmId, _: &NetworkId) -> Result<(), HypervisorError> {
        Err(nobody_asks())
    }

    async fn probe(
        &self,
        _: &NetworkId,
        _: &ProbeOrder,
    ) -> Result<Vec<ProbeResult>, HypervisorError> {
        Err(nobody_asks())
    }

    async fn promote(&self, _: &VmId, _: &VmId) -> Result<(), HypervisorError> {
        Err(nobody_asks())
    }

    async fn restore(&self, _: &VmId, _: &VmId) -> Result<(), HypervisorError> {
        Err(nobody_asks())
    }

    async fn remove(&self, _: &VmId) -> Result<(), HypervisorError> {
        Err(nobody_asks())
    }
}

/// A hub behind a real port.
pub struct Site {
    pub hub: AgentHub,
    pub repository: Repository,
    pub authority: Arc<Authority>,
    pub list_key: Arc<ListKey>,
    pub address: SocketAddr,
    pub seen: Arc<Mutex<Vec<Seen>>>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    _folder: tempfile::TempDir,
}

pub const PLENTY: Limits = Limits { connections: 200, per_source: 200 };

impl Site {
    pub async fn open() -> Self {
        Self::under(PLENTY, Deadlines::default()).await
    }

    pub async fn under(limits: Limits, deadlines: Deadlines) -> Self {
        Self::of(Certificates::Optional, limits, deadlines).await
    }

    pub async fn of(certificates: Certificates, limits: Limits, deadlines: Deadlines) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::open(folder.path()).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let authority = Arc::new(Authority::create(clock.now()).unwrap());
        let list_key = Arc::new(ListKey::generate().unwrap());
        let (hub, mut receiver) = AgentHub::new(HubSetup {
            repository: repository.clone(),
            authority: Arc::clone(&authority),
            list_key: Arc::clone(&list_key),
            clock: Arc::clone(&clock),
            hypervisor: Arc::new(Machines),
            policy: Policy { sample_period_ms: 200, ..Policy::default() },
            catalogue: Catalogue::default(),
        });
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let stop = CancellationToken::new();
        let address = socket.local_addr().unwrap();
        let port = Port { sockets: vec![socket], certificates, routes: hub.routes(), limits };
        // The streams of these tests never end by themselves: each would wait the whole grace.
        let deadlines = Deadlines { grace: Duration::from_millis(50), ..deadlines };
        let terms = Terms { deadlines, ..hub.terms() };
        let serving =
            listener::serve_under(terms, port, Arc::clone(&authority), clock, stop.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { serving.await.unwrap() });
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&seen);
        tasks.spawn(async move {
            while let Some(one) = receiver.recv().await {
                into.lock().unwrap().push(one);
            }
        });
        let site = Self {
            hub,
            repository,
            authority,
            list_key,
            address,
            seen,
            stop,
            tasks,
            _folder: folder,
        };
        site.put_token(TOKEN, |_| {}).await;
        site
    }

    pub async fn put_token(&self, token: &str, change: impl FnOnce(&mut TokenRecord)) {
        let now = SystemClock.now();
        let mut record = TokenRecord {
            name: token.to_owned(),
            hash: token_hash(token),
            created_by: "test".into(),
            created_at: now,
            expires_at: now + Duration::from_secs(600),
            uses_left: None,
            bound_vm: None,
            plan: None,
            revoked: false,
        };
        change(&mut record);
        self.repository.put_token(&record).await.unwrap();
    }

    /// How often something was counted under a name, for any agent or none.
    pub fn refused(&self, name: &str) -> u64 {
        let refusals = self.hub.refusals();
        refusals.iter().filter(|refusal| refusal.name == name).map(|refusal| refusal.count).sum()
    }

    /// A line without a certificate.
    pub async fn stranger(&self) -> Channel {
        self.line(None).await.unwrap()
    }

    pub async fn user(&self, role: Role) -> Channel {
        let issued = self.authority.issue_user(role, "ann", SystemClock.now(), PATIENCE).unwrap();
        let key = issued.key_pem.unwrap();
        self.line(Some((&issued.certificate_pem, &key))).await.unwrap()
    }

    pub async fn line(
        &self,
        identity: Option<(&str, &str)>,
    ) -> Result<Channel, tonic::transport::Error> {
        let mut tls = ClientTlsConfig::new()
            .domain_name(SERVER_NAME)
            .ca_certificate(Certificate::from_pem(self.authority.certificate_pem()));
        if let Some((certificate, key)) = identity {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).unwrap();
        endpoint.tls_config(tls)?.connect_timeout(PATIENCE).connect().await
    }

    pub async fn enroll(
        &self,
        number: u8,
        token: &str,
        change: impl FnOnce(&mut Facts),
    ) -> Result<Agent, Status> {
        let key = AgentKey::generate().unwrap();
        let mut facts = facts(number);
        change(&mut facts);
        let request = EnrollRequest {
            token: token.to_owned(),
            certificate_request: key.request().unwrap(),
            facts: Some((&facts).into()),
        };
        let mut client = EnrollmentServiceClient::new(self.stranger().await);
        let response = client.enroll(request).await?.into_inner();
        Ok(Agent { number, key: key.key_pem(), response })
    }

    /// An agent of `vm-NUMBER`, enrolled by the fleet's token.
    pub async fn agent(&self, number: u8) -> Agent {
        self.enroll(number, TOKEN, |_| {}).await.unwrap()
    }

    /// An agent that does all as it should, to show that nobody else's trouble reaches it.
    pub async fn witness(&self) -> Link {
        let mut link = self.agent(9).await.attach(self).await;
        link.send_sample(1).await;
        link.acknowledged(1).await;
        link
    }

    pub async fn close(mut self) {
        self.stop.cancel();
        drop(self.hub);
        while self.tasks.join_next().await.is_some() {}
    }
}

pub fn facts(number: u8) -> Facts {
    Facts {
        product_uuid: Some(format!("vm-{number}")),
        hostname: format!("host-of-vm-{number}"),
        agent_version: "0.1.0".into(),
        interfaces: vec![Interface {
            name: "eth0".into(),
            mac: Some(mac(number)),
            addresses: vec![format!("10.0.0.{number}/24").parse().unwrap()],
            up: true,
        }],
        ..Facts::default()
    }
}

/// An enrolled agent.
#[derive(Clone)]
pub struct Agent {
    pub number: u8,
    pub key: String,
    pub response: EnrollResponse,
}

impl Agent {
    pub async fn line(&self, site: &Site) -> Channel {
        site.line(Some((&self.response.certificate_pem, &self.key))).await.unwrap()
    }

    pub fn hello(&self) -> Hello {
        Hello {
            protocol_version: 1,
            epoch: 1,
            facts: Some((&facts(self.number)).into()),
            mix: Some((&EffectiveMix::default()).into()),
            spooled_samples: 0,
        }
    }

    /// A stream with nothing said on it.
    pub async fn open(&self, site: &Site) -> Result<Link, Status> {
        Link::open(self.line(site).await, self.number, false).await
    }

    /// A stream after hello and welcome.
    pub async fn attach(&self, site: &Site) -> Link {
        let mut link = self.open(site).await.unwrap();
        link.send(Up::Hello(self.hello())).await;
        match link.next().await {
            Ok(Some(Down::Welcome(_))) => link,
            other => panic!("no welcome but {other:?}"),
        }
    }

    /// What a stream ends with that begins with `hello`.
    pub async fn refused_hello(&self, site: &Site, hello: Hello) -> Status {
        let mut link = self.open(site).await.unwrap();
        link.send(Up::Hello(hello)).await;
        link.end().await
    }
}

/// The client's end of a stream, over a codec that sends whatever bytes it is given.
pub struct Link {
    pub number: u8,
    pub up: mpsc::Sender<Vec<u8>>,
    down: Streaming<AttachResponse>,
}

#[derive(Clone, Copy, Default)]
pub struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = AttachResponse;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        prost::bytes::BufMut::put_slice(dst, &item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = AttachResponse;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<AttachResponse>, Status> {
        AttachResponse::decode(src).map(Some).map_err(|cause| Status::internal(cause.to_string()))
    }
}

pub const ATTACH: &str = "/sinter.agent.v1.AgentLinkService/Attach";

impl Link {
    pub async fn open(line: Channel, number: u8, packed: bool) -> Result<Self, Status> {
        let (up, messages) = mpsc::channel(16);
        let mut grpc = tonic::client::Grpc::new(line);
        if packed {
            grpc = grpc
                .send_compressed(CompressionEncoding::Zstd)
                .accept_compressed(CompressionEncoding::Zstd);
        }
        grpc.ready().await.unwrap();
        let request = tonic::Request::new(ReceiverStream::new(messages));
        let response = grpc.streaming(request, ATTACH.parse().unwrap(), Raw).await?;
        Ok(Self { number, up, down: response.into_inner() })
    }

    pub async fn send_bytes(&self, bytes: Vec<u8>) {
        // A stream that has ended takes nothing; the test sees that by how it ended.
        let _ended = self.up.send(bytes).await;
    }

    pub async fn send(&self, message: Up) {
        self.send_bytes(AttachRequest { message: Some(message) }.encode_to_vec()).await;
    }

    pub fn sample(&self, sequence: u64) -> v1::Sample {
        sample(self.number, sequence, true)
    }

    pub async fn send_sample(&self, sequence: u64) {
        self.send(Up::Sample(self.sample(sequence))).await;
    }

    /// The next message; `Err` is how the stream ended, `None` that it ended well.
    pub async fn next(&mut self) -> Result<Option<Down>, Status> {
        let next = within("a message", self.down.message()).await?;
        Ok(next.map(|response| response.message.unwrap()))
    }

    /// Waits for a message that `pick` likes and passes over the others.
    pub async fn until<T>(&mut self, pick: impl Fn(Down) -> Option<T>) -> T {
        loop {
            match self.next().await {
                Ok(Some(message)) => {
                    if let Some(picked) = pick(message) {
                        return picked;
                    }
                }
                other => panic!("stream ended while it was waited: {other:?}"),
            }
        }
    }

    pub async fn acknowledged(&mut self, sequence: u64) {
        self.until(|message| match message {
            Down::Received(received) => {
                (received.sample.unwrap().sequence == sequence).then_some(())
            }
            _ => None,
        })
        .await;
    }

    pub async fn asked_for_full(&mut self) -> String {
        self.until(|message| match message {
            Down::Resynchronise(asked) => Some(asked.reason),
            _ => None,
        })
        .await
    }

    /// How the stream ends.
    pub async fn end(&mut self) -> Status {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok("stream ended"),
                Err(status) => return status,
            }
        }
    }
}

/// A sample of `vm-NUMBER`, taken now.
pub fn sample(number: u8, sequence: u64, full: bool) -> v1::Sample {
    let observation = Observation { facts: facts(number), ..Observation::default() };
    let before = (!full).then_some(&observation);
    let id = SampleId { epoch: 1, sequence };
    let stamp = Stamp { id, taken_at: SystemClock.now(), ..Stamp::default() };
    (&delta::between(before, &observation, stamp)).into()
}

pub fn millis(at: Timestamp) -> i64 {
    i64::try_from(at.as_millis()).unwrap()
}

pub async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    match time::timeout(PATIENCE, wait).await {
        Ok(done) => done,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// Looks again and again until it is so.
pub async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    within(what, async {
        while !is_so() {
            time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
