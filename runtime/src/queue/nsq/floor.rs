//! The bare client that a topic is measured against (`weir bench`): our own, as there is no other, and nothing of Weir above it. Its events
//! are counted and not looked at.
//!
//! One connection with an RDY of as many as Weir may have at once, and FIN for each message as it comes.

use bytes::BytesMut;
use http::{Method, StatusCode};
use tokio::io::AsyncWriteExt as _;
use tokio::runtime::{Builder, Runtime};

use super::client::Problem;
use super::client::command;
use super::client::connection::{Connection, Manner};
use super::client::frame::Frame;
use super::client::http::ask;
use super::url::NsqUrl;
use crate::event::{Event, json};
use crate::queue::QueueError;
use crate::queue::floor::Floor;

/// Bytes of one publish when a topic is filled: servers take 5 MiB unless they are told otherwise.
const FILL_BYTES: usize = 1 << 20;

/// Messages of one publish.
const FILL: usize = 500;

const CHANNEL: &str = "client";

/// A plain client, which connects anew each time it is asked for something.
pub(in crate::queue) struct NsqFloor {
    runtime: Runtime,
    manner: Manner,
    /// Its own topic.
    url: NsqUrl,
    /// The topic beside it.
    queue: String,
}

/// Makes a topic with a channel; and the URL of one beside it, on the first of the servers.
pub(in crate::queue) fn open(url: &NsqUrl) -> Result<(NsqUrl, NsqFloor), QueueError> {
    if url.lookup {
        return Err(QueueError::Invalid(format!("{url}: it does not say on which `nsqd` (name one: `nsq://HOST:4150/TOPIC`)")));
    }
    let own = crate::clock::id().simple().to_string();
    let on_first = |name: &str| {
        let (mut servers, mut http) = (url.servers.clone(), url.http.clone());
        servers.truncate(1);
        http.truncate(1);
        NsqUrl { topic: format!("weir-bench-{own}-{name}"), servers, http, ..url.clone() }
    };
    let (fresh, url) = (on_first("queue"), on_first("client"));
    let made = Builder::new_current_thread().enable_all().build();
    let runtime = made.map_err(|error| QueueError::Unavailable(format!("no runtime could be made: {error}")))?;
    let manner = runtime.block_on(super::manner(&url, "bench"))?;
    let mut floor = NsqFloor { runtime, manner, url, queue: fresh.topic.clone() };
    // What is published is kept for a channel that is there.
    floor.run(0, 1)?;
    Ok((fresh, floor))
}

impl NsqFloor {
    async fn connect(&self) -> Result<Connection, Problem> {
        let server = self.url.servers.first().ok_or_else(|| Problem::Unfit("no server is named".to_owned()))?;
        Connection::open(server, &self.manner).await
    }

    async fn filled(&self, event: &Event, count: u64) -> Result<(), Problem> {
        let mut connection = self.connect().await?;
        let text = json::write(event);
        let mut left = usize::try_from(count).unwrap_or(usize::MAX);
        let some = (FILL_BYTES / text.len().max(1)).clamp(1, FILL);
        while left > 0 {
            let bodies = vec![text.as_slice(); some.min(left)];
            let mut out = BytesMut::new();
            command::mpub(&mut out, &self.url.topic, &bodies);
            connection.call(&out).await?;
            left -= bodies.len();
        }
        Ok(())
    }

    async fn read(&self, count: u64, at_once: usize) -> Result<(), Problem> {
        let mut connection = self.connect().await?;
        let mut out = BytesMut::new();
        command::sub(&mut out, &self.url.topic, CHANNEL);
        connection.call(&out).await?;
        let ready = at_once.min(connection.negotiated.max_rdy_count);
        let (mut reader, mut writer) = connection.split();
        out.clear();
        let mut left = count;
        if left > 0 {
            command::rdy(&mut out, ready);
        }
        let mut leaving = false;
        loop {
            if left == 0 && !leaving {
                // It is answered when everything before it was read.
                out.extend_from_slice(command::CLS);
                leaving = true;
            }
            let written = async {
                writer.write_all(&out).await?;
                writer.flush().await
            };
            written.await.map_err(|error: std::io::Error| Problem::Away(error.to_string()))?;
            out.clear();
            for frame in reader.frames().await? {
                match frame {
                    Frame::Message(message) => {
                        command::fin(&mut out, message.id);
                        left = left.saturating_sub(1);
                    }
                    Frame::Heartbeat => out.extend_from_slice(command::NOP),
                    Frame::Error(refusal) => return Err(Problem::Refused(refusal)),
                    Frame::CloseWait => return Ok(()),
                    Frame::Response(_) => {}
                }
            }
        }
    }

    async fn removed(&self) -> Result<(), QueueError> {
        let topics = [&self.url.topic, &self.queue];
        let Some(http) = self.url.http.first() else {
            let topics = topics.map(String::as_str).join("`, `");
            tracing::warn!("topics `{topics}` stay on the server [name where it answers HTTP: `http=HOST:4151`]");
            return Ok(());
        };
        for topic in topics {
            match ask(Method::POST, http, &format!("/topic/delete?topic={topic}")).await {
                // Nothing was published to it.
                Ok((StatusCode::OK | StatusCode::NOT_FOUND, _)) => {}
                Ok((status, _)) => return Err(QueueError::Unavailable(format!("http://{http} answers {status}"))),
                Err(error) => return Err(QueueError::Unavailable(error)),
            }
        }
        Ok(())
    }
}

impl Floor for NsqFloor {
    fn fill(&mut self, event: &Event, count: u64) -> Result<(), QueueError> {
        Ok(self.runtime.block_on(self.filled(event, count))?)
    }

    fn run(&mut self, count: u64, at_once: usize) -> Result<(), QueueError> {
        Ok(self.runtime.block_on(self.read(count, at_once))?)
    }

    fn remove(&mut self) -> Result<(), QueueError> {
        self.runtime.block_on(self.removed())
    }
}
