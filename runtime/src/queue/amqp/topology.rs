//! What has to be on the server: exchanges, queues, bindings, and queues to wait in; made where that is allowed, else looked for.
//!
//! Each question goes by a channel of its own, as the server ends a channel with each refusal.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Error, ExchangeKind};

use super::link::Live;
use super::problem::{ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED, Problem, code, differs, said};
use super::shared::Shared;
use super::steps::Step;
use super::url::{Exchange, Kind};

/// The limit of deliveries that quorum queues are made with: so many that none is ever reached. Without one, 4.0 and newer drop by
/// themselves what was delivered twenty times. Their number for "none", -1, is taken by 3.10 as well, which then drops whatever comes
/// back once; and the client does not tell which release it talks to.
const DELIVERY_LIMIT: i32 = 1_000_000_000;

/// Limits below this are told of: somebody may be tried that often.
const LIMIT_TOLD: i64 = 1_000_000;

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
        self.ensure_kind(live, name, self.url().kind).await
    }

    async fn ensure_kind(&self, live: &Live, name: &str, kind: Kind) -> Result<Facts, Problem> {
        match self.declare(live, name, arguments(kind)).await {
            Ok(()) => Ok(Facts { kind: Some(kind), limited: false }),
            Err(error) => self.found(live, name, kind, &error).await,
        }
    }

    /// What a refused declaration tells of the queue.
    async fn found(&self, live: &Live, name: &str, kind: Kind, error: &Error) -> Result<Facts, Problem> {
        match code(error) {
            Some(PRECONDITION_FAILED) => match refusal(name, kind, &said(error)) {
                // It is asked once more in its own way: that tells of its limit.
                Refusal::Usable { facts: Facts { kind: Some(Kind::Quorum), .. }, .. } if kind == Kind::Classic => {
                    Box::pin(self.ensure_kind(live, name, Kind::Quorum)).await
                }
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
pub(super) fn arguments(kind: Kind) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text(kind_name(kind)));
    if kind == Kind::Quorum {
        // Weir counts by itself, and keeps dead letters.
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(DELIVERY_LIMIT));
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
fn refusal(name: &str, wanted: Kind, said: &str) -> Refusal {
    let Some(differs) = differs(said) else {
        return Refusal::Other(format!("queue `{name}` can't be made or used: {said}"));
    };
    let current = differs.current.as_deref();
    let usable = |kind, limited, warning| Refusal::Usable { facts: Facts { kind, limited }, warning };
    match (differs.argument.as_str(), current) {
        ("x-queue-type", Some("quorum")) => usable(Some(Kind::Quorum), false, None),
        ("x-queue-type", None | Some("classic")) => usable(Some(Kind::Classic), false, None),
        ("x-queue-type", Some(other)) => {
            Refusal::Other(format!("`{name}` is a queue of type `{other}` (Weir reads `quorum` and `classic`)"))
        }
        ("x-delivery-limit", limit) => {
            let warning = limit_warning(name, limit.map(|limit| limit.parse().unwrap_or_default()));
            usable(Some(Kind::Quorum), warning.is_some(), warning)
        }
        ("exclusive", _) => Refusal::Other(format!("queue `{name}` belongs to one connection alone ({said})")),
        // What else a queue may have does not concern us: bounds, its own dead letters, one consumer at a time.
        ("durable" | "auto_delete", _) => {
            usable(Some(Kind::Classic), false, Some(format!("queue `{name}` does not last: {said}")))
        }
        _ => usable(Some(wanted), false, None),
    }
}

/// What is to be said of a queue with this limit of deliveries, or with none.
fn limit_warning(name: &str, limit: Option<i64>) -> Option<String> {
    let drops = match limit {
        Some(LIMIT_TOLD..) => return None,
        Some(limit @ 0..) => format!("drops a message by itself after {limit} deliveries"),
        Some(_) => "has no limit of deliveries on RabbitMQ 4, and before that drops whatever comes back once".to_owned(),
        None => {
            "has no `x-delivery-limit`: RabbitMQ 4 drops a message by itself after 20 deliveries, or as a policy says".to_owned()
        }
    };
    Some(format!(
        "queue `{name}` {drops}, or sends it where its dead letters go, while Weir may still try it [make it anew with `x-delivery-limit` {DELIVERY_LIMIT}]"
    ))
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
        let of = |argument: &str, current: &str| match refusal("q", Kind::Quorum, &said(argument, current)) {
            Refusal::Usable { facts, warning } => (facts.kind, facts.limited, warning.is_some()),
            Refusal::Other(text) => panic!("{text}"),
        };
        let (quorum, classic) = (Some(Kind::Quorum), Some(Kind::Classic));
        assert_eq!(of("x-queue-type", "the value 'classic' of type 'longstr'"), (classic, false, false));
        assert_eq!(of("x-queue-type", "none"), (classic, false, false));
        assert_eq!(of("x-delivery-limit", "the value '5' of type 'signedint'"), (quorum, true, true));
        assert_eq!(of("x-delivery-limit", "none"), (quorum, true, true));
        assert_eq!(of("x-delivery-limit", "the value '-1' of type 'signedint'"), (quorum, true, true));
        assert_eq!(of("x-delivery-limit", "the value '2000000' of type 'signedint'"), (quorum, false, false));
        assert_eq!(of("durable", "'false'"), (classic, false, true));
        assert_eq!(of("x-max-length", "the value '5' of type 'signedint'"), (quorum, false, false));
        let stream = refusal("q", Kind::Quorum, &said("x-queue-type", "the value 'stream' of type 'longstr'"));
        assert_eq!(stream, Refusal::Other("`q` is a queue of type `stream` (Weir reads `quorum` and `classic`)".to_owned()));
    }
}
