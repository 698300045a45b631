//! Publishing with confirms: one task has the channel, gathers what has come, sends it and waits until all of it is confirmed.
//!
//! One gathering at a time: the server returns what it can't route before it confirms it, and the client, when several are confirmed by
//! one answer, hands a returned message out with any of them. Once all are confirmed, each returned one is known by its own id.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, Error, PublisherConfirm};
use tokio::sync::{mpsc, oneshot};

use super::link::{Live, backoff};
use super::message::Message;
use super::problem::{ACCESS_REFUSED, PRECONDITION_FAILED, Problem, code, said, size_bound};
use super::shared::Shared;

/// Callers that may wait to be gathered: more wait to become one of them.
pub(super) const JOBS_MAX: usize = 64;

/// Messages, and their bytes, of one gathering: what is sent and not confirmed is all that a lost connection leaves open.
const GATHER: (usize, usize) = (1_000, 16 << 20);

/// Longest wait for the server to confirm.
const CONFIRM_MAX: Duration = Duration::from_secs(20);

/// A message, and where to.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    /// The exchange; empty: the queue that the key names.
    pub(super) exchange: String,
    pub(super) key: String,
    pub(super) message: Message,
}

/// What became of each message.
type Answers = Vec<Result<(), Problem>>;

/// Messages of one caller.
pub(super) struct Job {
    batch: Vec<Outgoing>,
    answer: oneshot::Sender<Answers>,
}

impl Shared {
    /// Sends messages; what became of each, once the server has it, or not.
    pub(super) async fn send(&self, batch: Vec<Outgoing>) -> Result<Answers, Problem> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let live = self.publishing.up()?;
        if let Some(reason) = &*live.blocked.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(Problem::Away(format!("`{}`: the server takes no messages at the moment: {reason}", self.shown())));
        }
        let bound = self.message_max.load(Ordering::Relaxed);
        let largest = batch.iter().map(|outgoing| outgoing.message.body.len() as u64).max().unwrap_or_default();
        if largest > bound {
            return Err(Problem::TooLarge { size: largest, bound });
        }
        let (answer, answered) = oneshot::channel();
        let lost = || Problem::Away(format!("`{}`: the connection was lost before the messages were confirmed", self.shown()));
        self.jobs.send(Job { batch, answer }).await.map_err(|_| lost())?;
        answered.await.map_err(|_| lost())
    }

    /// Sends what comes until the queue is closed.
    pub(super) async fn publish_jobs(&self, mut jobs: mpsc::Receiver<Job>) {
        let mut failures = 0;
        loop {
            let live = tokio::select! {
                live = self.publishing.wait() => live,
                Some(job) = jobs.recv() => {
                    // Who asks while it is away is told so; this one asked just before.
                    let problem = self.publishing.up().err().unwrap_or_else(|| Problem::Away("not connected".to_owned()));
                    answer_all(vec![job], &problem);
                    continue;
                }
                () = self.over.cancelled() => return,
            };
            if let Ok(channel) = confirming(&live).await {
                failures = 0;
                tokio::select! {
                    () = self.publish_on(&channel, &mut jobs) => {}
                    () = self.publishing.lost(&live) => {}
                    () = self.over.cancelled() => return,
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff(failures, fastrand::f64())) => {}
                () = self.over.cancelled() => return,
            }
            failures += 1;
        }
    }

    /// Sends what comes until the channel can't be used any more.
    async fn publish_on(&self, channel: &Channel, jobs: &mut mpsc::Receiver<Job>) {
        while let Some(first) = jobs.recv().await {
            let (mut count, mut bytes) = first.size();
            let mut gathered = vec![first];
            while count < GATHER.0 && bytes < GATHER.1 {
                let Ok(job) = jobs.try_recv() else { break };
                let size = job.size();
                (count, bytes) = (count + size.0, bytes + size.1);
                gathered.push(job);
            }
            match tokio::time::timeout(CONFIRM_MAX, self.publish_gathered(channel, &gathered)).await {
                Ok(answers) => {
                    let mut answers = answers.into_iter();
                    for job in gathered {
                        // Who asked may have gone.
                        let _ = job.answer.send(answers.by_ref().take(job.batch.len()).collect());
                    }
                }
                Err(_) => {
                    answer_all(gathered, &Problem::Away(format!("`{}`: the server does not confirm messages", self.shown())));
                    return;
                }
            }
            if !channel.status().connected() {
                return;
            }
        }
    }

    async fn publish_gathered(&self, channel: &Channel, gathered: &[Job]) -> Answers {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let all: Vec<&Outgoing> = gathered.iter().flat_map(|job| &job.batch).collect();
        let mut confirms = Vec::with_capacity(all.len());
        for outgoing in &all {
            let Outgoing { exchange, key, message } = outgoing;
            let (exchange, key) = (exchange.as_str().into(), key.as_str().into());
            confirms.push(channel.basic_publish(exchange, key, options, &message.body, message.properties.clone()).await);
        }
        let confirmed = join_all(confirms.into_iter().map(confirmed)).await;
        let returned: HashMap<String, String> =
            confirmed.iter().filter_map(|confirmation| returned(confirmation.as_ref().ok()?)).collect();
        let fates = all.iter().zip(&confirmed);
        fates.map(|(outgoing, fate)| self.fate(outgoing, fate, &returned)).collect()
    }

    fn fate(
        &self,
        outgoing: &Outgoing,
        fate: &lapin::Result<Confirmation>,
        returned: &HashMap<String, String>,
    ) -> Result<(), Problem> {
        let id = outgoing.message.properties.message_id().as_ref().map_or("", |id| id.as_str());
        match (fate, returned.get(id)) {
            (Err(error), _) => Err(self.refused(outgoing, error)),
            (Ok(_), Some(why)) => Err(self.unroutable(outgoing, why)),
            (Ok(Confirmation::Ack(_)), None) => Ok(()),
            (Ok(_), None) => Err(Problem::Away(format!(
                "`{}`: the server did not take a message [a queue that it goes to is full, or the server could not write it]",
                self.shown()
            ))),
        }
    }

    fn unroutable(&self, outgoing: &Outgoing, why: &str) -> Problem {
        let Outgoing { exchange, key, .. } = outgoing;
        Problem::Away(match exchange.as_str() {
            "" => format!("`{}`: there is no queue `{key}` any more ({why})", self.shown()),
            exchange => format!(
                "`{}`: no queue is bound to exchange `{exchange}` for the routing key `{key}` ({why}) [bind one, or set `publish-key=`]",
                self.shown()
            ),
        })
    }

    /// Why a message was not taken when the channel was ended: by it, or by another one.
    fn refused(&self, outgoing: &Outgoing, error: &Error) -> Problem {
        let (said, size) = (said(error), outgoing.message.body.len() as u64);
        let to = if outgoing.exchange.is_empty() { "amq.default" } else { outgoing.exchange.as_str() };
        match (code(error), size_bound(&said)) {
            (Some(PRECONDITION_FAILED), Some(bound)) => {
                self.message_max.store(bound, Ordering::Relaxed);
                match size > bound {
                    true => Problem::TooLarge { size, bound },
                    false => Problem::Away(format!("`{}`: sent with a message that is too large ({said})", self.shown())),
                }
            }
            (Some(ACCESS_REFUSED), _) if said.contains(&format!("'{to}'")) => Problem::Refused(format!(
                "`{}`: this user may not write to exchange `{to}`: {said} [rabbitmqctl set_permissions]",
                self.shown()
            )),
            _ => Problem::Away(format!("`{}`: {said}", self.shown())),
        }
    }
}

impl Job {
    /// Messages and bytes.
    fn size(&self) -> (usize, usize) {
        (self.batch.len(), self.batch.iter().map(|outgoing| outgoing.message.body.len()).sum())
    }
}

async fn confirming(live: &Live) -> Result<Channel, Error> {
    let channel = live.channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

async fn confirmed(sent: lapin::Result<PublisherConfirm>) -> lapin::Result<Confirmation> {
    sent?.await
}

/// The id of a message that came back, and why.
fn returned(confirmation: &Confirmation) -> Option<(String, String)> {
    let (Confirmation::Ack(Some(back)) | Confirmation::Nack(Some(back))) = confirmation else { return None };
    let id = back.properties.message_id().as_ref().map_or("", |id| id.as_str());
    Some((id.to_owned(), back.reply_text.as_str().to_owned()))
}

fn answer_all(jobs: Vec<Job>, problem: &Problem) {
    for job in jobs {
        let answers = job.batch.iter().map(|_| Err(problem.clone())).collect();
        // Who asked may have gone.
        let _ = job.answer.send(answers);
    }
}
