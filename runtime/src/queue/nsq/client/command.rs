//! What is sent to a server: each command as the bytes that it is. Pure.

use bytes::{BufMut as _, BytesMut};

use super::frame::MessageId;

/// What a connection begins with.
pub(in crate::queue::nsq) const MAGIC: &[u8] = b"  V2";

/// The answer to a heartbeat.
pub(in crate::queue::nsq) const NOP: &[u8] = b"NOP\n";

/// No more messages, please.
pub(in crate::queue::nsq) const CLS: &[u8] = b"CLS\n";

/// Bytes of an MPUB before its messages: its size and their number.
const BATCH_HEAD_BYTES: usize = 8;

/// The size of what follows, as the protocol writes it. What is larger than that can say is refused before.
fn size(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn line(out: &mut BytesMut, words: &[&[u8]]) {
    for (at, word) in words.iter().enumerate() {
        if at > 0 {
            out.put_u8(b' ');
        }
        out.put_slice(word);
    }
    out.put_u8(b'\n');
}

fn body(out: &mut BytesMut, body: &[u8]) {
    out.put_u32(size(body.len()));
    out.put_slice(body);
}

/// Who we are, and what we want of this connection.
pub(in crate::queue::nsq) fn identify(out: &mut BytesMut, json: &[u8]) {
    line(out, &[b"IDENTIFY"]);
    body(out, json);
}

/// The secret that the server asks for.
pub(in crate::queue::nsq) fn auth(out: &mut BytesMut, secret: &str) {
    line(out, &[b"AUTH"]);
    body(out, secret.as_bytes());
}

/// Reads a channel of a topic; both are made if they are not there.
pub(in crate::queue::nsq) fn sub(out: &mut BytesMut, topic: &str, channel: &str) {
    line(out, &[b"SUB", topic.as_bytes(), channel.as_bytes()]);
}

/// How many messages may be unsettled on this connection.
pub(in crate::queue::nsq) fn rdy(out: &mut BytesMut, count: usize) {
    line(out, &[b"RDY", count.to_string().as_bytes()]);
}

/// It is done with.
pub(in crate::queue::nsq) fn fin(out: &mut BytesMut, id: MessageId) {
    line(out, &[b"FIN", &id.0]);
}

/// Again, after so many milliseconds.
pub(in crate::queue::nsq) fn req(out: &mut BytesMut, id: MessageId, millis: u64) {
    line(out, &[b"REQ", &id.0, millis.to_string().as_bytes()]);
}

/// It is still being worked on.
pub(in crate::queue::nsq) fn touch(out: &mut BytesMut, id: MessageId) {
    line(out, &[b"TOUCH", &id.0]);
}

/// Messages, all or none.
pub(in crate::queue::nsq) fn mpub(out: &mut BytesMut, topic: &str, bodies: &[&[u8]]) {
    line(out, &[b"MPUB", topic.as_bytes()]);
    let bytes: usize = bodies.iter().map(|body| body.len() + 4).sum();
    out.reserve(bytes + BATCH_HEAD_BYTES);
    out.put_u32(size(bytes + 4));
    out.put_u32(size(bodies.len()));
    for message in bodies {
        body(out, message);
    }
}

/// A message that is delivered after so many milliseconds.
pub(in crate::queue::nsq) fn dpub(out: &mut BytesMut, topic: &str, millis: u64, message: &[u8]) {
    line(out, &[b"DPUB", topic.as_bytes(), millis.to_string().as_bytes()]);
    body(out, message);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: MessageId = MessageId(*b"0d5a7c3f9b1e2468");

    #[test]
    fn commands_are_as_the_protocol_has_them() {
        let written = |write: &dyn Fn(&mut BytesMut)| {
            let mut out = BytesMut::new();
            write(&mut out);
            out.to_vec()
        };
        for (found, expected) in [
            (written(&|out| identify(out, b"{}")), &b"IDENTIFY\n\0\0\0\x02{}"[..]),
            (written(&|out| auth(out, "s")), b"AUTH\n\0\0\0\x01s"),
            (written(&|out| sub(out, "t", "c")), b"SUB t c\n"),
            (written(&|out| rdy(out, 12)), b"RDY 12\n"),
            (written(&|out| fin(out, ID)), b"FIN 0d5a7c3f9b1e2468\n"),
            (written(&|out| req(out, ID, 1_500)), b"REQ 0d5a7c3f9b1e2468 1500\n"),
            (written(&|out| touch(out, ID)), b"TOUCH 0d5a7c3f9b1e2468\n"),
            (written(&|out| mpub(out, "t", &[b"ab", b"c"])), b"MPUB t\n\0\0\0\x0f\0\0\0\x02\0\0\0\x02ab\0\0\0\x01c"),
            (written(&|out| dpub(out, "t", 700, b"ab")), b"DPUB t 700\n\0\0\0\x02ab"),
        ] {
            assert_eq!(String::from_utf8_lossy(&found), String::from_utf8_lossy(expected));
        }
    }
}
