//! A connection to an `nsqd`: made, secured and introduced. What is then said over it is the caller's.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::Problem;
use super::command;
use super::frame::{self, Frame};
use super::identify::{Identify, Negotiated, silence};
use crate::config::Secret;

/// Longest time until a connection can be used: reached, secured, introduced.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// What is read at once, at least: some hundred small messages.
const READ_BYTES: usize = 64 * 1024;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Host name or address, IPv6 without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{open}{}{close}:{}", self.host, self.port)
    }
}

/// How to introduce ourselves.
#[derive(Clone)]
pub(in crate::queue::nsq) struct Manner {
    /// Our name among others.
    pub(in crate::queue::nsq) process: String,
    /// How long a message is ours without being touched.
    pub(in crate::queue::nsq) lease: Duration,
    /// What to say where a secret is asked for.
    pub(in crate::queue::nsq) secret: Option<Secret>,
    /// How to secure the connection; none: it is not.
    pub(in crate::queue::nsq) tls: Option<Arc<ClientConfig>>,
}

/// A connection, secured or not.
pub(in crate::queue::nsq) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection that can be used.
pub(in crate::queue::nsq) struct Connection {
    stream: Box<dyn Stream>,
    read: BytesMut,
    silence: Duration,
    /// What its server said of itself.
    pub(in crate::queue::nsq) negotiated: Negotiated,
}

/// The half that is read.
pub(in crate::queue::nsq) struct Reader {
    half: ReadHalf<Box<dyn Stream>>,
    read: BytesMut,
    silence: Duration,
}

/// The half that is written.
pub(in crate::queue::nsq) type Writer = WriteHalf<Box<dyn Stream>>;

impl Connection {
    /// Connects.
    pub(in crate::queue::nsq) async fn open(address: &Address, manner: &Manner) -> Result<Self, Problem> {
        match timeout(CONNECT_MAX, Self::opened(address, manner)).await {
            Ok(opened) => opened,
            Err(_) => Err(Problem::Away(format!("{address} does not answer within {CONNECT_MAX:?}"))),
        }
    }

    async fn opened(address: &Address, manner: &Manner) -> Result<Self, Problem> {
        let away = |error: std::io::Error| Problem::Away(format!("{address}: {error}"));
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(away)?;
        // Commands are small, and sent many at once where there are many.
        let _ = stream.set_nodelay(true);
        let (silence, negotiated) = (silence(manner.lease), Negotiated::default());
        let mut opened = Self { stream: Box::new(stream), read: BytesMut::new(), silence, negotiated };
        opened.introduce(address, manner).await?;
        Ok(opened)
    }

    async fn introduce(&mut self, address: &Address, manner: &Manner) -> Result<(), Problem> {
        let asked = Identify::new(&manner.process, manner.lease, manner.tls.is_some());
        let asked = serde_json::to_vec(&asked).map_err(|error| Problem::Unfit(error.to_string()))?;
        let mut out = BytesMut::from(command::MAGIC);
        command::identify(&mut out, &asked);
        let answer = self.call(&out).await?;
        // A server from before negotiation answers `OK`.
        self.negotiated = serde_json::from_slice(&answer).unwrap_or_default();
        if let Some(config) = &manner.tls {
            if !self.negotiated.tls_v1 {
                return Err(Problem::Unfit(format!("{address} offers no TLS [its `-tls-cert` and `-tls-key`, or no `tls=`]")));
            }
            self.secure(address, config).await?;
        }
        if self.negotiated.auth_required {
            let Some(Secret(secret)) = &manner.secret else {
                return Err(Problem::Unfit(format!(
                    "{address} asks for a secret [write it into the URL, as in `nsq://:${{NSQ_SECRET}}@host:4150/topic`]"
                )));
            };
            let mut out = BytesMut::new();
            command::auth(&mut out, secret);
            self.call(&out).await?;
        }
        Ok(())
    }

    async fn secure(&mut self, address: &Address, config: &Arc<ClientConfig>) -> Result<(), Problem> {
        let name = ServerName::try_from(address.host.clone()).map_err(|error| Problem::Unfit(format!("{address}: {error}")))?;
        let plain = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        let secured = TlsConnector::from(Arc::clone(config)).connect(name, plain).await;
        let secured = secured.map_err(|error| match error.kind() {
            // What the other side, or its certificate, is: it stays so.
            std::io::ErrorKind::InvalidData => Problem::Unfit(format!("no TLS with {address}: {error}")),
            _ => Problem::Away(format!("no TLS with {address}: {error}")),
        })?;
        self.stream = Box::new(secured);
        match self.next().await? {
            Frame::Response(_) => Ok(()),
            other => Err(Problem::Away(format!("{address} answers TLS with {other:?}"))),
        }
    }

    /// Sends a command, and waits for its answer.
    pub(in crate::queue::nsq) async fn call(&mut self, command: &[u8]) -> Result<Bytes, Problem> {
        self.write(command).await?;
        loop {
            match self.next().await? {
                Frame::Response(answer) => return Ok(answer),
                Frame::Error(refusal) => return Err(Problem::Refused(refusal)),
                Frame::Heartbeat => self.write(command::NOP).await?,
                Frame::CloseWait | Frame::Message(_) => {}
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let written = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        written.await.map_err(lost)
    }

    async fn next(&mut self) -> Result<Frame, Problem> {
        loop {
            if let Some(frame) = frame::take(&mut self.read).map_err(|malformed| Problem::Away(malformed.0))? {
                return Ok(frame);
            }
            if self.stream.read_buf(&mut self.read).await.map_err(lost)? == 0 {
                return Err(closed());
            }
        }
    }

    /// Its two directions: neither waits for the other, or both sides could wait to be read.
    pub(in crate::queue::nsq) fn split(self) -> (Reader, Writer) {
        let (half, writer) = tokio::io::split(self.stream);
        (Reader { half, read: self.read, silence: self.silence }, writer)
    }
}

impl Reader {
    /// What came: at least one frame. Cancel-safe.
    pub(in crate::queue::nsq) async fn frames(&mut self) -> Result<Vec<Frame>, Problem> {
        loop {
            let mut frames = Vec::new();
            while let Some(frame) = frame::take(&mut self.read).map_err(|malformed| Problem::Away(malformed.0))? {
                frames.push(frame);
            }
            if !frames.is_empty() {
                return Ok(frames);
            }
            self.read.reserve(READ_BYTES);
            match timeout(self.silence, self.half.read_buf(&mut self.read)).await {
                Err(_) => return Err(Problem::Away(format!("nothing was heard for {:?}, not even a heartbeat", self.silence))),
                Ok(Err(error)) => return Err(lost(error)),
                Ok(Ok(0)) => return Err(closed()),
                Ok(Ok(_)) => {}
            }
        }
    }
}

fn lost(error: std::io::Error) -> Problem {
    Problem::Away(format!("the connection was lost: {error}"))
}

fn closed() -> Problem {
    Problem::Away("the server closed the connection".to_owned())
}
