//! The link's service, over a codec for which a message that cannot be decoded is a message too.
//!
//! The generated service ends a stream at the first byte that is no protobuf. Here the framing is
//! gRPC's own and what is in a frame is the reader's to judge: a bad one costs itself.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
use common::wire::agent::v1::{AttachRequest, AttachResponse};
use futures::future::BoxFuture;
use prost::{
    Message as _,
    encoding::{self, WireType},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status, Streaming,
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::{Grpc, NamedService, StreamingService},
};

use super::AgentHub;

/// Largest frame that is read at all, unpacked. What lies between this and the largest message
/// costs that message; what lies beyond costs the stream, for nobody can skip it.
const LARGEST_FRAME: usize = 4 << 20;

/// One message up, as it came.
#[derive(Debug)]
pub(super) struct Arrived {
    /// Its size, unpacked.
    pub(super) size: usize,
    /// What it says, if it says anything.
    pub(super) message: Result<AttachRequest, prost::DecodeError>,
    /// The sample in it as it was encoded, if the message is one sample and nothing besides.
    pub(super) sample: Option<Bytes>,
}

/// Messages down.
pub(super) type Down = ReceiverStream<Result<AttachResponse, Status>>;

#[derive(Debug, Clone, Copy, Default)]
struct LinkCodec;

impl Codec for LinkCodec {
    type Encode = AttachResponse;
    type Decode = Arrived;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for LinkCodec {
    type Item = AttachResponse;
    type Error = Status;

    fn encode(&mut self, item: AttachResponse, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(dst).map_err(|cause| Status::internal(cause.to_string()))
    }
}

impl Decoder for LinkCodec {
    type Item = Arrived;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Arrived>, Status> {
        let size = src.remaining();
        let bytes = src.copy_to_bytes(size);
        let sample = sample_of(&bytes);
        Ok(Some(Arrived { size, message: AttachRequest::decode(bytes), sample }))
    }
}

/// Number of the sample's field in `AttachRequest`.
const SAMPLE: u32 = 2;

/// The bytes of the sample that a message consists of. Encoding what was just decoded would cost as
/// much as the decoding; a message that spells itself in another way is left to that.
fn sample_of(message: &Bytes) -> Option<Bytes> {
    let mut rest = message.clone();
    let (field, kind) = encoding::decode_key(&mut rest).ok()?;
    let length = encoding::decode_varint(&mut rest).ok()?;
    let is_all = u64::try_from(rest.len()).is_ok_and(|left| left == length);
    (field == SAMPLE && kind == WireType::LengthDelimited && is_all).then_some(rest)
}

/// `sinter.agent.v1.AgentLinkService`.
#[derive(Clone)]
pub(super) struct LinkServer(pub(super) AgentHub);

impl NamedService for LinkServer {
    const NAME: &'static str = common::wire::agent::v1::agent_link_service_server::SERVICE_NAME;
}

impl tower::Service<http::Request<tonic::body::Body>> for LinkServer {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let hub = self.0.clone();
        Box::pin(async move {
            if request.uri().path() != "/sinter.agent.v1.AgentLinkService/Attach" {
                return Ok(Status::unimplemented("there is no such rpc").into_http());
            }
            let mut grpc = Grpc::new(LinkCodec)
                .accept_compressed(CompressionEncoding::Zstd)
                .send_compressed(CompressionEncoding::Zstd)
                .max_decoding_message_size(LARGEST_FRAME);
            Ok(grpc.streaming(Attach(hub), request).await)
        })
    }
}

struct Attach(AgentHub);

impl StreamingService<Arrived> for Attach {
    type Response = AttachResponse;
    type ResponseStream = Down;
    type Future = BoxFuture<'static, Result<Response<Down>, Status>>;

    fn call(&mut self, request: Request<Streaming<Arrived>>) -> Self::Future {
        let hub = self.0.clone();
        Box::pin(async move { hub.attach(request).await })
    }
}

#[cfg(test)]
mod tests {
    use common::wire::{
        agent::v1::{Hello, attach_request::Message},
        types::v1,
    };

    use super::*;

    fn encoded(message: Message) -> Vec<u8> {
        AttachRequest { message: Some(message) }.encode_to_vec()
    }

    #[test]
    fn the_bytes_of_a_sample_are_those_it_came_with() {
        let sample = v1::Sample { epoch: 3, sequence: 300, ..v1::Sample::default() };
        let message = Bytes::from(encoded(Message::Sample(sample.clone())));
        assert_eq!(sample_of(&message).unwrap(), sample.encode_to_vec());
    }

    #[test]
    fn a_message_that_is_not_one_sample_alone_has_no_such_bytes() {
        let sample = encoded(Message::Sample(v1::Sample { epoch: 3, ..v1::Sample::default() }));
        let twice = [sample.clone(), sample.clone()].concat();
        let cut = sample[..sample.len() - 1].to_vec();
        let hello = encoded(Message::Hello(Hello { epoch: 3, ..Hello::default() }));
        for other in [twice, cut, hello, Vec::new()] {
            assert_eq!(sample_of(&Bytes::from(other)), None);
        }
    }
}
