//! What has to be on the server: exchanges, queues, bindings, and queues to wait in; made where that is allowed, else looked for.
//!
//! Each question goes by a channel of its own, as the server ends a channel with each refusal.

use std::sync::atomic::Ordering;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Error, ExchangeKind};

use super::link::Live;
use super::problem::{ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED, Problem, code, differs, said};
use super::shared::Shared;
use super::steps::Step;
use super::url::{Exchange, Kind};

/// What is known of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    /// Its type; none: it may not be asked, deliveries tell it.
    pub(super) kind: Option<Kind>,
    /// How many deliveries without an end it allows before it drops a message: Weir counts its own.
    pub(super) limited: bool,
}

/// What is made of a refused declaration.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// It is there, and can be used.
    Usable { facts: Facts, warning: Option<String> },
    /// It is there, and can't be used.
    Other(String),
}

impl Shared {
    /// Makes a queue that is read from, or finds it.
    pub(super) async fn ensure_queue(&self, live: &Live, name: &str) -> Result<Facts, Problem> {
        let kind = self.url().kind;
        let unlimited = kind == Kind::Quorum && !self.old.load(Ordering::Relaxed);
        match self.declare(live, name, arguments(kind, unlimited)).await {
            Ok(()) => return Ok(Facts { kind: Some(kind), limited: false }),
            // Before 4.0 there is no default limit, and no number that stands for none.
            Err(error) if unlimited && code(&error) == Some(PRECONDITION_FAILED) && differs(&said(&error)).is_none() => {
                self.old.store(true, Ordering::Relaxed);
            }
            Err(error) => return self.found(live, name, &error).await,
        }
        match self.declare(live, name, arguments(kind, false)).await {
            Ok(()) => Ok(Facts { kind: Some(kind), limited: false }),
            Err(error) => self.found(live, name, &error).await,
        }
    }

    /// What a refused declaration tells of the queue.
    async fn found(&self, live: &Live, name: &str, error: &Error) -> Result<Facts, Problem> {
        match code(error) {
            Some(PRECONDITION_FAILED) => match refusal(name, self.url().kind, self.old.load(Ordering::Relaxed), &said(error)) {
                Refusal::Usable { facts, warning } => {
                    if let Some(warning) = warning.filter(|_| self.warn_once(name)) {
                        tracing::warn!(queue = %self.name, warning);
                    }
                    Ok(facts)
                }
                Refusal::Other(text) => Err(Problem::Refused(format!("`{}`: {text}", self.shown()))),
            },
            Some(ACCESS_REFUSED) => {
                let problem = match self.look(live, name).await {
                    Ok(_) => return Ok(Facts { kind: None, limited: false }),
                    Err(problem) => problem,
                };
                match code(&problem) {
                    Some(NOT_FOUND) => Err(Problem::Refused(format!(
                        "`{}`: there is no queue `{name}`, and this user may not make it [rabbitmqctl set_permissions: configure `{name}`, or make the queue by hand]",
                        self.shown()
                    ))),
                    _ => Err(self.problem(&problem)),
                }
            }
            _ => Err(self.problem(error)),
        }
    }

    async fn declare(&self, live: &Live, name: &str, arguments: FieldTable) -> Result<(), Error> {
        let channel = live.channel().await?;
        let declared = channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments).await;
        declared.map(drop)
    }

    /// How many messages are ready in a queue; it is not made.
    pub(super) async fn look(&self, live: &Live, name: &str) -> Result<u64, Error> {
        let channel = live.channel().await?;
        let found = channel.queue_declare(name.into(), QueueDeclareOptions::default().passive(), FieldTable::default()).await?;
        Ok(found.message_count().into())
    }

    /// Makes an exchange, or finds it.
    pub(super) async fn ensure_exchange(&self, live: &Live, exchange: &Exchange) -> Result<(), Problem> {
        let name = exchange.name.as_str();
        let wanted = exchange.kind.as_deref();
        if wanted.is_none() {
            match self.ask_exchange(live, name, "topic", true).await {
                Ok(()) => return Ok(()),
                Err(error) if code(&error) == Some(NOT_FOUND) => {}
                Err(error) => return Err(self.problem(&error)),
            }
        }
        let error = match self.ask_exchange(live, name, wanted.unwrap_or("topic"), false).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        match code(&error) {
            Some(PRECONDITION_FAILED) => Err(Problem::Refused(format!(
                "`{}`: exchange `{name}` is there, and is not as `exchange-type=` says: {} [leave `exchange-type=` out, or name its own]",
                self.shown(),
                said(&error)
            ))),
            Some(ACCESS_REFUSED) => match self.ask_exchange(live, name, "topic", true).await {
                Ok(()) => Ok(()),
                Err(missing) if code(&missing) == Some(NOT_FOUND) => Err(Problem::Refused(format!(
                    "`{}`: there is no exchange `{name}`, and this user may not make it [rabbitmqctl set_permissions: configure `{name}`, or make the exchange by hand]",
                    self.shown()
                ))),
                Err(other) => Err(self.problem(&other)),
            },
            _ => Err(self.problem(&error)),
        }
    }

    async fn ask_exchange(&self, live: &Live, name: &str, kind: &str, passive: bool) -> Result<(), Error> {
        let channel = live.channel().await?;
        let kind = match kind {
            "direct" => ExchangeKind::Direct,
            "fanout" => ExchangeKind::Fanout,
            _ => ExchangeKind::Topic,
        };
        let options = ExchangeDeclareOptions { passive, durable: true, ..ExchangeDeclareOptions::default() };
        channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await
    }

    /// Binds a handler's queue to its exchange.
    pub(super) async fn bind(&self, live: &Live, queue: &str, exchange: &Exchange) -> Result<(), Problem> {
        let channel = live.channel().await.map_err(|error| self.problem(&error))?;
        for key in &exchange.routing {
            let (name, options) = (exchange.name.as_str(), QueueBindOptions::default());
            let bound = channel.queue_bind(queue.into(), name.into(), key.as_str().into(), options, FieldTable::default()).await;
            bound.map_err(|error| match code(&error) {
                Some(ACCESS_REFUSED) => Problem::Refused(format!(
                    "`{}`: queue `{queue}` can't be bound to exchange `{name}`: {} [it takes the permissions to write to the queue and to read the exchange]",
                    self.shown(),
                    said(&error)
                )),
                _ => self.problem(&error),
            })?;
        }
        Ok(())
    }

    /// Makes the queue in which messages of another one wait for this long, once a connection.
    pub(super) async fn ensure_wait(&self, live: &Live, target: &str, step: Step) -> Result<String, Problem> {
        let name = step.queue(target);
        if self.waits().contains(&(live.number, name.clone())) {
            return Ok(name);
        }
        match self.declare(live, &name, wait_arguments(self.url().kind, target, step)).await {
            Ok(()) => {
                let mut waits = self.waits();
                waits.retain(|(number, _)| *number == live.number);
                waits.insert((live.number, name.clone()));
                Ok(name)
            }
            Err(error) if code(&error) == Some(PRECONDITION_FAILED) => Err(Problem::Refused(format!(
                "`{}`: queue `{name}` is not as Weir makes it: {} [delete it when it is empty]",
                self.shown(),
                said(&error)
            ))),
            Err(error) => Err(self.problem(&error)),
        }
    }

    /// Removes a queue, and those in which its messages wait. One that is not there is no error.
    pub(super) async fn remove(&self, live: &Live, name: &str) -> Result<(), Problem> {
        for queue in Step::queues(name).chain([name.to_owned()]) {
            let channel = live.channel().await.map_err(|error| self.problem(&error))?;
            let removed = channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await;
            match removed {
                Ok(_) => {}
                Err(error) if code(&error) == Some(NOT_FOUND) => {}
                Err(error) => return Err(self.problem(&error)),
            }
        }
        self.waits().retain(|(_, wait)| !wait.starts_with(&format!("{name}.wait-")));
        Ok(())
    }
}

/// How a queue that is read from is made.
fn arguments(kind: Kind, unlimited: bool) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text(kind_name(kind)));
    if unlimited {
        // Since 4.0 a quorum queue drops by itself what was delivered twenty times: Weir counts, and keeps dead letters.
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(-1));
    }
    arguments
}

/// How a queue to wait in is made: what expires there goes to the target alone, and only once that has it.
fn wait_arguments(kind: Kind, target: &str, step: Step) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text(kind_name(kind)));
    arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(i64::try_from(step.millis()).unwrap_or(i64::MAX)));
    arguments.insert("x-dead-letter-exchange".into(), text(""));
    arguments.insert("x-dead-letter-routing-key".into(), text(target));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    if kind == Kind::Quorum {
        arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    }
    arguments
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Quorum => "quorum",
        Kind::Classic => "classic",
    }
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// What a queue that is there is good for, by the text that refuses to make it. The server names the first difference only.
fn refusal(name: &str, wanted: Kind, old: bool, said: &str) -> Refusal {
    let Some(differs) = differs(said) else {
        return Refusal::Other(format!("queue `{name}` can't be made or used: {said}"));
    };
    let current = differs.current.as_deref();
    let usable = |kind, limited, warning| Refusal::Usable { facts: Facts { kind, limited }, warning };
    let limits = |limit: &str| {
        format!(
            "queue `{name}` drops a message by itself after {limit} deliveries, or sends it where its dead letters go: Weir may still try it \
             [make the queue with `x-delivery-limit` -1, or set a policy]"
        )
    };
    match (differs.argument.as_str(), current) {
        ("x-queue-type", Some("quorum")) => usable(Some(Kind::Quorum), false, None),
        ("x-queue-type", None | Some("classic")) => usable(Some(Kind::Classic), false, None),
        ("x-queue-type", Some(other)) => {
            Refusal::Other(format!("`{name}` is a queue of type `{other}` (Weir reads `quorum` and `classic`)"))
        }
        ("x-delivery-limit", Some(limit)) if limit.starts_with('-') => usable(Some(Kind::Quorum), false, None),
        ("x-delivery-limit", None) if old => usable(Some(Kind::Quorum), false, None),
        ("x-delivery-limit", None) => usable(Some(Kind::Quorum), true, Some(limits("20"))),
        ("x-delivery-limit", Some(limit)) => usable(Some(Kind::Quorum), true, Some(limits(limit))),
        ("exclusive", _) => Refusal::Other(format!("queue `{name}` belongs to one connection alone ({said})")),
        // What else a queue may have does not concern us: bounds, its own dead letters, one consumer at a time.
        ("durable" | "auto_delete", _) => {
            usable(Some(Kind::Classic), false, Some(format!("queue `{name}` does not last: {said}")))
        }
        _ => usable(Some(wanted), false, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(argument: &str, current: &str) -> String {
        format!(
            "PRECONDITION_FAILED - inequivalent arg '{argument}' for queue 'q' in vhost '/': received the value 'x' of type 'longstr' but current is {current}"
        )
    }

    #[test]
    fn queues_that_are_there_are_used_as_they_are() {
        let of = |old: bool, argument: &str, current: &str| match refusal("q", Kind::Quorum, old, &said(argument, current)) {
            Refusal::Usable { facts, warning } => (facts.kind, facts.limited, warning.is_some()),
            Refusal::Other(text) => panic!("{text}"),
        };
        let (quorum, classic) = (Some(Kind::Quorum), Some(Kind::Classic));
        assert_eq!(of(false, "x-queue-type", "the value 'classic' of type 'longstr'"), (classic, false, false));
        assert_eq!(of(false, "x-queue-type", "none"), (classic, false, false));
        assert_eq!(of(false, "x-delivery-limit", "the value '5' of type 'signedint'"), (quorum, true, true));
        assert_eq!(of(false, "x-delivery-limit", "none"), (quorum, true, true));
        assert_eq!(of(true, "x-delivery-limit", "none"), (quorum, false, false));
        assert_eq!(of(false, "durable", "'false'"), (classic, false, true));
        assert_eq!(of(false, "x-max-length", "the value '5' of type 'signedint'"), (quorum, false, false));
        let stream = refusal("q", Kind::Quorum, false, &said("x-queue-type", "the value 'stream' of type 'longstr'"));
        assert_eq!(stream, Refusal::Other("`q` is a queue of type `stream` (Weir reads `quorum` and `classic`)".to_owned()));
    }
}
