//! One Redis server, for queues and for the store: a connection that is made anew when it was lost, a time-out on every command, and
//! errors that say what to do.
//!
//! It repeats nothing: a command that failed is reported, and whether it took effect is then not known. Considered and left out:
//! redis-rs' own `ConnectionManager`, which connects again and again in the background whatever the error is, hides which connection
//! answered, and knows no version check.

mod listen;
mod problem;
#[cfg(test)]
#[path = "../../tests/src/redis.rs"]
#[expect(unreachable_pub, dead_code, reason = "the tests crate has it in public, and uses all of it")]
pub(crate) mod server;
#[cfg(test)]
mod tests;
mod url;
mod version;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::io::tcp::TcpSettings;
use ::redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, Connection, ConnectionAddr, ConnectionInfo, FromRedisValue,
    IntoConnectionInfo, Pipeline, RedisError, ScriptInvocation, TlsCertificates,
};
use tokio::time::Instant;

pub use self::listen::{Heard, Listening};
pub use self::problem::RedisProblem;
pub use self::url::{Host, Parameters, RedisUrl};

/// How long a connection may take, name look-up and TLS included: a server on the same network answers in milliseconds.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// How long a command may take that does not block by intention: far above what the slowest script needs on a busy server, and below
/// a third of a default lease, so that a heartbeat can be tried again.
pub const COMMAND_MAX: Duration = Duration::from_secs(5);

/// Waits between attempts to connect: doubled from the first to the longest, each shortened by chance to no less than half, so that
/// many processes do not come back at the same moment.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// A server, by URL. Cheap to make: it connects when it is first asked for something.
pub struct Redis {
    client: Client,
    name: String,
    login: Option<Cmd>,
    select: Option<Cmd>,
    /// How connections are made that listen: they log in by themselves, as what is heard comes in the newer protocol.
    listening: ConnectionInfo,
    // std's mutex: held for a look or a change, never across an await; all callers share it.
    link: Mutex<Link>,
    /// Whoever connects; the others wait for that, not for one attempt each.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Link {
    connection: Option<MultiplexedConnection>,
    /// How many connections were made.
    made: u64,
    failures: u32,
    retry_at: Option<Instant>,
    problem: Option<RedisProblem>,
}

/// A connection, and which one it is.
#[derive(Clone)]
struct Connected {
    connection: MultiplexedConnection,
    number: u64,
}

impl Redis {
    /// A server that is not asked for anything yet.
    ///
    /// # Errors
    /// Certificates that can't be read.
    pub fn new(url: &RedisUrl) -> Result<Self, RedisProblem> {
        let mut login = ::redis::cmd("AUTH");
        if let Some(user) = &url.user {
            login.arg(user);
        }
        let login = url.password.as_ref().map(|password| login.arg(&password.0).take());
        let select = (url.database != 0).then(|| ::redis::cmd("SELECT").arg(url.database).take());
        let client = client(url)?;
        Ok(Self {
            listening: listen::settings(&client, url),
            client,
            name: url.to_string(),
            login,
            select,
            link: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        })
    }

    /// Its URL without credentials.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many connections were made so far: a change says that whatever the last one knew is to be looked at again.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.link().made
    }

    /// Why it can't be used now, as far as is known; asks nobody.
    #[must_use]
    pub fn problem(&self) -> Option<RedisProblem> {
        self.link().problem.clone()
    }

    /// Connects, unless it is connected; then which connection it is, counted from 1.
    ///
    /// # Errors
    /// At once while the server is away and the next attempt is not due.
    pub async fn connect(&self) -> Result<u64, RedisProblem> {
        Ok(self.connected().await?.number)
    }

    /// One command.
    ///
    /// # Errors
    /// When the server is away, refuses, or does not answer within [`COMMAND_MAX`].
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisProblem> {
        let mut connected = self.connected().await?;
        let answer = command.query_async(&mut connected.connection).await;
        answer.map_err(|error| self.failed(connected.number, &error))
    }

    /// Several commands at once; with `atomic()`, all or none.
    ///
    /// # Errors
    /// As [`Redis::query`].
    pub async fn pipeline<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, RedisProblem> {
        let mut connected = self.connected().await?;
        let answer = commands.query_async(&mut connected.connection).await;
        answer.map_err(|error| self.failed(connected.number, &error))
    }

    /// A script by its hash; loaded first where the server does not know it.
    ///
    /// # Errors
    /// As [`Redis::query`].
    pub async fn script<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, RedisProblem> {
        let mut connected = self.connected().await?;
        let answer = script.invoke_async(&mut connected.connection).await;
        answer.map_err(|error| self.failed(connected.number, &error))
    }

    /// A connection of its own, for commands that block for at most `blocks`. Dropping it ends it, and what blocks on it.
    ///
    /// # Errors
    /// As [`Redis::query`].
    pub async fn dedicated(&self, blocks: Duration) -> Result<Dedicated, RedisProblem> {
        // The shared connection paces attempts at a server that is away, for this one too.
        let number = self.connected().await?.number;
        match self.open(blocks + COMMAND_MAX).await {
            Ok(connection) => Ok(Dedicated { connection, number }),
            Err(problem) => {
                if matches!(problem, RedisProblem::Away(_)) {
                    self.let_go(number, &problem);
                }
                Err(problem)
            }
        }
    }

    /// A plain connection that blocks its thread, to measure against (`weir bench`).
    ///
    /// # Errors
    /// As [`Redis::query`].
    pub fn blocking(&self) -> Result<Blocking, RedisProblem> {
        let of = |error: RedisError| RedisProblem::of(&self.name, &error);
        let mut connection = self.client.get_connection_with_timeout(CONNECT_MAX).map_err(of)?;
        connection.set_read_timeout(Some(COMMAND_MAX)).map_err(of)?;
        for command in self.login.iter().chain(&self.select) {
            command.exec(&mut connection).map_err(of)?;
        }
        Ok(Blocking { name: self.name.clone(), connection })
    }

    /// After an answer `WRONGTYPE`: which of these keys has another type than the one beside it.
    pub async fn explain_type(&self, keys: &[(&str, &str)]) -> RedisProblem {
        for (key, expected) in keys {
            match self.query::<String>(::redis::cmd("TYPE").arg(key)).await {
                Ok(found) if found != *expected && found != "none" => {
                    return RedisProblem::Refused(format!(
                        "key `{key}` is a {found}, expected a {expected} (name another key, or remove this one)"
                    ));
                }
                Ok(_) => {}
                Err(problem) => return problem,
            }
        }
        RedisProblem::Away("a key had another type, and has it no longer".to_owned())
    }

    /// Drops the connection, as when it was lost.
    #[cfg(test)]
    pub(crate) fn forget_connection(&self) {
        self.link().connection = None;
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connected(&self) -> Result<Connected, RedisProblem> {
        if let Some(connected) = self.current()? {
            return Ok(connected);
        }
        let _turn = self.connecting.lock().await;
        if let Some(connected) = self.current()? {
            return Ok(connected);
        }
        let opened = self.open(COMMAND_MAX).await;
        let mut link = self.link();
        match opened {
            Ok(connection) => {
                let number = link.made + 1;
                *link = Link { connection: Some(connection.clone()), made: number, ..Link::default() };
                Ok(Connected { connection, number })
            }
            Err(problem) => {
                link.failures = link.failures.saturating_add(1);
                link.retry_at = Some(Instant::now() + backoff(link.failures, fastrand::f64()));
                link.problem = Some(problem.clone());
                Err(problem)
            }
        }
    }

    /// The connection, if there is one; the last problem while the next attempt is not due.
    fn current(&self) -> Result<Option<Connected>, RedisProblem> {
        let link = self.link();
        if let Some(connection) = &link.connection {
            return Ok(Some(Connected { connection: connection.clone(), number: link.made }));
        }
        match (&link.problem, link.retry_at) {
            (Some(problem), Some(retry_at)) if Instant::now() < retry_at => Err(problem.clone()),
            _ => Ok(None),
        }
    }

    /// What an error means; a connection that is of no use any more is let go.
    fn failed(&self, number: u64, error: &RedisError) -> RedisProblem {
        let problem = RedisProblem::of(&self.name, error);
        if error.is_io_error() || error.is_unrecoverable_error() || error.code() == Some("READONLY") {
            self.let_go(number, &problem);
        }
        problem
    }

    /// Lets go of the connection, if it is this one: the next command makes another.
    fn let_go(&self, number: u64, problem: &RedisProblem) {
        let mut link = self.link();
        if link.made == number && link.connection.take().is_some() {
            link.problem = Some(problem.clone());
        }
    }

    async fn open(&self, answers_within: Duration) -> Result<MultiplexedConnection, RedisProblem> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_MAX)).set_response_timeout(Some(answers_within));
        let of = |error: RedisError| RedisProblem::of(&self.name, &error);
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await.map_err(of)?;
        if let Some(login) = &self.login {
            let answer = login.exec_async(&mut connection).await;
            answer.map_err(|error| version::refusal(&self.name, &error).unwrap_or_else(|| of(error)))?;
        }
        let hello = ::redis::cmd("HELLO").query_async(&mut connection).await;
        let hello = hello.map_err(|error| version::refusal(&self.name, &error).unwrap_or_else(|| of(error)))?;
        version::check(&self.name, &hello)?;
        if let Some(select) = &self.select {
            select.exec_async(&mut connection).await.map_err(of)?;
        }
        Ok(connection)
    }
}

/// A connection that nobody else uses. Its commands wait for each other.
pub struct Dedicated {
    connection: MultiplexedConnection,
    /// The shared one when it was made. What happens to this one has mostly happened to that too: it is not waited for until it is noticed
    /// there as well.
    number: u64,
}

impl Dedicated {
    /// One command. After an error that is no answer of the server, the connection is of no use any more.
    ///
    /// # Errors
    /// As [`Redis::query`], but for the time-out, which is longer by what may block.
    pub async fn query<T: FromRedisValue>(&mut self, redis: &Redis, command: &Cmd) -> Result<T, RedisProblem> {
        command.query_async(&mut self.connection).await.map_err(|error| redis.failed(self.number, &error))
    }
}

/// A plain connection that blocks its thread.
pub struct Blocking {
    name: String,
    connection: Connection,
}

impl Blocking {
    /// One command.
    ///
    /// # Errors
    /// As [`Redis::query`].
    pub fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, RedisProblem> {
        command.query(&mut self.connection).map_err(|error| RedisProblem::of(&self.name, &error))
    }

    /// Several commands at once.
    ///
    /// # Errors
    /// As [`Redis::query`].
    pub fn pipeline<T: FromRedisValue>(&mut self, commands: &Pipeline) -> Result<T, RedisProblem> {
        commands.query(&mut self.connection).map_err(|error| RedisProblem::of(&self.name, &error))
    }
}

fn client(url: &RedisUrl) -> Result<Client, RedisProblem> {
    let wrong = |error: RedisError| RedisProblem::Refused(format!("`{url}`: {error}"));
    let tls = |host: &String, port| ConnectionAddr::TcpTls { host: host.clone(), port, insecure: false, tls_params: None };
    let address = match &url.host {
        Host::Unix(path) => ConnectionAddr::Unix(path.clone()),
        Host::Tcp { host, port, tls: true } => tls(host, *port),
        Host::Tcp { host, port, tls: false } => ConnectionAddr::Tcp(host.clone(), *port),
    };
    let info = address.into_connection_info().map_err(wrong)?;
    // A batch is one write: waiting to fill a packet would only add to its way. Login and database are told by hand, for errors
    // that say what is missing.
    let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    let redis = info.redis_settings().clone().set_skip_set_lib_name();
    let info = info.set_redis_settings(redis);
    if url.authority.is_none() && url.identity.is_none() {
        return Client::open(info).map_err(wrong);
    }
    let read = |path: &std::path::Path| {
        let read = std::fs::read(path);
        read.map_err(|error| RedisProblem::Refused(format!("`{url}`: can't read `{}`: {error}", path.display())))
    };
    let root_cert = url.authority.as_deref().map(read).transpose()?;
    let client_tls = match &url.identity {
        Some((cert, key)) => Some(ClientTlsConfig { client_cert: read(cert)?, client_key: read(key)? }),
        None => None,
    };
    Client::build_with_tls(info, TlsCertificates { client_tls, root_cert }).map_err(wrong)
}

/// The wait after so many failures in a row; `chance` lies between 0 and 1.
fn backoff(failures: u32, chance: f64) -> Duration {
    let doubled = BACKOFF.0 * 2_u32.saturating_pow(failures.saturating_sub(1).min(16));
    doubled.min(BACKOFF.1).mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
}
