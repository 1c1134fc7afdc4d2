//! Frames: a length, six numbers that say what follows, and the body.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::xdr::{Decoder, Encoder, XdrError};

/// Program of all calls that are not about the connection itself.
pub(crate) const REMOTE: u32 = 0x2000_8086;
/// Program of what is particular to QEMU.
pub(crate) const QEMU: u32 = 0x2000_8087;
/// Program by which both sides see that the other is there.
pub(crate) const KEEPALIVE: u32 = 0x6b65_6570;

/// All programs are of this version.
const VERSION: u32 = 1;

/// Length of the length and the six numbers.
const HEAD: usize = 28;

/// Longest frame, as libvirt itself sets it.
pub(crate) const MAX_FRAME: usize = 32 << 20;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Call,
    Reply,
    /// Nobody asked for it.
    Message,
    /// Of a data stream or with a file; we ask for neither.
    Other,
}

impl Kind {
    const fn number(self) -> u32 {
        match self {
            Self::Call => 0,
            Self::Reply => 1,
            Self::Message => 2,
            Self::Other => 3,
        }
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) program: u32,
    pub(crate) procedure: u32,
    pub(crate) kind: Kind,
    pub(crate) serial: u32,
    /// Whether it is an answer that says why there is none.
    pub(crate) is_error: bool,
    pub(crate) body: Vec<u8>,
}

impl Frame {
    /// As it is sent; `None` if it is longer than a frame may be.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let length = HEAD + self.body.len();
        if length > MAX_FRAME {
            return None;
        }
        let head = Encoder::new()
            .u32(u32::try_from(length).ok()?)
            .u32(self.program)
            .u32(VERSION)
            .u32(self.procedure)
            .u32(self.kind.number())
            .u32(self.serial)
            .u32(u32::from(self.is_error));
        let mut bytes = head.bytes().to_vec();
        bytes.extend(&self.body);
        Some(bytes)
    }

    /// From what follows the length.
    fn decode(bytes: &[u8]) -> Result<Self, XdrError> {
        let mut decoder = Decoder::new(bytes);
        let program = decoder.u32()?;
        let version = decoder.u32()?;
        if version != VERSION {
            return Err(XdrError::Unknown { what: "a program's version", number: version });
        }
        let procedure = decoder.u32()?;
        let kind = match decoder.u32()? {
            0 => Kind::Call,
            1 => Kind::Reply,
            2 => Kind::Message,
            _ => Kind::Other,
        };
        let serial = decoder.u32()?;
        let is_error = match decoder.u32()? {
            0 => false,
            1 => true,
            number => return Err(XdrError::Unknown { what: "a frame's status", number }),
        };
        let body = bytes[bytes.len() - decoder.remaining()..].to_vec();
        Ok(Self { program, procedure, kind, serial, is_error, body })
    }

    /// The next one; `None` if the other side ended in order.
    ///
    /// Memory is taken as bytes come, not as the length promises.
    pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Self>> {
        let mut length = [0; 4];
        if let Err(cause) = from.read_exact(&mut length).await {
            let is_end = cause.kind() == io::ErrorKind::UnexpectedEof;
            return if is_end { Ok(None) } else { Err(cause) };
        }
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if !(HEAD..=MAX_FRAME).contains(&length) {
            let told = format!("a frame claims to have {length} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, told));
        }
        let rest = length - 4;
        let mut bytes = Vec::new();
        let taken = from.take(rest as u64).read_to_end(&mut bytes).await?;
        if taken < rest {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let frame = Self::decode(&bytes);
        frame.map(Some).map_err(|cause| io::Error::new(io::ErrorKind::InvalidData, cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        Frame {
            program: REMOTE,
            procedure: 344,
            kind: Kind::Reply,
            serial: 9,
            is_error: true,
            body: vec![1, 2, 3, 4],
        }
    }

    #[tokio::test]
    async fn a_frame_comes_out_as_it_went_in() {
        let bytes = frame().encode().unwrap();
        let mut reader = bytes.as_slice();
        assert_eq!(Frame::read(&mut reader).await.unwrap(), Some(frame()));
        assert_eq!(Frame::read(&mut reader).await.unwrap(), None);
    }

    #[tokio::test]
    async fn half_a_frame_is_an_error_and_none_is_the_end() {
        let bytes = frame().encode().unwrap();
        for end in 4..bytes.len() {
            Frame::read(&mut &bytes[..end]).await.unwrap_err();
        }
        assert_eq!(Frame::read(&mut &bytes[..0]).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_length_no_frame_has_is_refused_unread() {
        for length in [0, 27, 33 << 20, u32::MAX] {
            let mut bytes = length.to_be_bytes().to_vec();
            bytes.extend([0; 64]);
            let error = Frame::read(&mut bytes.as_slice()).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{length}");
        }
        let mut promise = (32_u32 << 20).to_be_bytes().to_vec();
        promise.extend([0; 64]);
        let error = Frame::read(&mut promise.as_slice()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn no_change_of_one_byte_makes_reading_panic() {
        let bytes = frame().encode().unwrap();
        for place in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[place] = value;
                // Either is fine, as long as it comes.
                let read = Frame::read(&mut changed.as_slice()).await;
                assert!(read.is_err() || read.is_ok_and(|frame| frame.is_some()));
            }
        }
    }
}
