//! What a server tells unasked.

use uuid::Uuid;

use crate::{
    call::domain::Domain,
    procedure::event,
    xdr::{Decoder, XdrError},
};

/// Something that happened to a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It was defined, started, stopped, and the like.
    Lifecycle {
        /// Which machine.
        domain: Uuid,
        /// What happened.
        change: Lifecycle,
    },
    /// An operation on a disk failed.
    IoError {
        /// Of which machine.
        domain: Uuid,
        /// The disk's file or device.
        path: String,
        /// Why, as QEMU says it; empty if it does not.
        reason: String,
    },
    /// The guest's agent came or went.
    Agent {
        /// In which machine.
        domain: Uuid,
        /// Whether it is there now.
        is_connected: bool,
    },
    /// So many events were not told because they were not taken in time, or the connection was
    /// gone meanwhile: whoever keeps an account begins anew.
    Missed,
}

/// What happened to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    /// Its definition is new.
    Defined,
    /// Its definition is gone.
    Undefined,
    /// It runs.
    Started,
    /// It is held.
    Suspended,
    /// It goes on.
    Resumed,
    /// It does not run any more.
    Stopped,
    /// Something else.
    Other(i32),
}

impl Lifecycle {
    const fn of(number: i32) -> Self {
        match number {
            0 => Self::Defined,
            1 => Self::Undefined,
            2 => Self::Started,
            3 => Self::Suspended,
            4 => Self::Resumed,
            5 => Self::Stopped,
            other => Self::Other(other),
        }
    }
}

/// Numbers under which these events are ordered.
pub(crate) const ORDERED: [i32; 3] = [0, 6, 18];

/// Reads a message; `None` for one that nobody ordered.
pub(crate) fn decode(procedure: u32, body: &[u8]) -> Result<Option<Event>, XdrError> {
    let mut decoder = Decoder::new(body);
    if !matches!(procedure, event::LIFECYCLE | event::IO_ERROR | event::AGENT) {
        return Ok(None);
    }
    let _callback = decoder.i32()?;
    let domain = Domain::decode(&mut decoder)?.uuid;
    Ok(Some(match procedure {
        event::LIFECYCLE => Event::Lifecycle { domain, change: Lifecycle::of(decoder.i32()?) },
        event::IO_ERROR => {
            let path = decoder.text()?;
            let (_alias, _action) = (decoder.text()?, decoder.i32()?);
            Event::IoError { domain, path, reason: decoder.text()? }
        }
        _ => Event::Agent { domain, is_connected: decoder.i32()? == 1 },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdr::Encoder;

    fn head() -> Encoder {
        Encoder::new().i32(3).text("g1").fixed(&[7; 16]).i32(1)
    }

    #[test]
    fn each_event_is_read_and_a_cut_one_is_an_error() {
        let uuid = Uuid::from_bytes([7; 16]);
        let stopped = head().i32(5).i32(0);
        let expected = Event::Lifecycle { domain: uuid, change: Lifecycle::Stopped };
        assert_eq!(decode(318, stopped.bytes()).unwrap(), Some(expected));
        let error = head().text("/p/a").text("vda").i32(0).text("enospc");
        let path = "/p/a".to_owned();
        let expected = Event::IoError { domain: uuid, path, reason: "enospc".to_owned() };
        assert_eq!(decode(324, error.bytes()).unwrap(), Some(expected));
        let agent = head().i32(1).i32(1);
        let expected = Event::Agent { domain: uuid, is_connected: true };
        assert_eq!(decode(348, agent.bytes()).unwrap(), Some(expected));
        assert_eq!(decode(319, &[]).unwrap(), None);
        for end in 0..error.bytes().len() {
            decode(324, &error.bytes()[..end]).unwrap_err();
        }
    }
}
