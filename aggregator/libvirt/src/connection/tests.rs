//! Against a server that does what it is told to, and not what it should.

use tokio::io::{DuplexStream, duplex, split};

use super::*;
use crate::{error::code, procedure::HOSTNAME};

fn connected() -> (Connection, DuplexStream, broadcast::Receiver<Event>) {
    let (ours, theirs) = duplex(1 << 20);
    let (reader, writer) = split(ours);
    let (sender, receiver) = broadcast::channel(8);
    let halves: Halves = (Box::new(reader), Box::new(writer));
    (Connection::over("libvirt at test".to_owned(), halves, sender), theirs, receiver)
}

async fn heard(server: &mut DuplexStream) -> Frame {
    Frame::read(server).await.unwrap().unwrap()
}

async fn say(server: &mut DuplexStream, frame: Frame) {
    server.write_all(&frame.encode().unwrap()).await.unwrap();
}

fn reply(to: &Frame, is_error: bool, body: &Encoder) -> Frame {
    Frame { kind: Kind::Reply, is_error, body: body.bytes().to_vec(), ..to.clone() }
}

#[tokio::test]
async fn answers_find_their_calls_in_any_order() {
    let (connection, mut server, _events) = connected();
    let nothing = Encoder::new();
    let ask = || connection.call(HOSTNAME, &nothing);
    let serve = async {
        let (first, second) = (heard(&mut server).await, heard(&mut server).await);
        say(&mut server, reply(&second, false, &Encoder::new().u32(2))).await;
        say(&mut server, reply(&first, false, &Encoder::new().u32(1))).await;
        (first.serial, second.serial)
    };
    let (one, two, serials) = tokio::join!(ask(), ask(), serve);
    assert_eq!((one.unwrap(), two.unwrap()), (vec![0, 0, 0, 1], vec![0, 0, 0, 2]));
    assert_ne!(serials.0, serials.1);
}

#[tokio::test]
async fn a_refusal_is_told_from_a_connection_that_ends() {
    let (connection, mut server, _events) = connected();
    let nothing = Encoder::new();
    let refusal = Encoder::new().i32(code::NO_DOMAIN).i32(10).u32(1).text("no domain");
    let serve = async {
        let call = heard(&mut server).await;
        say(&mut server, reply(&call, true, &refusal)).await;
    };
    let (answer, ()) = tokio::join!(connection.call(HOSTNAME, &nothing), serve);
    assert!(answer.unwrap_err().is(&[code::NO_DOMAIN]));

    let serve = async {
        heard(&mut server).await;
        drop(server);
    };
    let (answer, ()) = tokio::join!(connection.call(HOSTNAME, &nothing), serve);
    assert!(matches!(answer.unwrap_err(), Error::Lost { .. }));
    assert!(!connection.is_alive());
}

#[tokio::test]
async fn one_who_wants_polkit_is_left_with_words() {
    let (connection, mut server, _events) = connected();
    let serve = async {
        let call = heard(&mut server).await;
        say(&mut server, reply(&call, false, &Encoder::new().u32(1).u32(2))).await;
    };
    let (greeted, ()) = tokio::join!(connection.greet("qemu:///system"), serve);
    let error = greeted.unwrap_err();
    assert!(error.to_string().contains("authentication by polkit"), "{error}");
    assert!(!error.may_pass());
}

#[tokio::test(start_paused = true)]
async fn silence_is_noticed_and_a_call_does_not_wait_for_ever() {
    let (connection, mut server, _events) = connected();
    let answer = connection.call(HOSTNAME, &Encoder::new()).await;
    assert!(matches!(answer.unwrap_err(), Error::Deadline { .. }));
    heard(&mut server).await;
    let sign = heard(&mut server).await;
    assert_eq!((sign.program, sign.procedure), (KEEPALIVE, PING));
    let answer = connection.call(HOSTNAME, &Encoder::new()).await;
    assert!(matches!(answer.unwrap_err(), Error::Deadline { .. } | Error::Lost { .. }));
    let answer = connection.call(HOSTNAME, &Encoder::new()).await;
    assert!(matches!(answer.unwrap_err(), Error::Lost { .. }));
}

#[tokio::test]
async fn signs_of_life_are_answered_and_events_told() {
    let (_connection, mut server, mut events) = connected();
    server.write_all(&sign_of_life(PING).unwrap()).await.unwrap();
    assert_eq!(heard(&mut server).await.procedure, PONG);
    let body = Encoder::new().i32(0).text("g1").fixed(&[7; 16]).i32(1).i32(1).i32(1);
    let event = Frame {
        program: crate::frame::REMOTE,
        procedure: 348,
        kind: Kind::Message,
        serial: 0,
        is_error: false,
        body: body.bytes().to_vec(),
    };
    say(&mut server, event).await;
    assert!(matches!(events.recv().await.unwrap(), Event::Agent { is_connected: true, .. }));
}
