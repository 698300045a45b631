//! Asking the server for as many as pulls ask for: a consumer for what is missing, beside those that there are.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream;
use lapin::Consumer;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;

use super::problem::{ACCESS_REFUSED, NOT_FOUND, Problem, code, said};
use super::reader::{RELAYED_MAX, Reading, Said, Streams};
use super::subscription::Session;

/// Consumers of one channel that are each as large as is asked for; each costs the server something.
const CONSUMERS: usize = 4;

/// Most that the server can be asked for.
const PREFETCH_MAX: usize = 65_535;

/// How long a queue may take to answer: one that has lost its leader does not.
const ASK_MAX: Duration = Duration::from_secs(15);

impl Reading<'_> {
    /// Asks the server for as many as pulls ask for.
    pub(super) async fn ask(&mut self, session: &Session, passing: usize, streams: &mut Streams) -> Result<(), Problem> {
        let subscription = &self.subscription;
        let missing = match subscription.is_relay {
            true => RELAYED_MAX.saturating_sub(subscription.held() + passing),
            false => {
                // Counted before: both look into the inbox, and a look is not over before its statement is.
                let lost = subscription.still_lost(session.number);
                subscription.inbox.hold().missing() + lost
            }
        };
        if missing == 0 || subscription.inbox.ended.is_cancelled() {
            return Ok(());
        }
        let mut consumers = session.consumers.lock().await;
        if consumers.prefetch >= subscription.held() + passing + missing {
            return Ok(());
        }
        let held = subscription.held_by(session.number, consumers.asking) + passing;
        let most = subscription.window.load(Ordering::Relaxed).clamp(1, PREFETCH_MAX) + passing;
        let more = more(Asked { held, missing, prefetch: consumers.prefetch, consumers: consumers.tags.len() }, most);
        if more == 0 {
            return Ok(());
        }
        let prefetch = u16::try_from(more).unwrap_or(u16::MAX);
        let consumer = match tokio::time::timeout(ASK_MAX, consume(session, &subscription.queue, prefetch)).await {
            Ok(consumer) => consumer.map_err(|error| self.refused(&error))?,
            Err(_) => {
                let (url, queue) = (self.shared.shown(), &subscription.queue);
                return Err(Problem::Away(format!(
                    "`{url}`: queue `{queue}` does not answer [it may have no leader: rabbitmqctl list_queues name state]"
                )));
            }
        };
        session.answered.get_or_init(Instant::now);
        let (tag, asking) = (consumer.tag(), consumers.asking);
        consumers.tags.push(tag.clone());
        consumers.prefetch += more;
        drop(consumers);
        *self.failures = 0;
        let came = consumer.map(move |came| match came {
            Ok(came) => Said::Came(Box::new(came), asking),
            Err(error) => Said::Failed(error),
        });
        streams.push(came.chain(stream::once(std::future::ready(Said::Ended(tag)))).boxed());
        Ok(())
    }

    pub(super) fn refused(&self, error: &lapin::Error) -> Problem {
        let queue = &self.subscription.queue;
        match code(error) {
            Some(ACCESS_REFUSED) => Problem::Refused(format!(
                "`{}`: this user may not read queue `{queue}`: {} [rabbitmqctl set_permissions]",
                self.shared.shown(),
                said(error)
            )),
            Some(NOT_FOUND) => {
                // It was deleted: it is made again.
                self.subscription.made_by.store(0, Ordering::Release);
                Problem::Away(format!("`{}`: queue `{queue}` was deleted", self.shared.shown()))
            }
            _ => self.shared.problem(error),
        }
    }
}

async fn consume(session: &Session, queue: &str, prefetch: u16) -> lapin::Result<Consumer> {
    session.channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    session.channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default()).await
}

/// What is asked for, and what came of it.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// Here, in the way of more.
    held: usize,
    /// What pulls ask for beyond what has come.
    missing: usize,
    /// What the server sends before some are settled.
    prefetch: usize,
    consumers: usize,
}

/// How many more the server is to send: as many as are missing; once there are several consumers, as many as there are already.
fn more(asked: Asked, most: usize) -> usize {
    let room = most.saturating_sub(asked.prefetch);
    match (asked.held + asked.missing).min(most).saturating_sub(asked.prefetch) {
        0 => 0,
        more if asked.consumers < CONSUMERS => more,
        more => more.max(asked.prefetch).min(room),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_asked_for_as_are_missing() {
        for (held, missing, prefetch, consumers, expected) in
            [(0, 16, 0, 0, 16), (16, 4, 16, 1, 4), (10, 4, 16, 1, 0), (16, 1, 16, 4, 16), (96, 8, 96, 5, 4), (100, 8, 100, 5, 0)]
        {
            let asked = Asked { held, missing, prefetch, consumers };
            assert_eq!(more(asked, 100), expected, "{asked:?}");
        }
    }
}
