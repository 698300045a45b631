//! The connection of one subscription to one `nsqd`: what comes by it, and how it is left.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::client::Problem;
use super::client::command;
use super::client::connection::{Connection, Reader};
use super::client::frame::{Frame, Message};
use super::client::identify::silence;
use super::client::refusal::Meaning;
use super::line::{Feed, Line};
use super::message::{self, position, server_number};
use super::shared::Shared;
use super::subscription::{Subscription, Token};
use super::tries::{Arrival, arrival};
use crate::clock;
use crate::queue::{Delivery, Position};

/// How long a server may take to say that no more messages come.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(1);

/// How long it may then take to read what is given back.
const GOODBYE_MAX: Duration = Duration::from_secs(2);

/// One line of a subscription, and what it is about.
pub(super) struct Consumer {
    pub(super) shared: Arc<Shared>,
    pub(super) subscription: Arc<Subscription>,
    pub(super) line: Arc<Line>,
}

impl Consumer {
    /// Keeps the connection until its line has ended.
    pub(super) async fn keep(self) {
        let mut failures = 0;
        loop {
            let made = self.line.ended.run_until_cancelled(self.open()).await;
            let problem = match made {
                None => return,
                Some(Err(problem)) => problem,
                Some(Ok(connection)) => {
                    failures = 0;
                    let feed = Arc::new(Feed::new(&connection.negotiated));
                    let ended = self.session(connection, &feed).await;
                    feed.wire.close();
                    self.subscription.lost(&feed, self.shared.beat());
                    match ended {
                        Ok(()) => return,
                        Err(problem) => problem,
                    }
                }
            };
            failures += 1;
            tracing::debug!(server = %self.line.address, channel = %self.subscription.channel, error = %problem, "nsqd is away, connecting again");
            self.line.down(problem.clone());
            self.subscription.tell(&problem);
            if !self.line.pause(failures).await {
                return;
            }
        }
    }

    async fn open(&self) -> Result<Connection, Problem> {
        let mut connection = Connection::open(&self.line.address, &self.shared.manner).await?;
        let mut out = BytesMut::new();
        command::sub(&mut out, &self.shared.url.topic, &self.subscription.channel);
        connection.call(&out).await?;
        self.shared.learn(&connection.negotiated);
        Ok(connection)
    }

    /// Until the connection is lost, or, fine, has been left.
    async fn session(&self, connection: Connection, feed: &Arc<Feed>) -> Result<(), Problem> {
        let (mut reader, mut writer) = connection.split();
        self.line.up(feed);
        self.subscription.steer();
        let mut writing = pin!(feed.wire.write_to(&mut writer, silence(self.shared.manner.lease)));
        {
            let mut receiving = pin!(self.receive(feed, &mut reader));
            let leaving = async {
                self.line.ended.cancelled().await;
                feed.wire.put(|out| out.extend_from_slice(command::CLS));
                tokio::time::sleep(CLOSE_WAIT_MAX).await;
            };
            tokio::select! {
                received = &mut receiving => received?,
                () = leaving => {}
                written = &mut writing => return written.and(Err(Problem::Away("the connection ended".to_owned()))),
            }
        }
        // No more comes. What is here goes back, and the server reads that to its end before it closes the connection.
        let back = async {
            self.subscription.give_back(&self.shared, |token| Arc::ptr_eq(&token.feed, feed)).await;
            feed.wire.finish();
            while reader.frames().await.is_ok() {}
        };
        // What was not read by then lapses.
        let _ = tokio::time::timeout(GOODBYE_MAX, futures_util::future::join(writing, back)).await;
        Ok(())
    }

    /// Takes in what comes, until the server says that nothing follows.
    async fn receive(&self, feed: &Arc<Feed>, reader: &mut Reader) -> Result<(), Problem> {
        loop {
            let frames = reader.frames().await?;
            feed.wire.hear();
            let (mut messages, mut last) = (Vec::new(), false);
            for frame in frames {
                match frame {
                    Frame::Heartbeat => {
                        feed.wire.put(|out| out.extend_from_slice(command::NOP));
                    }
                    Frame::Message(message) => messages.push(message),
                    Frame::Error(refusal) if refusal.meaning() == Meaning::Gone => self.gone(feed, &refusal),
                    Frame::Error(refusal) => return Err(Problem::Refused(refusal)),
                    Frame::CloseWait => last = true,
                    Frame::Response(_) => {}
                }
            }
            if !messages.is_empty() {
                self.arrive(feed, messages).await;
            }
            if last {
                return Ok(());
            }
        }
    }

    /// A message is not ours any more. After FIN and REQ it comes again, and what is remembered of it says how it goes on.
    fn gone(&self, feed: &Arc<Feed>, refusal: &super::client::refusal::Refusal) {
        tracing::debug!(server = %self.line.address, channel = %self.subscription.channel, error = %refusal, "a message came to its time-out");
        if refusal.code == "E_TOUCH_FAILED"
            && let Some(id) = refusal.message()
        {
            self.subscription.lapse(|held| held.token.id == id && Arc::ptr_eq(&held.token.feed, feed));
        }
    }

    /// Messages become deliveries; what came early, or was acknowledged before, does not.
    async fn arrive(&self, feed: &Arc<Feed>, messages: Vec<Message>) {
        let renewed = Instant::now();
        feed.came(messages.len());
        self.subscription.stir();
        let server = server_number(&self.line.address);
        let positions: Vec<(Position, u16)> =
            messages.iter().map(|message| (position(server, message.id), message.attempts)).collect();
        let notes = self.subscription.notes(&self.shared, &positions).await;
        let (now, mut out, mut came) = (clock::now(), BytesMut::new(), Vec::with_capacity(messages.len()));
        for ((message, (position, _)), note) in messages.into_iter().zip(positions).zip(notes) {
            if self.subscription.memory().is_acked(position) {
                command::fin(&mut out, message.id);
                feed.left(1);
                continue;
            }
            let (event, due) = message::event(&self.line.address, &message, &self.shared.wrapping);
            match arrival(message.attempts, note, due, now) {
                Arrival::Waits(wait, note) => {
                    command::req(&mut out, message.id, self.shared.request_millis(wait));
                    feed.left(1);
                    self.subscription.memory().note(position, note);
                }
                Arrival::Runs(tries) => {
                    let first_seen = message::published(&message).max(due.unwrap_or_default());
                    let token = Token {
                        feed: Arc::clone(feed),
                        id: message.id,
                        position,
                        delivered: message.attempts,
                        noted: note,
                        since: renewed,
                    };
                    came.push((Delivery { event: Arc::new(event), position, tries, first_seen }, token));
                }
            }
        }
        if !out.is_empty() {
            feed.wire.put(|waiting| waiting.unsplit(out));
        }
        // Still ours from a delivery before this one: that one is over.
        let replaced = self.subscription.inbox.replace(Instant::now(), came);
        replaced.iter().for_each(|token| token.feed.left(1));
        self.subscription.steer();
    }
}
