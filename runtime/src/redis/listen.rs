//! Listening to channels: a connection of its own, in the protocol in which messages come by themselves.

use std::convert::Infallible;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, ConnectionInfo, ProtocolVersion, PushInfo, PushKind, RedisError, Value};

use super::{COMMAND_MAX, CONNECT_MAX, Redis, RedisProblem, RedisUrl};

/// What a connection hears that listens.
#[derive(Debug)]
pub enum Heard {
    /// A message.
    Message(Vec<u8>),
    /// Nothing more comes.
    Lost,
}

/// A connection that listens, until it is dropped.
pub struct Listening {
    connection: MultiplexedConnection,
}

impl Listening {
    /// Asks the server whether it is still there.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn ask(&mut self, redis: &Redis) -> Result<(), RedisProblem> {
        let answer = ::redis::cmd("PING").exec_async(&mut self.connection).await;
        answer.map_err(|error| RedisProblem::of(&redis.name, &error))
    }
}

impl Redis {
    /// Listens to a channel, or to those that match a pattern, on a connection of its own. `hears` is called as messages come, and must not
    /// wait; last of all it hears that the connection is lost.
    ///
    /// # Errors
    /// As [`Redis::query`].
    pub async fn listen(
        &self,
        channel: &str,
        pattern: bool,
        hears: impl Fn(Heard) + Send + Sync + 'static,
    ) -> Result<Listening, RedisProblem> {
        // The shared connection paces attempts at a server that is away, and says what a login lacks.
        self.connected().await?;
        let of = |error: RedisError| RedisProblem::of(&self.name, &error);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_MAX))
            .set_response_timeout(Some(COMMAND_MAX))
            .set_push_sender(move |push: PushInfo| {
                if let Some(heard) = heard(push) {
                    hears(heard);
                }
                Ok::<(), Infallible>(())
            });
        let client = Client::open(self.listening.clone()).map_err(of)?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await.map_err(of)?;
        let listened = if pattern { connection.psubscribe(channel).await } else { connection.subscribe(channel).await };
        listened.map_err(of)?;
        Ok(Listening { connection })
    }
}

/// The message is the last part: a pattern has its own and the channel's name before it.
fn heard(push: PushInfo) -> Option<Heard> {
    match push.kind {
        PushKind::Disconnection => Some(Heard::Lost),
        PushKind::Message | PushKind::PMessage => match push.data.into_iter().next_back()? {
            Value::BulkString(body) => Some(Heard::Message(body)),
            _ => None,
        },
        _ => None,
    }
}

/// How connections log in that listen.
pub(super) fn settings(client: &Client, url: &RedisUrl) -> ConnectionInfo {
    let info = client.get_connection_info().clone();
    let mut settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3).set_db(i64::from(url.database));
    if let Some(password) = &url.password {
        settings = settings.set_password(&password.0);
    }
    if let Some(user) = &url.user {
        settings = settings.set_username(user);
    }
    info.set_redis_settings(settings)
}
