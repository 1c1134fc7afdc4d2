//! A hub behind a real port.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    time::Duration,
};

use aggregator::{
    catalogue::Catalogue,
    guest::{AgentHub, HubSetup, token_hash},
    listener::{self, Certificates, Deadlines, Limits, Port, Terms},
    policy::Policy,
    repository::{Repository, TokenRecord},
    window::Seen,
};
use common::{
    clock::{Clock, SystemClock},
    pki::{AgentKey, Authority, Role, SERVER_NAME},
    sample::Facts,
    signing::ListKey,
    wire::agent::v1::{EnrollRequest, enrollment_service_client::EnrollmentServiceClient},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::{Agent, Link, Machines, PATIENCE, TOKEN, facts};

/// A hub behind a real port.
pub struct Site {
    /// The hub.
    pub hub: AgentHub,
    /// What it remembers.
    pub repository: Repository,
    /// Who issues its certificates.
    pub authority: Arc<Authority>,
    /// What it signs lists with.
    pub list_key: Arc<ListKey>,
    /// Where it listens.
    pub address: SocketAddr,
    /// The samples that it took.
    pub seen: Arc<Mutex<Vec<Seen>>>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    _folder: tempfile::TempDir,
}

/// Room that nothing of these tests fills.
pub const PLENTY: Limits = Limits { connections: 200, per_source: 200 };

impl Site {
    /// With room, and the usual deadlines.
    pub async fn open() -> Self {
        Self::under(PLENTY, Deadlines::default()).await
    }

    /// Under those limits.
    pub async fn under(limits: Limits, deadlines: Deadlines) -> Self {
        Self::of(Certificates::Optional, limits, deadlines).await
    }

    /// The same, for agents whose certificates are wanted so.
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

    /// Puts a token in that the whole fleet may use, as `change` has it.
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

    /// A line of a user in that role.
    pub async fn user(&self, role: Role) -> Channel {
        let issued = self.authority.issue_user(role, "ann", SystemClock.now(), PATIENCE).unwrap();
        let key = issued.key_pem.unwrap();
        self.line(Some((&issued.certificate_pem, &key))).await.unwrap()
    }

    /// A line with that certificate and key.
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

    /// Enrols `vm-NUMBER`, with its facts as `change` has them.
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

    /// Ends it, and waits for all of it.
    pub async fn close(mut self) {
        self.stop.cancel();
        drop(self.hub);
        while self.tasks.join_next().await.is_some() {}
    }
}
