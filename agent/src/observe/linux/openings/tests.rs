use std::{
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use super::*;
use crate::observe::seen::{Kin, Standing};

/// Runs `work` where tracefs is mounted at the folder it is given, which nobody else sees.
fn with_tracefs(work: impl FnOnce(PathBuf) + Send + 'static) {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_owned();
    let run = move || {
        let none = None::<&str>;
        let is_mounted = unshare(CloneFlags::CLONE_NEWNS).is_ok()
            && mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).is_ok()
            && mount(Some("tracefs"), &place, Some("tracefs"), MsFlags::empty(), none).is_ok();
        // Without root, or in another pid namespace, there is nothing to try.
        if is_mounted
            && !matches!(Openings::open(std::slice::from_ref(&place)), Err(Untold::Namespace))
        {
            work(place);
        }
    };
    thread::spawn(run).join().unwrap();
}

fn until(openings: &mut Openings, is_enough: impl Fn(&Told) -> bool) -> Told {
    let mut told = Told::default();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_enough(&told) && Instant::now() < deadline {
        openings.fetch(&mut told);
    }
    told
}

fn count(told: &Told, remote: std::net::SocketAddr) -> usize {
    told.openings.iter().filter(|opening| opening.remote == remote).count()
}

#[test]
fn the_process_that_opens_a_connection_is_told() {
    with_tracefs(|place| {
        let mut openings = Openings::open(&[place]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let remote = listener.local_addr().unwrap();
        let _client = TcpStream::connect(remote).unwrap();

        let told = until(&mut openings, |told| count(told, remote) > 0);

        let opening = told.openings.iter().find(|opening| opening.remote == remote).unwrap();
        // Of the process, though it was one of its threads.
        assert_eq!(opening.pid, std::process::id());
    });
}

#[test]
fn an_attempt_that_is_refused_is_told_too() {
    with_tracefs(|place| {
        let mut openings = Openings::open(&[place]).unwrap();
        let remote = TcpListener::bind("[::1]:0").unwrap().local_addr().unwrap();
        assert!(TcpStream::connect(remote).is_err());

        assert_eq!(count(&until(&mut openings, |told| count(told, remote) > 0), remote), 1);
    });
}

#[test]
fn another_network_namespace_is_not_told_of() {
    with_tracefs(|place| {
        let mut openings = Openings::open(&[place]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let elsewhere = std::net::SocketAddr::from(([127, 0, 0, 9], port));
        let (gone, is_gone) = std::sync::mpsc::channel::<()>();
        let (tried, is_tried) = std::sync::mpsc::channel();
        let other = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            // There is no way out of a namespace without a device; the attempt begins all the same.
            let attempt = TcpStream::connect(elsewhere).map(drop);
            tried.send(attempt.is_err()).unwrap();
            // Lives on until it was looked up.
            is_gone.recv().unwrap_err();
        });
        assert!(is_tried.recv().unwrap());
        let remote = listener.local_addr().unwrap();
        let _client = TcpStream::connect(remote).unwrap();

        let told = until(&mut openings, |told| count(told, remote) > 0);

        drop(gone);
        other.join().unwrap();
        assert_eq!((count(&told, remote), count(&told, elsewhere)), (1, 0));
    });
}

#[test]
fn a_program_that_is_gone_is_told_with_who_started_it() {
    with_tracefs(|place| {
        let mut openings = Openings::open(&[place]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let remote = listener.local_addr().unwrap();
        let line = format!("(exec 3<>/dev/tcp/127.0.0.1/{})", remote.port());
        let ended = Command::new("bash").args(["-c", &line]).status().unwrap();
        assert!(ended.success());

        let told = until(&mut openings, |told| count(told, remote) > 0);

        let opening = told.openings.iter().find(|opening| opening.remote == remote).unwrap();
        assert_eq!(opening.name, "bash");
        let kin = Kin { ancestor: std::process::id(), standing: Standing::Inherited };
        assert_eq!(told.kin.get(&opening.pid), Some(&kin));
    });
}

#[test]
fn one_that_lives_may_be_gone_before_it_is_asked_for_more_and_is_told_with_who_started_it_too() {
    with_tracefs(|place| {
        let mut openings = Openings::open(&[place]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let remote = listener.local_addr().unwrap();
        let line = format!("exec 3<>/dev/tcp/127.0.0.1/{}; read", remote.port());
        let mut bash = Command::new("bash");
        let mut bash = bash.args(["-c", &line]).stdin(Stdio::piped()).spawn().unwrap();

        let told = until(&mut openings, |told| count(told, remote) > 0);
        drop(bash.stdin.take());
        bash.wait().unwrap();

        let kin = Kin { ancestor: std::process::id(), standing: Standing::Inherited };
        assert_eq!(told.kin.get(&bash.id()), Some(&kin));
    });
}

#[test]
fn a_thread_that_is_gone_is_told_as_its_process() {
    with_tracefs(|place| {
        let mut openings = Openings::open(&[place]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let remote = listener.local_addr().unwrap();
        drop(thread::spawn(move || TcpStream::connect(remote).unwrap()).join().unwrap());

        let told = until(&mut openings, |told| count(told, remote) > 0);

        let opening = told.openings.iter().find(|opening| opening.remote == remote).unwrap();
        assert_eq!(opening.pid, std::process::id());
        assert_eq!(told.kin.get(&opening.pid), None);
    });
}

#[test]
fn an_instance_goes_with_its_reader_and_a_stale_one_with_the_next() {
    with_tracefs(|place| {
        let instances = place.join("instances");
        // No process has this number.
        let stale = instances.join(format!("{PREFIX}4294967295-0"));
        fs::create_dir(&stale).unwrap();

        let openings = Openings::open(&[place]).unwrap();
        assert!(!stale.exists());
        let folder = openings._instance.folder.clone();
        assert!(folder.exists());
        drop(openings);
        assert!(!folder.exists());
    });
}

#[test]
fn without_tracefs_it_is_said_so() {
    let nowhere = tempfile::tempdir().unwrap();
    let cause = Openings::open(&[nowhere.path().to_owned()]).unwrap_err();
    assert!(matches!(cause, Untold::NotMounted | Untold::Namespace), "{cause}");
}
