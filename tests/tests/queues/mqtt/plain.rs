//! A client of a few bytes, for what other programs do: publish what is no event, with and without acknowledgement, and retained.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};

/// A connection without a session.
pub(super) struct Plain {
    stream: TcpStream,
}

impl Plain {
    pub(super) fn connect(port: u16) -> Self {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        // MQTT 5, clean start, keep-alive of a minute, no properties; the broker names us.
        let mut body = text("MQTT");
        body.extend([5, 2, 0, 60, 0]);
        body.extend(text(""));
        send(&mut stream, 0x10, &body);
        let mut plain = Self { stream };
        assert_eq!(plain.answer().0, 0x20, "a CONNACK");
        plain
    }

    /// With QoS 1; waits for the acknowledgement.
    pub(super) fn publish(&mut self, topic: &str, body: &[u8], retain: bool) {
        let message = [&text(topic), &[0, 1, 0][..], body].concat();
        send(&mut self.stream, 0x32 | u8::from(retain), &message);
        assert_eq!(self.answer().0, 0x40, "a PUBACK");
    }

    /// With QoS 0.
    pub(super) fn send_off(&mut self, topic: &str, body: &[u8]) {
        let message = [&text(topic), &[0][..], body].concat();
        send(&mut self.stream, 0x30, &message);
    }

    fn answer(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).unwrap();
        let mut body = vec![0; usize::from(head[1])];
        self.stream.read_exact(&mut body).unwrap();
        (head[0], body)
    }
}

fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
}

fn send(stream: &mut TcpStream, kind: u8, body: &[u8]) {
    assert!(body.len() < 128, "its length is one byte");
    stream.write_all(&[&[kind, u8::try_from(body.len()).unwrap()], body].concat()).unwrap();
}
