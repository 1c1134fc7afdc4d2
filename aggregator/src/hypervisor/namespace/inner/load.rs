//! Load on one target: requests that begin when they are due, whether or not earlier ones were
//! answered, so that a slow machine is not spared.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::TcpStream,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::hypervisor::{ProbeKind, ProbeResult, ProbeTarget};

/// How long an answer may take; a caller in production would have given up too.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Most requests under way at once at one target.
const MOST_WORKERS: u64 = 32;

/// Highest rate; above it one would measure the prober.
const MOST_PER_SECOND: f64 = 2_000.0;

/// Most bytes of an answer that are read.
const MOST_BYTES: u64 = 1 << 20;

/// Fewest requests: one alone would condemn a machine for one lost packet.
const FEWEST: u64 = 5;

/// Number of requests in a time, and the time between two. A few even if hardly any is due, so that
/// something is known.
fn pace(rate: f64, duration: Duration) -> (u64, Duration) {
    let due = (rate * duration.as_secs_f64()).floor();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, at most the highest rate times an hour"
    )]
    let due = due as u64;
    if due < FEWEST {
        return (FEWEST, duration / 5);
    }
    (due, Duration::from_secs_f64(1.0 / rate))
}

fn rate(target: &ProbeTarget) -> f64 {
    if target.rate_per_second.is_finite() {
        target.rate_per_second.clamp(0.0, MOST_PER_SECOND)
    } else {
        0.0
    }
}

/// Puts load on a target and tells what it answered.
pub(super) fn put(target: &ProbeTarget, begun: Instant, duration: Duration) -> ProbeResult {
    let (requests, apart) = pace(rate(target), duration);
    let next = AtomicU64::new(0);
    let answers = Mutex::new(Answers::default());
    let work = || loop {
        let request = next.fetch_add(1, Ordering::Relaxed);
        if request >= requests {
            return;
        }
        let due = apart.mul_f64(as_float(request));
        // All workers are held up: what is not asked in time is asked late, but not for ever.
        if begun.elapsed() > duration + TIMEOUT {
            return;
        }
        thread::sleep(due.saturating_sub(begun.elapsed()));
        let asked = Instant::now();
        let answer = ask(target);
        let Ok(mut answers) = answers.lock() else { return };
        match answer {
            Ok(()) => answers.times.push(micros(asked.elapsed())),
            Err(cause) => *answers.failures.entry(told(&cause)).or_default() += 1,
        }
    };
    thread::scope(|scope| {
        for _ in 0..requests.min(MOST_WORKERS) {
            scope.spawn(work);
        }
    });
    result(target, requests, answers.into_inner().unwrap_or_default())
}

/// What came of the requests.
#[derive(Debug, Default)]
struct Answers {
    times: Vec<u64>,
    failures: BTreeMap<String, u64>,
}

fn result(target: &ProbeTarget, attempts: u64, answers: Answers) -> ProbeResult {
    let Answers { mut times, mut failures } = answers;
    times.sort_unstable();
    let successes = u64::try_from(times.len()).unwrap_or(u64::MAX);
    // What was not even asked, since nothing was answered, has failed as well.
    let unasked = attempts.saturating_sub(successes + failures.values().sum::<u64>());
    if unasked > 0 {
        failures.insert("not asked for want of earlier answers".to_owned(), unasked);
    }
    ProbeResult {
        target: target.clone(),
        attempts,
        successes,
        failures,
        median_us: at_percent(&times, 50),
        p95_us: at_percent(&times, 95),
    }
}

/// Few kinds of words, so that they can be counted.
fn told(cause: &io::Error) -> String {
    match cause.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            format!("without an answer in {} s", TIMEOUT.as_secs())
        }
        io::ErrorKind::InvalidData => "answered with no 2xx".to_owned(),
        kind => kind.to_string(),
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52 requests")]
const fn as_float(count: u64) -> f64 {
    count as f64
}

/// The smallest value that so many percent do not exceed.
fn at_percent(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

fn ask(target: &ProbeTarget) -> io::Result<()> {
    let stream = TcpStream::connect_timeout(&target.address, TIMEOUT)?;
    match &target.kind {
        ProbeKind::TcpConnect => Ok(()),
        ProbeKind::HttpGet { path } => get(stream, target, path),
    }
}

fn get(mut stream: TcpStream, target: &ProbeTarget, path: &str) -> io::Result<()> {
    // A blank or a new line would let the path say more than a path.
    if !path.starts_with('/') || path.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", target.address);
    stream.write_all(request.as_bytes())?;
    let deadline = Instant::now() + TIMEOUT;
    let mut answer = Vec::new();
    let mut bounded = stream.take(MOST_BYTES);
    let mut part = [0; 4096];
    loop {
        if Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match bounded.read(&mut part)? {
            0 => break,
            // Only the first line matters; the rest is read for its time.
            count if answer.len() < 64 => answer.extend_from_slice(&part[..count]),
            _ => {}
        }
    }
    if is_good(&answer) { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Whether an answer begins as a 2xx.
fn is_good(answer: &[u8]) -> bool {
    let mut words = answer.splitn(3, |byte| *byte == b' ');
    let is_http = words.next().is_some_and(|version| version.starts_with(b"HTTP/1."));
    let status = words.next().unwrap_or_default();
    is_http && status.len() == 3 && status.starts_with(b"2")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(kind: ProbeKind) -> ProbeTarget {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        ProbeTarget { address: listener.local_addr().unwrap(), kind, rate_per_second: 50.0 }
    }

    #[test]
    fn a_target_that_does_not_answer_has_attempts_and_no_time() {
        let target = target(ProbeKind::TcpConnect);

        let result = put(&target, Instant::now(), Duration::from_millis(100));

        assert_eq!((result.attempts, result.successes), (5, 0));
        assert_eq!((result.median_us, result.p95_us), (None, None));
        assert_eq!(result.failures, BTreeMap::from([("connection refused".to_owned(), 5)]));
    }

    #[test]
    fn a_path_cannot_say_more_than_a_path() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let kind = ProbeKind::HttpGet { path: "/x HTTP/1.0\r\nEvil: 1".to_owned() };
        let target =
            ProbeTarget { address: listener.local_addr().unwrap(), kind, rate_per_second: 1.0 };

        ask(&target).unwrap_err();

        let mut asked = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut asked).unwrap();
        assert!(asked.is_empty());
    }

    #[test]
    fn only_a_2xx_is_good() {
        assert!(is_good(b"HTTP/1.1 204 No Content\r\n\r\n"));
        for bad in ["HTTP/1.1 503 Busy\r\n", "HTTP/1.1 2000 x", "SSH-2.0-x 200 ", ""] {
            assert!(!is_good(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let times: Vec<u64> = (1..=20).collect();

        assert_eq!(at_percent(&times, 50), Some(10));
        assert_eq!(at_percent(&times, 95), Some(19));
        assert_eq!(at_percent(&[7], 95), Some(7));
        assert_eq!(at_percent(&[], 50), None);
    }

    #[test]
    fn where_hardly_any_request_is_due_a_few_are_spread_over_the_time() {
        let whole = Duration::from_secs(20);
        for strange in [f64::NAN, f64::INFINITY, -1.0, 0.0, 0.2] {
            let target = ProbeTarget { rate_per_second: strange, ..target(ProbeKind::TcpConnect) };
            assert_eq!(pace(rate(&target), whole), (5, Duration::from_secs(4)), "{strange}");
        }
        assert_eq!(pace(0.5, whole), (10, Duration::from_secs(2)));
    }
}
