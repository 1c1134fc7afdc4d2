//! An aggregator of the least kind, in this process, and a real agent beside it.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use common::{
    clock::{Clock as _, SystemClock},
    delta,
    list::{ConfigurationList, Form, changes},
    mix::{ApplicationMix, EffectiveMix},
    pki::{self, Authority},
    sample::{Observation, Sample, SampleId},
    signing::ListKey,
    task::Tasks,
    wire::{
        PROTOCOL_VERSION,
        agent::v1::{
            ApplyReport, ApplyStage, AttachRequest, AttachResponse, EnrollRequest, EnrollResponse,
            Hello, Received, RenewRequest, RenewResponse, SamplingPolicy, Sealed, Welcome,
            agent_link_service_server::{AgentLinkService, AgentLinkServiceServer},
            attach_request::Message as Up,
            attach_response::Message as Down,
            enrollment_service_server::{EnrollmentService, EnrollmentServiceServer},
        },
    },
};
use tokio::{net::TcpListener, sync::mpsc, time};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status, Streaming,
    codec::CompressionEncoding,
    transport::{Identity, Server, ServerTlsConfig},
};

/// The machine every agent here lives in.
pub(crate) const VM: &str = "2f1ab9d0-0000-4000-8000-000000000001";
/// Wide: samples are taken ten times a second here, and by a build that nobody made quick.
const BUDGET: &str = "[budget]\ncpu_percent = 100\nmemory_mib = 1024\n";
/// Its join token.
pub(crate) const TOKEN: &str = "token-1";
const DAY: Duration = Duration::from_secs(86_400);

/// What the aggregator knows.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Every sample that is durable here, by id.
    pub(crate) samples: BTreeMap<SampleId, Sample>,
    /// Samples that came though they were durable already.
    pub(crate) duplicates: u64,
    /// Samples that amend what is not known here.
    pub(crate) unusable: u64,
    /// What the guest looks like.
    pub(crate) observation: Option<Observation>,
    /// Every hello.
    pub(crate) hellos: Vec<Hello>,
    /// Every report.
    pub(crate) reports: Vec<ApplyReport>,
    /// Tokens that were tried.
    pub(crate) tokens: Vec<String>,
    /// The last sample that is sealed.
    pub(crate) sealed: Option<SampleId>,
    /// Certificates that were renewed.
    pub(crate) renewed: u64,
    line: Option<mpsc::Sender<Result<AttachResponse, Status>>>,
    cut: CancellationToken,
    last: Option<SampleId>,
}

/// How this aggregator is.
#[derive(Debug, Clone)]
pub(crate) struct Ways {
    /// How long its certificates last.
    pub(crate) lifetime: Duration,
    /// Time between two samples.
    pub(crate) period_ms: u32,
    /// Samples are sealed at once.
    pub(crate) seals: bool,
}

impl Default for Ways {
    fn default() -> Self {
        Self { lifetime: DAY, period_ms: 100, seals: true }
    }
}

/// The aggregator.
#[derive(Clone)]
pub(crate) struct Aggregator {
    known: Arc<Mutex<Known>>,
    authority: Arc<Authority>,
    key: Arc<ListKey>,
    ways: Ways,
    pub(crate) address: SocketAddr,
    tasks: Arc<Tasks>,
}

impl Aggregator {
    pub(crate) async fn start(ways: Ways) -> Self {
        let authority = Arc::new(Authority::create(SystemClock.now()).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let aggregator = Self {
            known: Arc::default(),
            key: Arc::new(ListKey::generate().unwrap()),
            ways,
            address: listener.local_addr().unwrap(),
            tasks: Arc::default(),
            authority,
        };
        let link = AgentLinkServiceServer::new(aggregator.clone())
            .send_compressed(CompressionEncoding::Zstd)
            .accept_compressed(CompressionEncoding::Zstd);
        let serve = Server::builder()
            .tls_config(aggregator.tls())
            .unwrap()
            .add_service(EnrollmentServiceServer::new(aggregator.clone()))
            .add_service(link)
            .serve_with_incoming(TcpListenerStream::new(listener));
        aggregator.tasks.spawn("aggregator", serve);
        aggregator
    }

    fn tls(&self) -> ServerTlsConfig {
        let issued = self.authority.issue_server(SystemClock.now(), DAY).unwrap();
        let root = self.authority.certificate_pem();
        let chain = format!("{}{root}", issued.certificate_pem);
        ServerTlsConfig::new()
            .identity(Identity::from_pem(chain, issued.key_pem.unwrap()))
            .client_ca_root(tonic::transport::Certificate::from_pem(root))
            .client_auth_optional(true)
    }

    pub(crate) fn fingerprint(&self) -> String {
        pki::fingerprint_of_pem(self.authority.certificate_pem()).unwrap()
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }

    /// Cuts the open stream.
    pub(crate) fn cut(&self) {
        let mut known = self.known();
        known.line = None;
        known.cut.cancel();
    }

    /// Offers a list on the open stream; `false` if there is none.
    pub(crate) async fn offer(&self, list: &ConfigurationList) -> bool {
        let signed = self.key.sign(list).unwrap();
        let line = self.known().line.clone();
        let Some(line) = line else { return false };
        let message = Down::ConfigurationList((&signed).into());
        line.send(Ok(down(message))).await.is_ok()
    }

    /// Waits until `is_so`.
    pub(crate) async fn wait(&self, what: &str, is_so: impl Fn(&Known) -> bool) {
        let until = Instant::now() + Duration::from_secs(40);
        while !is_so(&self.known()) {
            assert!(Instant::now() < until, "waited for: {what}; known: {:?}", self.summary());
            time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn summary(&self) -> String {
        let known = self.known();
        let reports: Vec<_> =
            known.reports.iter().map(|r| (r.generation, r.stage, &r.reason)).collect();
        format!(
            "{} samples, {} hellos, reports {reports:?}",
            known.samples.len(),
            known.hellos.len()
        )
    }

    fn issue(&self, request: &[u8]) -> String {
        let agent = "a-1".parse().unwrap();
        let now = SystemClock.now();
        self.authority
            .issue_agent(request, &agent, now, self.ways.lifetime)
            .unwrap()
            .certificate_pem
    }

    fn welcome(&self) -> Welcome {
        let known = self.known();
        Welcome {
            protocol_version: PROTOCOL_VERSION,
            sampling_policy: Some(SamplingPolicy {
                period_ms: self.ways.period_ms,
                full_every: 20,
                rules: Vec::new(),
            }),
            last_received: known.last.as_ref().map(Into::into),
            last_sealed: known.sealed.as_ref().map(Into::into),
            now_unix_ms: i64::try_from(SystemClock.now().as_millis()).unwrap(),
        }
    }

    /// Takes a sample in, as durable.
    fn take(&self, sample: Sample) -> Vec<Down> {
        let mut known = self.known();
        let id = sample.id;
        if known.samples.contains_key(&id) {
            known.duplicates += 1;
        } else {
            let follows = known
                .last
                .is_some_and(|last| last.epoch == id.epoch && last.sequence + 1 == id.sequence);
            let mut observation = known.observation.take().filter(|_| follows || sample.full);
            if delta::apply(&mut observation, &sample).is_err() {
                known.unusable += 1;
            }
            known.observation = observation;
            known.samples.insert(id, sample);
            known.last = known.last.max(Some(id));
        }
        let mut told = vec![Down::Received(Received { sample: Some((&id).into()) })];
        if self.ways.seals {
            known.sealed = known.sealed.max(Some(id));
            told.push(Down::Sealed(Sealed { sample: Some((&id).into()), window: "w-1".into() }));
        }
        told
    }

    async fn converse(
        &self,
        mut up: Streaming<AttachRequest>,
        line: mpsc::Sender<Result<AttachResponse, Status>>,
        cut: CancellationToken,
    ) {
        loop {
            let message = tokio::select! {
                message = up.message() => message,
                () = cut.cancelled() => return,
            };
            let Ok(Some(AttachRequest { message: Some(message) })) = message else { return };
            match message {
                Up::Hello(_) => panic!("second hello"),
                Up::ApplyReport(report) => self.known().reports.push(report),
                Up::Sample(sample) => {
                    for told in self.take(sample.try_into().unwrap()) {
                        if line.send(Ok(down(told))).await.is_err() {
                            return;
                        }
                    }
                }
            }
        }
    }
}

fn down(message: Down) -> AttachResponse {
    AttachResponse { message: Some(message) }
}

#[tonic::async_trait]
impl EnrollmentService for Aggregator {
    async fn enroll(
        &self,
        request: Request<EnrollRequest>,
    ) -> Result<Response<EnrollResponse>, Status> {
        let EnrollRequest { token, certificate_request, facts } = request.into_inner();
        self.known().tokens.push(token.clone());
        if token != TOKEN {
            return Err(Status::unauthenticated("token is unknown"));
        }
        Ok(Response::new(EnrollResponse {
            agent_id: "a-1".into(),
            certificate_pem: self.issue(&certificate_request),
            authority_pem: self.authority.certificate_pem().into(),
            list_keys: vec![self.key.public().to_bytes().to_vec()],
            vm: facts.unwrap().product_uuid,
        }))
    }

    async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<RenewResponse>, Status> {
        assert!(request.peer_certs().is_some(), "a renewal shows the former certificate");
        self.known().renewed += 1;
        Ok(Response::new(RenewResponse {
            certificate_pem: self.issue(&request.into_inner().certificate_request),
            authority_pem: self.authority.certificate_pem().into(),
            list_keys: vec![self.key.public().to_bytes().to_vec()],
        }))
    }
}

#[tonic::async_trait]
impl AgentLinkService for Aggregator {
    type AttachStream = ReceiverStream<Result<AttachResponse, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        if request.peer_certs().is_none() {
            return Err(Status::unauthenticated("no certificate"));
        }
        let mut up = request.into_inner();
        let (line, told) = mpsc::channel(64);
        let aggregator = self.clone();
        self.tasks.spawn("stream", async move {
            let Ok(Some(AttachRequest { message: Some(Up::Hello(hello)) })) = up.message().await
            else {
                panic!("no hello");
            };
            let welcome = down(Down::Welcome(aggregator.welcome()));
            if line.send(Ok(welcome)).await.is_err() {
                return Ok::<(), Infallible>(());
            }
            let cut = CancellationToken::new();
            {
                let mut known = aggregator.known();
                known.hellos.push(hello);
                known.line = Some(line.clone());
                known.cut = cut.clone();
            }
            aggregator.converse(up, line, cut).await;
            Ok(())
        });
        Ok(Response::new(ReceiverStream::new(told)))
    }
}

/// A guest's folder, and the agent in it.
pub(crate) struct Guest {
    pub(crate) folder: tempfile::TempDir,
    agent: Option<Child>,
}

impl Guest {
    /// With these applications, which lists may change; none means that it only observes.
    pub(crate) fn new(aggregator: &Aggregator, applications: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let guest = Self { folder, agent: None };
        fs::create_dir(guest.path("dmi")).unwrap();
        fs::write(guest.path("dmi/product_uuid"), VM).unwrap();
        fs::write(guest.path("machine-id"), "0123456789abcdef0123456789abcdef").unwrap();
        fs::write(guest.path("applications.toml"), applications).unwrap();
        let text = format!(
            "aggregator = \"{}\"\nauthority_fingerprint = \"{}\"\ntoken = \"{TOKEN}\"\n\
             folder = {:?}\napplications = {:?}\napply = {}\ndmi = {:?}\nmachine_id = {:?}\n\
             services = \"agent\"\ncgroup = {:?}\n{BUDGET}",
            aggregator.address,
            aggregator.fingerprint(),
            guest.path("state"),
            guest.path("applications.toml"),
            !applications.is_empty(),
            guest.path("dmi"),
            guest.path("machine-id"),
            guest.path("no-groups-here"),
        );
        fs::write(guest.path("agent.toml"), text).unwrap();
        guest
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn start(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        let agent = Command::new(env!("CARGO_BIN_EXE_sinter-agent"))
            .args(["run", "--config"])
            .arg(self.path("agent.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.agent = Some(agent.unwrap());
    }

    /// Ends the agent as a crash does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().unwrap();
            agent.wait().unwrap();
        }
    }

    /// Tells the agent to end, and says whether it ended well.
    pub(crate) fn terminate(&mut self) -> bool {
        let mut agent = self.agent.take().unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(agent.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        agent.wait().unwrap().success()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Drop for Guest {
    #[expect(clippy::print_stdout, reason = "the agent's log says why a test failed")]
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().rev().take(40).collect();
            for line in lines.into_iter().rev() {
                println!("agent: {line}");
            }
        }
    }
}

/// Processes of the applications of one guest, told by an argument that nothing else has.
pub(crate) struct Applications(pub(crate) Vec<&'static str>, pub(crate) String);

impl Applications {
    /// Numbers of the living processes by their mark.
    pub(crate) fn running(&self) -> BTreeMap<String, BTreeSet<i32>> {
        let mut found: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            for mark in &self.0 {
                let argument = format!("sleep {}{mark}", self.1);
                if line.trim() == format!("/bin/{argument}") && !is_dead(&entry.path()) {
                    found.entry((*mark).to_owned()).or_default().insert(pid);
                }
            }
        }
        found
    }

    pub(crate) fn kill(&self) {
        for pid in self.running().into_values().flatten() {
            let pid = nix::unistd::Pid::from_raw(pid);
            let killed = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            assert!(matches!(killed, Ok(()) | Err(nix::errno::Errno::ESRCH)));
        }
    }
}

impl Drop for Applications {
    fn drop(&mut self) {
        self.kill();
    }
}

fn is_dead(process: &Path) -> bool {
    let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z') || rest.starts_with('X'))
}

/// A list that leads from one mix to another.
pub(crate) fn list(
    generation: u64,
    from: &ApplicationMix,
    to: &ApplicationMix,
) -> ConfigurationList {
    ConfigurationList {
        generation,
        vm: VM.parse().unwrap(),
        plan: "plan-1".parse().unwrap(),
        base: from.hash(),
        expires_at: SystemClock.now() + DAY,
        form: Form::Delta,
        applications: changes(from, to),
        baseline: None,
    }
}

/// The mix a report or hello tells.
pub(crate) fn told(mix: Option<common::wire::types::v1::EffectiveMix>) -> EffectiveMix {
    mix.unwrap().try_into().unwrap()
}

/// Whether a report says that a list ended so.
pub(crate) fn is(report: &ApplyReport, generation: u64, stage: ApplyStage) -> bool {
    report.generation == generation && report.stage == i32::from(stage)
}
