//! The stream and its consumers: found, made where that is allowed, or an error that says exactly what is missing.

use std::sync::atomic::Ordering;

use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy, FromConsumer as _, Info, PullConsumer, pull};
use async_nats::jetstream::context::{ConsumerInfoErrorKind, CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, ConsumerErrorKind, RetentionPolicy, Stream};
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::publish;
use super::shared::Shared;
use super::subscription::{Made, Subscription};
use crate::queue::nats::lock;
use crate::queue::{QueueError, Start, not_subscribed};

/// Consumers of a stream that are looked at, for its depth and for where a new one begins.
const CONSUMERS_MAX: usize = 1_000;

/// Messages of one request for more.
const READ_MAX: usize = 500;

/// What says that a stream is Weir's own: it is emptied of what all have ended. The value is for people.
const OWN: (&str, &str) = ("weir", "keeps an event until every consumer has ended it");

impl Shared {
    /// The stream; made if it is not there.
    pub(super) async fn stream(&self) -> Result<&Stream, QueueError> {
        self.server.check()?;
        self.stream.get_or_try_init(|| self.find_or_make_stream()).await
    }

    async fn find_or_make_stream(&self) -> Result<Stream, QueueError> {
        let (name, subject) = (&self.stream_name, &self.url.subject);
        let jetstream = &self.server.jetstream;
        match self.server.unless_refused(jetstream.get_stream(name)).await? {
            Ok(stream) => {
                let takes = &stream.cached_info().config.subjects;
                return match takes.is_empty() || takes.iter().any(|takes| overlap(takes, subject)) {
                    true => Ok(stream),
                    false => Err(self.server.invalid(format!(
                        "stream `{name}` does not take `{subject}` (it takes: `{}`) [add it: `nats stream edit {name} --subjects=…`]",
                        takes.join("`, `")
                    ))),
                };
            }
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(missing) if missing.code() == 404 => {}
                GetStreamErrorKind::JetStream(refused) => {
                    return Err(self.server.invalid(format!("stream `{name}`: {refused} [is JetStream on?]")));
                }
                _ => return Err(self.server.away(format!("stream `{name}`: {error} [is JetStream on?]"))),
            },
        }
        let how = format!("[make it: `nats stream add {name} --subjects='{subject}' --defaults`]");
        let made = self.server.unless_refused(jetstream.create_stream(self.stream_config())).await;
        let missing = |why: String| self.server.invalid(format!("stream `{name}` is not there and can't be made: {why} {how}"));
        match made {
            Ok(Ok(stream)) => {
                tracing::info!(queue = %self.name, stream = name, subject, "stream made");
                Ok(stream)
            }
            Ok(Err(error)) => match error.kind() {
                CreateStreamErrorKind::TimedOut | CreateStreamErrorKind::JetStreamUnavailable => {
                    Err(self.server.away(format!("stream `{name}`: {error}")))
                }
                _ => Err(missing(error.to_string())),
            },
            Err(refused) => Err(missing(refused.to_string())),
        }
    }

    fn stream_config(&self) -> Config {
        let schedules = self.server.client.is_server_compatible(2, 12, 0);
        let mut config = Config {
            name: self.stream_name.clone(),
            subjects: vec![self.url.subject.clone()],
            allow_message_schedules: schedules,
            allow_direct: true,
            ..Config::default()
        };
        if schedules {
            config.subjects.push(publish::delay_subject(&self.stream_name, ">"));
        }
        config.metadata.insert(OWN.0.to_owned(), OWN.1.to_owned());
        config
    }

    /// The consumer of a subscription; made if it is not there and the subscription was made by us, once.
    pub(super) async fn consumer(&self, subscription: &Subscription) -> Result<Made, QueueError> {
        if let Some(made) = *lock(&subscription.made) {
            return Ok(made);
        }
        let stream = self.stream().await?;
        let _turn = self.making.lock().await;
        if let Some(made) = *lock(&subscription.made) {
            return Ok(made);
        }
        let name = subscription.consumer.as_str();
        let infos = self.consumers(stream).await?;
        let config = match infos.iter().find(|info| info.name == name) {
            Some(info) => match self.adapted(&info.config).map_err(|found| self.refused(name, found))? {
                None => {
                    let most = info.config.max_batch;
                    return Ok(self.made(subscription, most));
                }
                Some(config) => config,
            },
            None => {
                let start = subscription.start.get().filter(|_| !subscription.made_once.load(Ordering::Relaxed));
                let Some(start) = start else { return Err(not_subscribed(&self.name, &subscription.name)) };
                let untouched = infos.iter().all(|info| info.ack_floor.consumer_sequence == 0);
                // What all others have ended is no history of a queue that keeps none.
                self.trim_to(stream, &infos).await;
                self.config(name, if untouched { Start::All } else { *start })
            }
        };
        let most = config.max_batch;
        let made = self.server.unless_refused(stream.create_consumer(config)).await;
        let refused = |why: String| {
            let ours = "--pull --ack=explicit --max-deliver=-1 --max-pending=-1";
            let how = format!("`nats consumer add {} {name} {ours} --wait={:?} --defaults`", self.stream_name, self.lease);
            let hint = match stream.cached_info().config.retention {
                RetentionPolicy::WorkQueue => "; the stream is a work queue, which one handler alone can read",
                _ => "",
            };
            self.server.invalid(format!("consumer `{name}` can't be made or changed: {why}{hint} [make it: {how}]"))
        };
        match made {
            Ok(Ok(made)) => {
                let _: PullConsumer = made;
                Ok(self.made(subscription, most))
            }
            Ok(Err(error)) => match error.kind() {
                ConsumerErrorKind::JetStream(_) | ConsumerErrorKind::InvalidConsumerType | ConsumerErrorKind::InvalidName => {
                    Err(refused(error.to_string()))
                }
                _ => Err(self.server.away(format!("consumer `{name}`: {error}"))),
            },
            Err(error) => Err(refused(error.to_string())),
        }
    }

    fn made(&self, subscription: &Subscription, most: i64) -> Made {
        let batch_max = usize::try_from(most).ok().filter(|most| *most > 0).map_or(READ_MAX, |most| most.min(READ_MAX));
        let made = Made { batch_max };
        *lock(&subscription.made) = Some(made);
        subscription.made_once.store(true, Ordering::Relaxed);
        made
    }

    fn config(&self, name: &str, start: Start) -> pull::Config {
        pull::Config {
            durable_name: Some(name.to_owned()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.lease,
            // How often is the handler's policy, not the server's.
            max_deliver: -1,
            // It counts over all processes: what each holds is bounded by its own room.
            max_ack_pending: -1,
            filter_subject: self.url.subject.clone(),
            deliver_policy: if start == Start::All { DeliverPolicy::All } else { DeliverPolicy::New },
            ..pull::Config::default()
        }
    }

    /// The settings that a consumer of another must have for us; none: it has them. An error says what can't be changed.
    fn adapted(&self, found: &consumer::Config) -> Result<Option<pull::Config>, &'static str> {
        if found.deliver_subject.is_some() {
            return Err("it is a push consumer");
        }
        if found.ack_policy != AckPolicy::Explicit {
            return Err("its messages are not acknowledged one by one");
        }
        let endless = found.max_deliver == -1 && found.max_ack_pending == -1;
        if endless && found.ack_wait == self.lease && found.backoff.is_empty() {
            return Ok(None);
        }
        let config = pull::Config::try_from_consumer_config(found.clone()).map_err(|_| "it is no pull consumer")?;
        Ok(Some(pull::Config { ack_wait: self.lease, max_deliver: -1, max_ack_pending: -1, backoff: Vec::new(), ..config }))
    }

    fn refused(&self, consumer: &str, found: &str) -> QueueError {
        self.server.invalid(format!(
            "consumer `{consumer}` of stream `{}` can't be used: {found} [expected a pull consumer with explicit acknowledgement]",
            self.stream_name
        ))
    }

    /// Its consumer is looked for again before the next request.
    pub(super) fn forget(&self, subscription: &Subscription) {
        *lock(&subscription.made) = None;
    }

    /// The durable consumers of a stream.
    pub(super) async fn consumers(&self, stream: &Stream) -> Result<Vec<Info>, QueueError> {
        let listed = stream.consumers().take(CONSUMERS_MAX).try_collect::<Vec<Info>>();
        let listed = self.server.unless_refused(listed).await?;
        let mut infos =
            listed.map_err(|error| self.server.away(format!("consumers of stream `{}`: {error}", self.stream_name)))?;
        infos.retain(|info| info.config.durable_name.is_some());
        Ok(infos)
    }

    /// One of them; an error where it is not there.
    pub(super) async fn consumer_info(&self, subscription: &Subscription) -> Result<Info, QueueError> {
        let name = &subscription.consumer;
        match self.server.unless_refused(self.stream().await?.consumer_info(name)).await? {
            Ok(info) => Ok(info),
            Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => {
                self.forget(subscription);
                Err(not_subscribed(&self.name, &subscription.name))
            }
            Err(error) => Err(self.server.away(format!("consumer `{name}`: {error}"))),
        }
    }

    /// Removes what all have ended from a stream of Weir's own.
    pub(super) async fn trim(&self) {
        let Ok(stream) = self.stream().await else { return };
        if let Ok(infos) = self.consumers(stream).await {
            self.trim_to(stream, &infos).await;
        }
    }

    async fn trim_to(&self, stream: &Stream, consumers: &[Info]) {
        let own = stream.cached_info().config.metadata.contains_key(OWN.0);
        let ended = consumers.iter().map(|info| info.ack_floor.stream_sequence).min();
        let Some(ended) = ended.filter(|ended| own && *ended > 0) else { return };
        let purged = stream.purge().filter(&self.url.subject).sequence(ended + 1);
        if let Ok(Err(error)) = self.server.unless_refused(purged.into_future()).await {
            tracing::warn!(queue = %self.name, stream = %self.stream_name, %error, "what all have ended could not be removed");
        }
    }
}

/// Whether some subject fits both patterns.
fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_overlap() {
        for (one, other, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("a.*", "a.c", true),
            ("*.b", "a.*", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("a.b", "a.b.c", false),
            ("a.*", "a.b.>", false),
        ] {
            assert_eq!((overlap(one, other), overlap(other, one)), (expected, expected), "{one} {other}");
        }
    }
}
