//! What a server sends: frames of a size, a kind and a body. Pure.

use std::fmt;

use bytes::{Buf as _, Bytes, BytesMut};

use super::refusal::Refusal;

/// The largest frame: a server's `-max-msg-size` is 1 MiB unless it is set, and what is far above what anybody sets is no NSQ.
pub(in crate::queue::nsq) const FRAME_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Bytes before a frame's body: its size and its kind.
const HEAD_BYTES: usize = 8;

/// Bytes of a message before its body: time, attempts, id.
const MESSAGE_HEAD_BYTES: usize = 26;

/// What a server asks by, now and then, whether we are there.
const HEARTBEAT: &[u8] = b"_heartbeat_";

/// What it answers when no more messages will come.
const CLOSE_WAIT: &[u8] = b"CLOSE_WAIT";

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::queue::nsq) enum Frame {
    /// To be answered with NOP.
    Heartbeat,
    /// No more messages will come on this connection.
    CloseWait,
    /// The answer to a command.
    Response(Bytes),
    /// A command was not done.
    Error(Refusal),
    /// A message.
    Message(Message),
}

/// A message, leased to this connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::queue::nsq) struct Message {
    /// When the server took it in: nanoseconds since 1970.
    pub(in crate::queue::nsq) published: u64,
    /// Which delivery this is, from 1.
    pub(in crate::queue::nsq) attempts: u16,
    /// Its id, unique on its server.
    pub(in crate::queue::nsq) id: MessageId,
    /// What was published.
    pub(in crate::queue::nsq) body: Bytes,
}

/// Sixteen hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::queue::nsq) struct MessageId(pub(in crate::queue::nsq) [u8; 16]);

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What came is no frame: the text says why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::queue::nsq) struct Malformed(pub(in crate::queue::nsq) String);

/// Takes the next frame off what was read; none: it has not all come yet.
pub(in crate::queue::nsq) fn take(read: &mut BytesMut) -> Result<Option<Frame>, Malformed> {
    let (Some(size), kind) = (number(read, 0), number(read, 4)) else { return Ok(None) };
    if !(4..=FRAME_BYTES_MAX).contains(&(size as usize)) {
        return Err(Malformed(format!("a frame of {size} bytes came, expected 4 to {FRAME_BYTES_MAX} [is this an nsqd?]")));
    }
    let whole = size as usize + 4;
    let (true, Some(kind)) = (read.len() >= whole, kind) else {
        read.reserve(whole.saturating_sub(read.len()));
        return Ok(None);
    };
    let mut frame = read.split_to(whole).freeze();
    frame.advance(HEAD_BYTES);
    match kind {
        0 if frame == HEARTBEAT => Ok(Some(Frame::Heartbeat)),
        0 if frame == CLOSE_WAIT => Ok(Some(Frame::CloseWait)),
        0 => Ok(Some(Frame::Response(frame))),
        1 => Ok(Some(Frame::Error(Refusal::read(&String::from_utf8_lossy(&frame))))),
        2 => message(frame).map(|message| Some(Frame::Message(message))),
        other => Err(Malformed(format!("a frame of the kind {other} came, expected 0, 1 or 2 [is this an nsqd?]"))),
    }
}

fn number(read: &[u8], at: usize) -> Option<u32> {
    read.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes)
}

fn message(mut frame: Bytes) -> Result<Message, Malformed> {
    if frame.len() < MESSAGE_HEAD_BYTES {
        return Err(Malformed(format!("a message of {} bytes came, expected at least {MESSAGE_HEAD_BYTES}", frame.len())));
    }
    let (published, attempts) = (frame.get_u64(), frame.get_u16());
    let mut id = MessageId([0; 16]);
    frame.copy_to_slice(&mut id.0);
    Ok(Message { published, attempts, id, body: frame })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(kind: u32, body: &[u8]) -> Vec<u8> {
        let size = u32::try_from(body.len() + 4).unwrap();
        [&size.to_be_bytes(), &kind.to_be_bytes(), body].concat()
    }

    fn message_bytes() -> Vec<u8> {
        [&1_700_000_000_000_000_000_u64.to_be_bytes()[..], &3_u16.to_be_bytes(), b"0d5a7c3f9b1e2468", b"{}"].concat()
    }

    #[test]
    fn frames_are_taken_one_by_one_however_they_come() {
        let stream = [
            framed(0, b"_heartbeat_"),
            framed(0, b"OK"),
            framed(1, b"E_BAD_TOPIC no"),
            framed(2, &message_bytes()),
            framed(0, b"CLOSE_WAIT"),
        ]
        .concat();
        let expected = [
            Frame::Heartbeat,
            Frame::Response(Bytes::from_static(b"OK")),
            Frame::Error(Refusal::read("E_BAD_TOPIC no")),
            Frame::Message(Message {
                published: 1_700_000_000_000_000_000,
                attempts: 3,
                id: MessageId(*b"0d5a7c3f9b1e2468"),
                body: Bytes::from_static(b"{}"),
            }),
            Frame::CloseWait,
        ];
        for step in [1, 3, 7, stream.len()] {
            let (mut read, mut came) = (BytesMut::new(), Vec::new());
            for some in stream.chunks(step) {
                read.extend_from_slice(some);
                while let Some(frame) = take(&mut read).unwrap() {
                    came.push(frame);
                }
            }
            assert_eq!(came, expected, "in steps of {step}");
            assert!(read.is_empty());
        }
    }

    #[test]
    fn what_is_no_frame_is_named() {
        for (bytes, says) in [
            (b"HTTP/1.1 400 Bad Request".to_vec(), "is this an nsqd?"),
            (framed(7, b"x"), "of the kind 7"),
            (framed(2, b"short"), "a message of 5 bytes"),
            (vec![0, 0, 0, 3, 0, 0, 0, 0], "a frame of 3 bytes"),
        ] {
            let error = take(&mut BytesMut::from(&bytes[..])).unwrap_err();
            assert!(error.0.contains(says), "{error:?}");
        }
    }
}
