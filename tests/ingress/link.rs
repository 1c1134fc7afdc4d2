//! Agents that may be as bad as they like: an enrolled one, and its end of a stream.

use common::{
    mix::EffectiveMix,
    wire::{
        agent::v1::{
            AttachRequest, AttachResponse, EnrollResponse, Hello, attach_request::Message as Up,
            attach_response::Message as Down,
        },
        types::v1,
    },
};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Status, Streaming,
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};

use super::{Site, facts, sample, within};

/// An enrolled agent.
#[derive(Debug, Clone)]
pub struct Agent {
    /// The number of its machine.
    pub number: u8,
    /// Its key.
    pub key: String,
    /// What it was given.
    pub response: EnrollResponse,
}

impl Agent {
    /// A line with its certificate.
    pub async fn line(&self, site: &Site) -> Channel {
        site.line(Some((&self.response.certificate_pem, &self.key))).await.unwrap()
    }

    /// What it says first.
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
#[derive(Debug)]
pub struct Link {
    /// The number of its machine.
    pub number: u8,
    /// What it sends.
    pub up: mpsc::Sender<Vec<u8>>,
    down: Streaming<AttachResponse>,
}

/// A codec that sends whatever bytes it is given.
#[derive(Debug, Clone, Copy, Default)]
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

/// The call that opens a stream.
pub const ATTACH: &str = "/sinter.agent.v1.AgentLinkService/Attach";

impl Link {
    /// Opens a stream, packed if that is wanted.
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

    /// Sends whatever bytes these are.
    pub async fn send_bytes(&self, bytes: Vec<u8>) {
        // A stream that has ended takes nothing; the test sees that by how it ended.
        let _ended = self.up.send(bytes).await;
    }

    /// Sends a message.
    pub async fn send(&self, message: Up) {
        self.send_bytes(AttachRequest { message: Some(message) }.encode_to_vec()).await;
    }

    /// A full sample of its machine, taken now.
    pub fn sample(&self, sequence: u64) -> v1::Sample {
        sample(self.number, sequence, true)
    }

    /// Sends such a sample.
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

    /// Waits until that sample is acknowledged.
    pub async fn acknowledged(&mut self, sequence: u64) {
        self.until(|message| match message {
            Down::Received(received) => {
                (received.sample.unwrap().sequence == sequence).then_some(())
            }
            _ => None,
        })
        .await;
    }

    /// Waits until all is asked for anew; why.
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
