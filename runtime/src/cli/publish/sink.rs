//! Where published events go: a server's route, or a queue that this process has opened.

use std::sync::Arc;
use std::time::Duration;

use crate::cli::client::Client;
use crate::cli::direct::{self, Direct};
use crate::cli::output::CliError;
use crate::clock;
use crate::event::{Event, json};
use crate::queue::QueueError;
use crate::source::http::Accepted;
use crate::source::structured;

/// Where events go.
pub(in crate::cli) struct Sink {
    queue: String,
    way: Way,
}

enum Way {
    Server(Client),
    Direct(Direct),
}

/// A batch that was not accepted.
pub(in crate::cli) struct Stopped {
    /// Why.
    pub(in crate::cli) error: CliError,
    /// Which event is to blame, from 0.
    pub(in crate::cli) index: Option<usize>,
    /// Whether it is certain that none of it was taken.
    pub(in crate::cli) none_taken: bool,
}

impl Sink {
    pub(in crate::cli) fn server(queue: &str, client: Client) -> Self {
        Self { queue: queue.to_owned(), way: Way::Server(client) }
    }

    pub(in crate::cli) fn direct(queue: &str, direct: Direct) -> Self {
        Self { queue: queue.to_owned(), way: Way::Direct(direct) }
    }

    /// Publishes a batch, all or none of it; when it answers ok, the queue holds it.
    pub(in crate::cli) fn publish(&self, events: &[Arc<Event>], delay: Option<Duration>) -> Result<(), Stopped> {
        match &self.way {
            Way::Direct(direct) => direct.publish(events, delay).map_err(|error| Stopped {
                none_taken: matches!(error, QueueError::Full { .. } | QueueError::NoRoom(_) | QueueError::TooLarge { .. }),
                error: direct::failure(&self.queue, &error),
                index: None,
            }),
            Way::Server(client) => self.post(client, events, delay),
        }
    }

    fn post(&self, client: &Client, events: &[Arc<Event>], delay: Option<Duration>) -> Result<(), Stopped> {
        let lost = |error| Stopped { error, index: None, none_taken: false };
        let query = delay.map(|delay| format!("?delay={}ms", clock::millis(delay))).unwrap_or_default();
        let path =
            format!("/events/{}{query}", percent_encoding::utf8_percent_encode(&self.queue, percent_encoding::NON_ALPHANUMERIC));
        let (content_type, body) = match events {
            [event] => (structured::ONE, json::write(event)),
            _ => (structured::BATCH, batch(events)),
        };
        let reply = client.post(&path, content_type, &body).map_err(lost)?;
        if (400..500).contains(&reply.status) {
            return Err(Stopped { error: reply.failure(), index: reply.refused().index, none_taken: true });
        }
        let accepted: Accepted = reply.value().map_err(lost)?;
        if accepted.accepted == events.len() as u64 {
            return Ok(());
        }
        let text = format!("server accepted {} of {} events", accepted.accepted, events.len());
        Err(lost(CliError::Failed(text)))
    }
}

fn batch(events: &[Arc<Event>]) -> Vec<u8> {
    let mut body = vec![b'['];
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&json::write(event));
    }
    body.push(b']');
    body
}
