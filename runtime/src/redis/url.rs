//! Where a Redis server is: `redis://[user:password@]host:6379/0`, `rediss://` with TLS, `redis+unix:///path?db=0`. Nothing is connected to
//! here, and no text repeats a password.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::config::Secret;

const PORT: u16 = 6379;

/// A server, its database, and who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// Where it is.
    pub host: Host,
    /// The user; none: the default one.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// The database's number.
    pub database: u32,
    /// `ca=`: the file of certificates that sign the server's own, in place of the system's.
    pub authority: Option<PathBuf>,
    /// `cert=` and `key=`: files of our own certificate and its key, for servers that ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A host's name or address, and the port.
    Tcp {
        /// Name or address, IPv6 without brackets.
        host: String,
        /// The port.
        port: u16,
        /// Whether the connection is secured.
        tls: bool,
    },
    /// A socket of this machine.
    Unix(PathBuf),
}

/// Parameters of a URL that are not the connection's, decoded, in their order.
pub type Parameters = Vec<(String, String)>;

impl RedisUrl {
    /// Reads a URL, and leaves the parameters that are not the connection's to the caller.
    ///
    /// # Errors
    /// Says what is wrong; never repeats a password.
    pub fn parse(text: &str) -> Result<(Self, Parameters), String> {
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        let secure = match url.scheme() {
            "redis" | "redis+unix" => false,
            "rediss" => true,
            other => return Err(format!("scheme `{other}` is not known (known: `redis`, `rediss`, `redis+unix`)")),
        };
        if url.fragment().is_some() {
            return Err("nothing follows the parameters: write `#` in a value as `%23`".to_owned());
        }
        let unix = url.scheme() == "redis+unix";
        let Options { database, authority, identity, rest } = options(&url, secure, unix)?;
        let (user, password) = credentials(&url)?;
        let (host, database) = match unix {
            true => (unix_socket(&url)?, database.unwrap_or(0)),
            false => (tcp(&url, secure)?, path_database(&url)?),
        };
        Ok((Self { host, user, password, database, authority, identity }, rest))
    }
}

/// Without credentials and parameters.
impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.host {
            Host::Tcp { host, port, tls } => {
                let scheme = if *tls { "rediss" } else { "redis" };
                let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
                write!(f, "{scheme}://{open}{host}{close}:{port}/{}", self.database)
            }
            Host::Unix(path) => write!(f, "redis+unix://{}?db={}", path.display(), self.database),
        }
    }
}

fn tcp(url: &Url, tls: bool) -> Result<Host, String> {
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or("the host is missing, as in `redis://127.0.0.1:6379/0`")?;
    let port = url.port().unwrap_or(PORT);
    if port == 0 {
        return Err("port 0 is no port to connect to".to_owned());
    }
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok(Host::Tcp { host: decoded(host)?, port, tls })
}

fn unix_socket(url: &Url) -> Result<Host, String> {
    let path = decoded(url.path())?;
    let local = url.host_str().is_none_or(str::is_empty);
    if local && path.len() > 1 {
        Ok(Host::Unix(path.into()))
    } else {
        Err("the socket's path is missing, as in `redis+unix:///run/redis.sock`".to_owned())
    }
}

/// `/0`, or nothing for 0.
fn path_database(url: &Url) -> Result<u32, String> {
    match url.path() {
        "" | "/" => Ok(0),
        path => database(path.trim_start_matches('/')),
    }
}

fn database(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("database `{}` is no number (write it as in `redis://host:6379/0`)", text.escape_debug()))
}

struct Options {
    database: Option<u32>,
    authority: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
    rest: Parameters,
}

fn options(url: &Url, secure: bool, unix: bool) -> Result<Options, String> {
    let (mut db, mut authority, mut cert, mut key, mut rest) = (None, None, None, None, Vec::new());
    for (name, value) in url.query_pairs() {
        let place = match name.as_ref() {
            "ca" => &mut authority,
            "cert" => &mut cert,
            "key" => &mut key,
            "db" if unix => {
                db = Some(database(&value)?);
                continue;
            }
            _ => {
                rest.push((name.into_owned(), value.into_owned()));
                continue;
            }
        };
        if !secure {
            return Err(format!("parameter `{name}` is for `rediss://` only: this connection has no certificates"));
        }
        if value.is_empty() || place.replace(PathBuf::from(value.as_ref())).is_some() {
            return Err(format!("parameter `{name}` is the path of one file"));
        }
    }
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => return Err("`cert` and `key` belong together".to_owned()),
    };
    Ok(Options { database: db, authority, identity, rest })
}

fn credentials(url: &Url) -> Result<(Option<String>, Option<Secret>), String> {
    let user = decoded(url.username())?;
    let password = url.password().map(decoded).transpose()?;
    if !user.is_empty() && password.is_none() {
        return Err("there is a user without a password (write `redis://USER:PASSWORD@…`)".to_owned());
    }
    Ok(((!user.is_empty()).then_some(user), password.filter(|password| !password.is_empty()).map(Secret)))
}

fn decoded(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| "host, user and password have to be UTF-8".to_owned())?;
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> RedisUrl {
        RedisUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).0
    }

    #[test]
    fn servers_are_named_without_credentials() {
        for (text, name) in [
            ("redis://localhost", "redis://localhost:6379/0"),
            ("redis://h:7000/3?stream=k", "redis://h:7000/3"),
            ("rediss://ann:s3cret@h", "rediss://h:6379/0"),
            ("redis://:s3cret@[::1]:1/", "redis://[::1]:1/0"),
            ("redis+unix:///run/redis.sock?db=2&stream=k", "redis+unix:///run/redis.sock?db=2"),
        ] {
            assert_eq!(read(text).to_string(), name, "{text}");
            assert!(!format!("{:?}", read(text)).contains("s3cret"), "{text}");
        }
    }

    #[test]
    fn credentials_are_decoded() {
        let url = read("redis://an%40n:p%2Fw%3A%23@h/1");
        assert_eq!((url.user.as_deref(), url.password, url.database), (Some("an@n"), Some(Secret("p/w:#".to_owned())), 1));
        let url = read("redis://:pw@h");
        assert_eq!((url.user, url.password), (None, Some(Secret("pw".to_owned()))));
    }

    #[test]
    fn other_parameters_are_the_callers() {
        let (url, rest) = RedisUrl::parse("rediss://h/0?stream=a%20b&ca=/x/ca.pem&cert=c&key=k&lease=5s").unwrap();
        assert_eq!(rest, [("stream".to_owned(), "a b".to_owned()), ("lease".to_owned(), "5s".to_owned())]);
        assert_eq!(url.authority, Some("/x/ca.pem".into()));
        assert_eq!(url.identity, Some(("c".into(), "k".into())));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, says) in [
            ("redis://h/x", "database `x` is no number"),
            ("redis://h/-1", "database `-1` is no number"),
            ("redis:///0", "the host is missing"),
            ("redis://h:0/0", "port 0"),
            ("redis://ann@h", "a user without a password"),
            ("redis://h?ca=x", "`ca` is for `rediss://` only"),
            ("rediss://h?cert=x", "belong together"),
            ("rediss://h?ca=x&ca=y", "path of one file"),
            ("redis+unix://?db=1", "path is missing"),
            ("http://h", "scheme `http` is not known"),
            ("redis://h/0#x", "nothing follows"),
        ] {
            let error = RedisUrl::parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
