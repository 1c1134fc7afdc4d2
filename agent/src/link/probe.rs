//! Finds out how far an aggregator can be reached, and how its clock stands, without an identity and
//! without leaving a trace there: the health of a server is anybody's to ask.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant, UNIX_EPOCH},
};

use common::clock::{Clock, Timestamp};
use tokio::{net::TcpStream, time};
use tonic::{Request, client::Grpc, metadata::MetadataMap};
use tonic_prost::ProstCodec;

use super::{
    Broken,
    dial::{ANSWERS_WITHIN, dial},
    tls,
};

/// The one call that needs no identity and does nothing.
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// What an aggregator answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Its clock beside ours when it answered; `None` if it did not say. An HTTP date has whole seconds.
    pub(crate) clocks: Option<Clocks>,
    /// How long the answer took.
    pub(crate) took: Duration,
}

/// Two clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clocks {
    /// The aggregator's: the middle of the second it named.
    pub(crate) theirs: Timestamp,
    /// Ours: the middle between asking and hearing.
    pub(crate) ours: Timestamp,
    /// How far either may be off.
    pub(crate) within: Duration,
}

/// Opens a connection to the first address that takes one, and closes it.
///
/// # Errors
///
/// If none does, or not in time.
pub(crate) async fn knock(addresses: &[SocketAddr]) -> io::Result<SocketAddr> {
    time::timeout(ANSWERS_WITHIN, TcpStream::connect(addresses)).await??.peer_addr()
}

/// Asks the aggregator whether it is well, over a line that trusts only the pinned authority.
///
/// # Errors
///
/// If there is no such line, or no answer in time.
pub(crate) async fn ask(address: &str, pinned: &str, clock: &dyn Clock) -> Result<Answer, Broken> {
    let channel = dial(address, tls::pinned(pinned)?).await?;
    let mut client = Grpc::new(channel);
    let ready = client.ready().await;
    ready.map_err(|cause| Broken::Dial { address: address.to_owned(), cause: Box::new(cause) })?;
    let (asked_at, began) = (clock.now(), Instant::now());
    // The empty message asks for the whole server, and nothing of the answer is needed.
    let codec = ProstCodec::<(), ()>::default();
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(HEALTH);
    let answer = client.unary(Request::new(()), path, codec);
    let late = |_| Broken::Late { what: "answer", within: ANSWERS_WITHIN };
    let answer = time::timeout(ANSWERS_WITHIN, answer).await.map_err(late)?;
    let took = began.elapsed();
    let date = match &answer {
        Ok(well) => date(well.metadata()),
        Err(status) => date(status.metadata()),
    };
    let clocks = date.map(|second| Clocks {
        theirs: second + Duration::from_millis(500),
        ours: asked_at + took / 2,
        within: Duration::from_millis(500) + took / 2,
    });
    Ok(Answer { clocks, took })
}

fn date(metadata: &MetadataMap) -> Option<Timestamp> {
    let text = metadata.get("date")?.to_str().ok()?;
    let since = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(Timestamp::from_millis(u64::try_from(since.as_millis()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_read_and_anything_else_is_unknown() {
        let mut metadata = MetadataMap::new();
        assert_eq!(date(&metadata), None);
        metadata.insert("date", "Fri, 15 Jan 2027 08:00:00 GMT".parse().unwrap());
        assert_eq!(date(&metadata), Some(Timestamp::from_millis(1_800_000_000_000)));
        metadata.insert("date", "soon".parse().unwrap());
        assert_eq!(date(&metadata), None);
    }
}
