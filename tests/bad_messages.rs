//! Bad input at the agents' port, of every kind we could think of: each costs only itself, is
//! counted by name, and a well-behaved agent beside it notices nothing.

use std::time::{Duration, Instant};

use aggregator::{
    guest::{GuestError, Guests, seen_of},
    listener::{Deadlines, Limits},
    policy::Policy,
    repository::{AgentState, ListState},
    window::Checkpoint,
};
use common::{
    clock::{Clock, SystemClock},
    id::VmId,
    list::{Action, ConfigurationList, Form, Listed},
    mix::{ApplicationMix, ConfigurationMix, EffectiveMix, Setup},
    pki::AgentKey,
    sample::SampleId,
    wire::{
        agent::v1::{
            ApplyReport, ApplyStage, AttachRequest, Hello, RenewRequest,
            attach_request::Message as Up, attach_response::Message as Down,
            enrollment_service_client::EnrollmentServiceClient,
        },
        types::v1,
    },
};
use lab::ingress::{
    ATTACH, Agent, Link, PATIENCE, PLENTY, Site, TOKEN, eventually, millis, sample, within,
};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::Code;

fn vm(number: u8) -> VmId {
    format!("vm-{number}").parse().unwrap()
}

/// The witness goes on as if nothing had happened.
async fn goes_on(mut witness: Link, site: Site) {
    witness.send_sample(2).await;
    witness.acknowledged(2).await;
    site.close().await;
}

// ---- single messages

/// Sends bad bytes, sees them counted under `name`, and sees the stream go on.
async fn costs_itself(name: &str, bad: Vec<u8>) {
    let site = Site::open().await;
    let witness = site.witness().await;
    let mut link = site.agent(1).await.attach(&site).await;
    link.send_sample(1).await;
    link.acknowledged(1).await;

    link.send_bytes(bad).await;
    link.asked_for_full().await;
    link.send_sample(2).await;
    link.acknowledged(2).await;

    assert_eq!(site.refused(name), 1, "{:?}", site.hub.refusals());
    goes_on(witness, site).await;
}

fn bad_sample(change: impl FnOnce(&mut v1::Sample)) -> Vec<u8> {
    let mut sample = sample(1, 2, true);
    change(&mut sample);
    AttachRequest { message: Some(Up::Sample(sample)) }.encode_to_vec()
}

#[tokio::test]
async fn bytes_that_are_no_message_cost_themselves() {
    costs_itself("undecodable_message", vec![0xff; 100]).await;
}

#[tokio::test]
async fn a_message_that_is_cut_short_costs_itself() {
    let mut bytes = bad_sample(|_| {});
    bytes.truncate(bytes.len() / 2);
    costs_itself("undecodable_message", bytes).await;
}

#[tokio::test]
async fn a_message_that_says_nothing_costs_itself() {
    costs_itself("empty_message", Vec::new()).await;
}

#[tokio::test]
async fn a_message_that_is_too_large_costs_itself() {
    costs_itself(
        "message_too_large",
        bad_sample(|sample| {
            let facts = sample.facts.as_mut().unwrap();
            facts.other.insert("x".into(), "x".repeat(2 << 20));
        }),
    )
    .await;
}

#[tokio::test]
async fn an_enum_value_nobody_knows_costs_its_message() {
    costs_itself(
        "bad_sample",
        bad_sample(|sample| {
            let service =
                v1::Service { name: "a".into(), supervisor: 1, state: 99, ..Default::default() };
            sample.services.as_mut().unwrap().upserted.push(service);
        }),
    )
    .await;
}

#[tokio::test]
async fn a_table_without_end_costs_its_message() {
    costs_itself(
        "bad_sample",
        bad_sample(|sample| {
            let keys = vec![v1::ProcessKey::default(); 70_000];
            sample.processes.as_mut().unwrap().removed = keys;
        }),
    )
    .await;
}

#[tokio::test]
async fn a_sample_from_the_past_costs_itself() {
    costs_itself("sample_from_the_past", bad_sample(|sample| sample.taken_at_unix_ms = 5)).await;
}

#[tokio::test]
async fn a_sample_from_the_future_costs_itself() {
    let ahead = SystemClock.now() + Duration::from_secs(48 * 3600);
    let bad = bad_sample(|sample| sample.taken_at_unix_ms = millis(ahead));
    costs_itself("sample_from_the_future", bad).await;
}

#[tokio::test]
async fn a_sample_of_an_epoch_to_come_costs_itself() {
    costs_itself("epoch_of_the_future", bad_sample(|sample| sample.epoch = 7)).await;
}

#[tokio::test]
async fn a_sample_of_another_machine_costs_itself() {
    let bad = bad_sample(|sample| sample.facts.as_mut().unwrap().product_uuid = "vm-9".into());
    costs_itself("claims_another_machine", bad).await;
}

#[tokio::test]
async fn a_second_hello_costs_itself() {
    let hello = Hello { protocol_version: 1, ..Hello::default() };
    costs_itself("second_hello", AttachRequest { message: Some(Up::Hello(hello)) }.encode_to_vec())
        .await;
}

#[tokio::test]
async fn a_report_nobody_can_read_costs_itself() {
    let site = Site::open().await;
    let witness = site.witness().await;
    let mut link = site.agent(1).await.attach(&site).await;

    link.send(Up::ApplyReport(ApplyReport { stage: 42, ..Default::default() })).await;
    link.send_sample(1).await;
    link.acknowledged(1).await;

    assert_eq!(site.refused("bad_report"), 1);
    goes_on(witness, site).await;
}

// ---- sequences

#[tokio::test]
async fn a_sample_that_comes_twice_is_acknowledged_twice_and_counted_once() {
    let site = Site::open().await;
    let witness = site.witness().await;
    let mut link = site.agent(1).await.attach(&site).await;
    link.send_sample(1).await;
    link.acknowledged(1).await;

    link.send_sample(1).await;
    link.acknowledged(1).await;

    assert_eq!(site.refused("duplicate_sample"), 1);
    let of_it = |seen: &&aggregator::window::Seen| seen.vm == vm(1);
    eventually("the sample to arrive", || {
        site.seen.lock().unwrap().iter().filter(of_it).count() == 1
    })
    .await;
    let kept = site.repository.unsealed().await.unwrap();
    assert_eq!(kept.iter().filter(|stored| stored.vm == vm(1)).count(), 1);
    goes_on(witness, site).await;
}

#[tokio::test]
async fn a_sample_that_is_missing_is_counted_and_a_full_one_asked_for() {
    let site = Site::open().await;
    let witness = site.witness().await;
    let mut link = site.agent(1).await.attach(&site).await;
    link.send_sample(1).await;
    link.acknowledged(1).await;

    link.send(Up::Sample(sample(1, 4, false))).await;
    link.acknowledged(4).await;
    let reason = link.asked_for_full().await;

    assert!(reason.contains("missing"), "{reason}");
    assert_eq!(site.refused("missing_sequence"), 1);
    goes_on(witness, site).await;
}

// ---- what a message claims

#[tokio::test]
async fn anothers_address_is_counted_and_the_sample_kept() {
    let site = Site::open().await;
    let witness = site.witness().await;
    let mut link = site.agent(1).await.attach(&site).await;

    // The inventory is asked for in the background: the claim is made until it is there.
    let mut sequence = 0;
    while site.refused("claims_foreign_address") == 0 {
        sequence += 1;
        let mut lie = sample(1, sequence, true);
        lie.facts.as_mut().unwrap().interfaces[0].addresses = vec!["10.0.0.9/24".into()];
        link.send(Up::Sample(lie)).await;
        link.acknowledged(sequence).await;
    }

    let kept = site.repository.unsealed().await.unwrap();
    let of_it = kept.iter().filter(|stored| stored.vm == vm(1)).count();
    assert_eq!(of_it as u64, sequence);
    goes_on(witness, site).await;
}

#[tokio::test]
async fn a_hello_in_anothers_name_ends_its_own_stream() {
    let site = Site::open().await;
    let witness = site.witness().await;
    let agent = site.agent(1).await;

    let facts = Some((&lab::ingress::facts(9)).into());
    let status = agent.refused_hello(&site, Hello { facts, ..agent.hello() }).await;

    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(site.refused("claims_another_machine"), 1);
    goes_on(witness, site).await;
}

#[tokio::test]
async fn another_version_of_the_protocol_is_refused_by_name() {
    let site = Site::open().await;
    let witness = site.witness().await;
    let agent = site.agent(1).await;
    for version in [0, 2, u32::MAX] {
        let hello = Hello { protocol_version: version, ..agent.hello() };
        assert_eq!(agent.refused_hello(&site, hello).await.code(), Code::FailedPrecondition);
    }
    assert_eq!(site.refused("wrong_version"), 3);
    goes_on(witness, site).await;
}

#[tokio::test]
async fn a_stream_that_does_not_begin_with_hello_is_refused_by_name() {
    let site = Site::open().await;
    let witness = site.witness().await;
    let mut link = site.agent(1).await.open(&site).await.unwrap();

    link.send_sample(1).await;

    assert_eq!(link.end().await.code(), Code::InvalidArgument);
    assert_eq!(site.refused("no_hello"), 1);
    goes_on(witness, site).await;
}

// ---- framing

#[tokio::test]
async fn a_frame_beyond_all_bounds_ends_its_stream_alone() {
    let site = Site::open().await;
    let witness = site.witness().await;
    let mut link = site.agent(1).await.attach(&site).await;

    link.send_bytes(vec![0; 5 << 20]).await;

    assert_eq!(link.end().await.code(), Code::OutOfRange);
    assert_eq!(site.refused("message_too_large"), 1);
    goes_on(witness, site).await;
}

#[tokio::test]
async fn a_small_message_that_unpacks_to_a_huge_one_is_not_unpacked() {
    let site = Site::open().await;
    let witness = site.witness().await;
    let agent = site.agent(1).await;
    let mut link = Link::open(agent.line(&site).await, 1, true).await.unwrap();
    link.send(Up::Hello(agent.hello())).await;

    link.send_bytes(vec![0; 64 << 20]).await;

    assert_eq!(link.end().await.code(), Code::ResourceExhausted);
    assert_eq!(site.refused("message_too_large"), 1);
    goes_on(witness, site).await;
}

#[tokio::test]
async fn packed_messages_are_read_like_plain_ones() {
    let site = Site::open().await;
    let agent = site.agent(1).await;
    let mut link = Link::open(agent.line(&site).await, 1, true).await.unwrap();
    link.send(Up::Hello(agent.hello())).await;
    link.send_sample(1).await;
    link.acknowledged(1).await;
    site.close().await;
}

#[tokio::test]
async fn a_frame_that_breaks_off_ends_its_stream_alone() {
    let site = Site::open().await;
    let witness = site.witness().await;
    let mut line = site.agent(1).await.line(&site).await;
    // Five bytes of head that promise a hundred, and four that come.
    let broken = vec![0, 0, 0, 0, 100, 1, 2, 3, 4];
    let body = tonic::body::Body::new(http_body_util::Full::new(prost::bytes::Bytes::from(broken)));
    let request = http::Request::post(format!("https://{}{ATTACH}", site.address))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .unwrap();

    let called = tower_call(&mut line, request);
    let response = within("an answer", called).await;

    assert!(response.is_ok());
    eventually("the break to be counted", || site.refused("broken_framing") == 1).await;
    goes_on(witness, site).await;
}

async fn tower_call(
    line: &mut tonic::transport::Channel,
    request: http::Request<tonic::body::Body>,
) -> Result<http::Response<tonic::body::Body>, tonic::transport::Error> {
    use tonic::codegen::Service as _;
    std::future::poll_fn(|cx| line.poll_ready(cx)).await?;
    line.call(request).await
}

#[tokio::test]
async fn who_sends_bad_messages_without_end_loses_the_stream_and_may_come_back() {
    let site = Site::open().await;
    let witness = site.witness().await;
    let agent = site.agent(1).await;
    let mut link = agent.attach(&site).await;

    for _ in 0..100 {
        link.send_bytes(vec![0xff; 10]).await;
    }

    assert_eq!(link.end().await.code(), Code::ResourceExhausted);
    assert_eq!(site.refused("too_many_bad_messages"), 1);
    let mut again = agent.attach(&site).await;
    again.send_sample(1).await;
    again.acknowledged(1).await;
    goes_on(witness, site).await;
}

// ---- identities

#[tokio::test]
async fn two_live_streams_of_one_identity_are_both_quarantined() {
    let site = Site::open().await;
    let witness = site.witness().await;
    let agent = site.agent(1).await;
    let mut first = agent.attach(&site).await;
    first.send_sample(1).await;
    first.acknowledged(1).await;

    let second = agent.refused_hello(&site, agent.hello());
    let answer = async {
        let reason = first.asked_for_full().await;
        first.send_sample(2).await;
        (reason, first.end().await)
    };
    let (second, (reason, first)) = tokio::join!(second, answer);

    assert!(reason.contains("another stream"), "{reason}");
    assert_eq!((first.code(), second.code()), (Code::PermissionDenied, Code::PermissionDenied));
    assert_eq!(site.refused("two_live_streams"), 1);
    let id = agent.response.agent_id.parse().unwrap();
    let record = site.repository.agent(&id).await.unwrap().unwrap();
    assert_eq!(record.state, AgentState::Quarantined);
    assert_eq!(agent.open(&site).await.err().unwrap().code(), Code::PermissionDenied);
    goes_on(witness, site).await;
}

#[tokio::test]
async fn an_agent_whose_line_broke_gets_its_seat_back() {
    let site = Site::open().await;
    let agent = site.agent(1).await;
    let mut first = agent.attach(&site).await;
    first.send_sample(1).await;
    first.acknowledged(1).await;

    // Said after the second stream is open: it waits, and has the seat once the first is gone.
    let mut second = agent.open(&site).await.unwrap();
    second.send(Up::Hello(agent.hello())).await;
    drop(first);
    let welcome = second.until(|message| match message {
        Down::Welcome(welcome) => Some(welcome),
        _ => None,
    });

    assert_eq!(welcome.await.last_received.unwrap().sequence, 1);
    second.send_sample(2).await;
    second.acknowledged(2).await;
    assert_eq!(site.refused("two_live_streams"), 0);
    site.close().await;
}

#[tokio::test]
async fn a_revoked_agent_loses_its_stream_and_never_comes_back() {
    let site = Site::open().await;
    let witness = site.witness().await;
    let agent = site.agent(1).await;
    let mut link = agent.attach(&site).await;
    let id = agent.response.agent_id.parse().unwrap();

    assert!(site.hub.revoke(&id, "its laptop was stolen").await.unwrap());

    let status = link.end().await;
    assert_eq!(
        (status.code(), status.message()),
        (Code::PermissionDenied, "its laptop was stolen")
    );
    assert_eq!(agent.open(&site).await.err().unwrap().code(), Code::PermissionDenied);
    let mut client = EnrollmentServiceClient::new(agent.line(&site).await);
    let request = AgentKey::generate().unwrap().request().unwrap();
    let renewed = client.renew(RenewRequest { certificate_request: request }).await;
    assert_eq!(renewed.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(site.refused("revoked_agent"), 2);
    assert!(!site.hub.revoke(&"a-nobody".parse().unwrap(), "").await.unwrap());
    goes_on(witness, site).await;
}

#[tokio::test]
async fn an_agent_renews_its_certificate_and_goes_on_with_it() {
    let site = Site::open().await;
    let agent = site.agent(1).await;
    let key = AgentKey::generate().unwrap();
    let mut client = EnrollmentServiceClient::new(agent.line(&site).await);
    let request = RenewRequest { certificate_request: key.request().unwrap() };

    let renewed = client.renew(request).await.unwrap().into_inner();

    let mut response = agent.response.clone();
    response.certificate_pem = renewed.certificate_pem;
    let renewed = Agent { key: key.key_pem(), response, ..agent };
    let mut link = renewed.attach(&site).await;
    link.send_sample(1).await;
    link.acknowledged(1).await;
    site.close().await;
}

// ---- enrolment

async fn refused_enrolment(site: &Site, number: u8, token: &str) -> Code {
    match site.enroll(number, token, |_| {}).await {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    }
}

#[tokio::test]
async fn a_token_alone_makes_nobody_an_agent() {
    let site = Site::open().await;
    let witness = site.witness().await;
    site.put_token("token-for-vm-2-alone-0123", |token| token.bound_vm = Some(vm(2))).await;
    site.put_token("token-used-up-0123456789", |token| token.uses_left = Some(0)).await;

    assert_eq!(refused_enrolment(&site, 1, "no-such-token").await, Code::Unauthenticated);
    assert_eq!(
        refused_enrolment(&site, 1, "token-used-up-0123456789").await,
        Code::Unauthenticated
    );
    assert_eq!(refused_enrolment(&site, 77, TOKEN).await, Code::PermissionDenied);
    assert_eq!(
        refused_enrolment(&site, 1, "token-for-vm-2-alone-0123").await,
        Code::PermissionDenied
    );
    let nameless = site.enroll(1, TOKEN, |facts| facts.product_uuid = None).await;
    assert_eq!(nameless.err().unwrap().code(), Code::InvalidArgument);

    assert_eq!(site.refused("bad_token"), 2);
    assert_eq!(site.refused("no_such_machine"), 1);
    assert_eq!(site.refused("token_of_another_machine"), 1);
    assert_eq!(site.refused("no_machine_uuid"), 1);
    goes_on(witness, site).await;
}

#[tokio::test]
async fn no_token_takes_a_machine_from_an_agent_that_is_there() {
    let site = Site::open().await;
    let witness = site.witness().await;
    assert_eq!(refused_enrolment(&site, 9, TOKEN).await, Code::FailedPrecondition);
    assert_eq!(site.refused("machine_has_live_agent"), 1);
    goes_on(witness, site).await;
}

#[tokio::test]
async fn a_machine_that_enrols_anew_leaves_its_former_self_behind() {
    let site = Site::open().await;
    let former = site.agent(1).await;
    let liar = site.enroll(1, TOKEN, |facts| facts.interfaces.clear()).await;
    assert_eq!(liar.err().unwrap().code(), Code::FailedPrecondition);
    assert_eq!(site.refused("replaces_unproven"), 1);

    let anew = site.agent(1).await;

    assert_ne!(anew.response.agent_id, former.response.agent_id);
    assert_eq!(former.open(&site).await.err().unwrap().code(), Code::PermissionDenied);
    anew.attach(&site).await;
    site.close().await;
}

#[tokio::test]
async fn a_ticket_lets_its_clone_in_once_and_nobody_else() {
    let site = Site::open().await;
    let plan = "plan-1".parse().unwrap();
    let ticket = site.hub.ticket(&vm(3), &plan).await.unwrap();

    assert_eq!(refused_enrolment(&site, 4, &ticket).await, Code::PermissionDenied);
    let clone = site.enroll(3, &ticket, |_| {}).await.unwrap();
    assert_eq!(refused_enrolment(&site, 3, &ticket).await, Code::Unauthenticated);

    let id = clone.response.agent_id.parse().unwrap();
    assert_eq!(site.repository.agent(&id).await.unwrap().unwrap().ephemeral, Some(plan));
    site.close().await;
}

#[tokio::test]
async fn who_fails_to_enrol_too_often_is_not_listened_to() {
    let site = Site::open().await;
    let witness = site.witness().await;
    let mut last = Code::Ok;
    for _ in 0..15 {
        last = refused_enrolment(&site, 1, "guessed-token").await;
    }
    assert_eq!(last, Code::ResourceExhausted);
    assert!(site.refused("enrolling_too_often") > 0);
    goes_on(witness, site).await;
}

// ---- connections that do not get on

fn impatient() -> Deadlines {
    Deadlines {
        handshake: Duration::from_millis(300),
        first_request: Duration::from_millis(300),
        ..Deadlines::default()
    }
}

/// Reads until the other end closes.
async fn closed(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Duration {
    let began = Instant::now();
    let mut buffer = [0; 1024];
    within("the other end to close", async {
        while !matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {}
    })
    .await;
    began.elapsed()
}

async fn tls(site: &Site) -> tokio_rustls::client::TlsStream<TcpStream> {
    use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
    let mut roots = rustls::RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(site.authority.certificate_pem().as_bytes()).unwrap();
    roots.add(root).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let stream = TcpStream::connect(site.address).await.unwrap();
    let name = ServerName::try_from(common::pki::SERVER_NAME).unwrap();
    connector.connect(name, stream).await.unwrap()
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed_in_time() {
    let site = Site::under(PLENTY, impatient()).await;
    let witness = site.witness().await;
    let mut silent = TcpStream::connect(site.address).await.unwrap();
    assert!(closed(&mut silent).await < PATIENCE / 2);
    assert_eq!(site.refused("handshake_timed_out"), 1);
    goes_on(witness, site).await;
}

#[tokio::test]
async fn a_connection_that_speaks_something_else_is_closed() {
    let site = Site::under(PLENTY, impatient()).await;
    let witness = site.witness().await;
    let mut other = TcpStream::connect(site.address).await.unwrap();
    other.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    closed(&mut other).await;
    eventually("it to be counted", || site.refused("handshake_failed") == 1).await;
    goes_on(witness, site).await;
}

#[tokio::test]
async fn a_tls_session_that_says_nothing_is_closed_in_time() {
    let site = Site::under(PLENTY, impatient()).await;
    let witness = site.witness().await;
    let mut silent = tls(&site).await;
    assert!(closed(&mut silent).await < PATIENCE / 2);
    assert_eq!(site.refused("no_request_in_time"), 1);
    goes_on(witness, site).await;
}

#[tokio::test]
async fn a_session_that_only_greets_is_closed_in_time() {
    let site = Site::under(PLENTY, impatient()).await;
    let witness = site.witness().await;
    let mut greeting = tls(&site).await;
    // The preface of HTTP/2 and empty settings.
    greeting.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    assert!(closed(&mut greeting).await < PATIENCE / 2);
    assert_eq!(site.refused("no_request_in_time"), 1);
    goes_on(witness, site).await;
}

#[tokio::test]
async fn a_stranger_does_not_stay() {
    let deadlines =
        Deadlines { without_certificate: Duration::from_millis(300), ..Deadlines::default() };
    let site = Site::under(PLENTY, deadlines).await;
    let witness = site.witness().await;
    let stranger = site.stranger().await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(stranger);
    let request = tonic_health::pb::HealthCheckRequest::default();
    let mut watch = health.watch(request).await.unwrap().into_inner();
    within("the watch to end", async { while let Ok(Some(_)) = watch.message().await {} }).await;
    goes_on(witness, site).await;
}

#[tokio::test]
async fn beyond_the_cap_connections_are_turned_away_and_places_come_free() {
    let limits = Limits { connections: 3, per_source: 3 };
    let site = Site::under(limits, Deadlines::default()).await;
    let witness = site.witness().await;
    let mut held = Vec::new();
    while site.refused("connections_at_cap") + site.refused("source_at_cap") == 0 {
        let mut stream = TcpStream::connect(site.address).await.unwrap();
        // What is turned away ends at once; what has a place stays.
        let ended = tokio::time::timeout(Duration::from_millis(100), closed(&mut stream)).await;
        if ended.is_err() {
            held.push(stream);
        }
    }
    assert!(held.len() <= 3);
    drop(held);

    let agent = within("a place to come free", async {
        loop {
            if let Ok(Ok(agent)) = tokio::time::timeout(PATIENCE, try_agent(&site)).await {
                return agent;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(agent.number, 1);
    goes_on(witness, site).await;
}

async fn try_agent(site: &Site) -> Result<Agent, ()> {
    let line = site.line(None).await.map_err(drop)?;
    drop(line);
    site.enroll(1, TOKEN, |_| {}).await.map_err(drop)
}

#[tokio::test]
async fn one_source_does_not_keep_another_out() {
    let limits = Limits { connections: 100, per_source: 1 };
    let site = Site::under(limits, Deadlines::default()).await;
    let here = TcpStream::connect(site.address).await.unwrap();
    let mut second = TcpStream::connect(site.address).await.unwrap();
    closed(&mut second).await;
    assert_eq!(site.refused("source_at_cap"), 1);
    drop(here);
    site.close().await;
}

// ---- what the good ones get

#[tokio::test]
async fn what_is_acknowledged_is_kept_and_read_again_as_it_was() {
    let site = Site::open().await;
    let mut link = site.agent(1).await.attach(&site).await;
    link.send_sample(1).await;
    link.acknowledged(1).await;

    let kept = site.repository.unsealed().await.unwrap();

    eventually("the sample to arrive", || !site.seen.lock().unwrap().is_empty()).await;
    assert_eq!(seen_of(&kept[0]).unwrap(), site.seen.lock().unwrap()[0]);
    let seen = site.hub.attached(&vm(1), PATIENCE).await.unwrap();
    assert_eq!(seen.observation.facts.hostname, "host-of-vm-1");
    let attached = site.hub.attached_agents();
    let last = attached.values().next().unwrap().last_received.unwrap();
    assert_eq!(last, SampleId { epoch: 1, sequence: 1 });
    site.close().await;
}

#[tokio::test]
async fn an_agent_hears_what_is_sealed_and_how_to_sample() {
    let site = Site::open().await;
    let agent = site.agent(1).await;
    let mut link = agent.attach(&site).await;
    let last_sealed = SampleId { epoch: 1, sequence: 5 };
    let checkpoint = Checkpoint {
        vm: vm(1),
        agent: agent.response.agent_id.parse().unwrap(),
        last_sealed,
        received_at: SystemClock.now(),
        observation: std::sync::Arc::default(),
    };

    site.hub.seal(&"w-1".parse().unwrap(), &[checkpoint]);
    let sealed = link.until(|message| match message {
        Down::Sealed(sealed) => Some(sealed),
        _ => None,
    });
    assert_eq!(sealed.await.sample.unwrap().sequence, 5);

    let policy = Policy { sample_period_ms: 777, ..Policy::default() };
    site.hub.set_sampling(&policy, &aggregator::catalogue::Catalogue::default());
    let sampling = link.until(|message| match message {
        Down::SamplingPolicy(policy) => Some(policy),
        _ => None,
    });
    assert_eq!(sampling.await.period_ms, 777);
    site.close().await;
}

fn list(generation: u64) -> ConfigurationList {
    let present = ApplicationMix::default();
    ConfigurationList {
        generation,
        vm: vm(1),
        plan: "plan-1".parse().unwrap(),
        base: present.hash(),
        expires_at: SystemClock.now() + Duration::from_secs(60),
        form: Form::Delta,
        applications: vec![Listed {
            name: "report".parse().unwrap(),
            action: Action::Add,
            settings: Default::default(),
            mix: ConfigurationMix::default(),
        }],
        baseline: None,
    }
}

fn applied(generation: u64) -> EffectiveMix {
    EffectiveMix {
        generation,
        attempted_generation: generation,
        applications: ApplicationMix([("report".parse().unwrap(), Setup::default())].into()),
        ..EffectiveMix::default()
    }
}

fn report(generation: u64, stage: ApplyStage, mix: Option<EffectiveMix>) -> Up {
    Up::ApplyReport(ApplyReport {
        generation,
        stage: stage.into(),
        reason: "port 80 is taken".into(),
        mix: mix.as_ref().map(Into::into),
        at_unix_ms: millis(SystemClock.now()),
    })
}

async fn offered(link: &mut Link, site: &Site) -> ConfigurationList {
    let signed = link
        .until(|message| match message {
            Down::ConfigurationList(signed) => Some(signed),
            _ => None,
        })
        .await;
    common::signing::open(&signed.try_into().unwrap(), &[site.list_key.public()]).unwrap()
}

#[tokio::test]
async fn a_list_that_is_applied_is_success_then_and_later() {
    let site = Site::open().await;
    let mut link = site.agent(1).await.attach(&site).await;
    let list = list(1);

    let answer = async {
        assert_eq!(offered(&mut link, &site).await, list);
        link.send(report(1, ApplyStage::Verified, None)).await;
        link.send(report(1, ApplyStage::Applied, Some(applied(1)))).await;
    };
    let (mix, ()) = tokio::join!(site.hub.apply(&list, PATIENCE), answer);

    assert_eq!(mix.unwrap(), applied(1));
    assert_eq!(site.hub.apply(&list, PATIENCE).await.unwrap(), applied(1));
    let stored = site.repository.list(&vm(1), 1).await.unwrap().unwrap();
    assert_eq!(stored.state, ListState::Applied);
    site.close().await;
}

#[tokio::test]
async fn a_list_waits_for_an_agent_that_is_away() {
    let site = Site::open().await;
    let agent = site.agent(1).await;
    let list = list(1);

    let come = async {
        // The first time it comes it hears of the list and is gone; the second time it has applied it.
        let mut link = agent.attach(&site).await;
        offered(&mut link, &site).await;
        drop(link);
        let link = agent.open(&site).await.unwrap();
        let mix = Some((&applied(1)).into());
        link.send(Up::Hello(Hello { mix, ..agent.hello() })).await;
        link
    };
    let (mix, _link) = tokio::join!(site.hub.apply(&list, PATIENCE), come);

    assert_eq!(mix.unwrap(), applied(1));
    site.close().await;
}

#[tokio::test]
async fn a_list_that_is_undone_or_stranded_says_so_with_the_agents_reason() {
    let site = Site::open().await;
    let mut link = site.agent(1).await.attach(&site).await;
    for (generation, stage) in
        [(1, ApplyStage::Refused), (2, ApplyStage::Undone), (3, ApplyStage::Stranded)]
    {
        let list = list(generation);
        let answer = async {
            offered(&mut link, &site).await;
            link.send(report(generation, stage, Some(EffectiveMix::default()))).await;
        };
        let (result, ()) = tokio::join!(site.hub.apply(&list, PATIENCE), answer);
        let error = result.unwrap_err();
        assert!(error.to_string().ends_with("port 80 is taken"), "{error}");
        assert_eq!(matches!(error, GuestError::Stranded { .. }), stage == ApplyStage::Stranded);
        // Asked again, the answer is the same, and the agent is not asked.
        assert!(site.hub.apply(&list, PATIENCE).await.is_err());
    }
    site.close().await;
}

#[tokio::test]
async fn an_agent_that_does_not_answer_is_silent() {
    let site = Site::open().await;
    let _link = site.agent(1).await.attach(&site).await;
    let result = site.hub.apply(&list(1), Duration::from_millis(200)).await;
    assert!(matches!(result, Err(GuestError::Silent { .. })));
    let attached = site.hub.attached(&vm(2), Duration::from_millis(50)).await;
    assert!(matches!(attached, Err(GuestError::Silent { .. })));
    site.close().await;
}

#[tokio::test]
async fn a_machine_that_is_forgotten_has_no_agent_any_more() {
    let site = Site::open().await;
    let agent = site.agent(1).await;
    let mut link = agent.attach(&site).await;

    site.hub.forget(&vm(1)).await.unwrap();
    site.hub.forget(&vm(1)).await.unwrap();

    assert_eq!(link.end().await.code(), Code::PermissionDenied);
    assert_eq!(agent.open(&site).await.err().unwrap().code(), Code::PermissionDenied);
    assert!(site.hub.last_seen(&vm(1)).await.is_none());
    site.close().await;
}
