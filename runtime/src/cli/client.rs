//! Finding a running server and talking to it, for the commands that ask one.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use ureq::Agent;
use ureq::http::{HeaderValue, Request, header};

use super::output::{CliError, Global};

/// The file in `data` in which a server says where it listens (surface.md §2).
pub const SERVER_FILE: &str = "server.json";

/// The variable with the token.
pub const TOKEN_VARIABLE: &str = "WEIR_TOKEN";

/// Most bytes of that file: an address and a number.
const SERVER_FILE_MAX: u64 = 4 << 10;

/// How long a server may take to be reached, and to say that it is one.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one request may take: longer than a server gives its queue.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Most bytes of one answer: a list of dead letters is bounded to 64 MiB of events, which JSON makes longer.
const ANSWER_MAX: u64 = 256 << 20;

/// Most bytes of an answer that only says that it is Weir's.
const HEALTH_MAX: u64 = 4 << 10;

/// Which server is asked.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ServerArgs {
    /// The server to ask; default: the one that runs with this configuration. Its token is taken from WEIR_TOKEN.
    #[arg(long, value_name = "URL", global = true)]
    pub server: Option<String>,
}

/// What stands in [`SERVER_FILE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFile {
    /// Where the server listens: `http://127.0.0.1:8077`.
    pub url: String,
    /// Its process id.
    pub pid: u32,
}

/// Whether there is a server to ask.
pub enum Found {
    /// There is.
    Server(Client),
    /// There is none: why, for people.
    Nobody(String),
}

/// A running server.
pub struct Client {
    agent: Agent,
    base: String,
    token: Option<HeaderValue>,
}

/// What it answered.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Where a list goes on that is not whole.
    pub more: Option<String>,
    /// In how many places a list could not look.
    pub missing: Option<String>,
    body: Vec<u8>,
}

impl ServerArgs {
    /// Looks for the server: the one given, else the one that the configuration's `data` names.
    ///
    /// # Errors
    /// When the command line or the configuration is wrong, or a server answers that it will not be asked.
    pub fn find(&self, global: &Global) -> Result<Found, CliError> {
        let token = std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty());
        match &self.server {
            Some(url) => Client::new(url, token.as_deref())?.probe(),
            None => match read_server_file(&global.load()?.server.data) {
                Ok(file) => Client::new(&file.url, token.as_deref())?.probe(),
                Err(why) => Ok(Found::Nobody(why)),
            },
        }
    }
}

fn read_server_file(data: &Path) -> Result<ServerFile, String> {
    let path = data.join(SERVER_FILE);
    let shown = path.display();
    let file = std::fs::File::open(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("no server runs with this configuration (`{shown}` is not there)"),
        _ => format!("`{shown}` can't be read: {error}"),
    })?;
    let mut text = Vec::new();
    file.take(SERVER_FILE_MAX).read_to_end(&mut text).map_err(|error| format!("`{shown}` can't be read: {error}"))?;
    serde_json::from_slice(&text).map_err(|error| format!("`{shown}` does not say where the server is: {error}"))
}

impl Client {
    /// A client for the server at this URL. Nothing is sent yet.
    ///
    /// # Errors
    /// When the URL or the token can't be used.
    pub fn new(url: &str, token: Option<&str>) -> Result<Self, CliError> {
        let wrong =
            |why: &str| Err(CliError::Wrong(format!("`{url}` {why} (expected a server's address: `http://127.0.0.1:8077`)")));
        match url::Url::parse(url) {
            Ok(parsed) if parsed.scheme() == "https" => return wrong("needs TLS, which is not in this version yet"),
            Ok(parsed) if parsed.scheme() != "http" || !parsed.has_host() => return wrong("is no address of a server"),
            Ok(parsed) if !matches!(parsed.path(), "" | "/") || parsed.query().is_some() || !parsed.username().is_empty() => {
                return wrong("has more than an address");
            }
            Ok(_) => {}
            Err(_) => return wrong("is no address of a server"),
        }
        let token = token.map(|token| {
            let value = HeaderValue::from_str(&format!("Bearer {token}"));
            value.map_err(|_| CliError::Wrong(format!("{TOKEN_VARIABLE} holds what can't be a token (expected printable ASCII)")))
        });
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // A token is for the server that was named, never for a proxy on the way.
            .proxy(None)
            .timeout_connect(Some(PROBE_TIMEOUT))
            .timeout_global(Some(REQUEST_TIMEOUT))
            .build();
        Ok(Self { agent: config.into(), base: url.trim_end_matches('/').to_owned(), token: token.transpose()? })
    }

    /// The server's address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.base
    }

    /// Asks whether it is a Weir, without the token: the address may be an old one that another program has now.
    fn probe(self) -> Result<Found, CliError> {
        #[derive(Deserialize)]
        struct Health {
            server: Option<String>,
            error: Option<String>,
        }
        let url = format!("{}/healthz", self.base);
        let asked = self.agent.get(&url).config().timeout_global(Some(PROBE_TIMEOUT)).build().call();
        let nobody = |why: &str| Ok(Found::Nobody(format!("no server answers at `{}` ({why})", self.base)));
        let mut response = match asked {
            Ok(response) => response,
            Err(error) => return nobody(&error.to_string()),
        };
        let text = response.body_mut().with_config().limit(HEALTH_MAX).read_to_vec().unwrap_or_default();
        match serde_json::from_slice::<Health>(&text) {
            Ok(health) if health.server.as_deref() == Some("weir") => Ok(Found::Server(self)),
            Ok(Health { error: Some(error), .. }) => {
                Err(CliError::Failed(format!("server at `{}` refuses to be asked: {error}", self.base)))
            }
            _ => nobody("something else does"),
        }
    }

    /// Asks for something.
    ///
    /// # Errors
    /// When no answer came.
    pub fn get(&self, path: &str) -> Result<Reply, CliError> {
        self.send("GET", path, "", &[])
    }

    /// Sends something.
    ///
    /// # Errors
    /// When no answer came: it may have been taken all the same.
    pub fn post(&self, path: &str, content_type: &str, body: &[u8]) -> Result<Reply, CliError> {
        self.send("POST", path, content_type, body)
    }

    /// Removes something.
    ///
    /// # Errors
    /// When no answer came: it may be gone all the same.
    pub fn delete(&self, path: &str) -> Result<Reply, CliError> {
        self.send("DELETE", path, "", &[])
    }

    fn send(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> Result<Reply, CliError> {
        let failed =
            |error: &dyn std::fmt::Display| CliError::Failed(format!("server at `{}` gave no answer: {error}", self.base));
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token);
        }
        if !content_type.is_empty() {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let sent = match method {
            "GET" | "DELETE" => self.agent.run(request.body(()).map_err(|error| failed(&error))?),
            _ => self.agent.run(request.body(body).map_err(|error| failed(&error))?),
        };
        let mut response = sent.map_err(|error| failed(&error))?;
        let told = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (more, missing) = (told(crate::admin::routes::MORE), told(crate::admin::routes::MISSING));
        let body = response.body_mut().with_config().limit(ANSWER_MAX).read_to_vec().map_err(|error| failed(&error))?;
        Ok(Reply { status: response.status().as_u16(), more, missing, body })
    }
}

/// An answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Refused {
    /// Why.
    pub error: String,
    /// Which event of a batch, from 0.
    pub index: Option<usize>,
}

impl Reply {
    /// The value that was asked for.
    ///
    /// # Errors
    /// When the server answered with an error, or with something else.
    pub fn value<T: serde::de::DeserializeOwned>(&self) -> Result<T, CliError> {
        if !(200..300).contains(&self.status) {
            return Err(self.failure());
        }
        serde_json::from_slice(&self.body).map_err(|error| CliError::Failed(format!("server's answer can't be read: {error}")))
    }

    /// The value that was asked for, as the text that came.
    ///
    /// # Errors
    /// As [`Reply::value`].
    pub fn text(&self) -> Result<Box<RawValue>, CliError> {
        self.value()
    }

    /// What the server says is wrong.
    #[must_use]
    pub fn refused(&self) -> Refused {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| Refused { error: format!("server answered with HTTP status {}", self.status), index: None })
    }

    /// The error as an end of the command.
    #[must_use]
    pub fn failure(&self) -> CliError {
        let error = self.refused().error;
        match self.status {
            400 | 404 | 405 | 409 => CliError::Wrong(error),
            401 | 403 => CliError::Failed(format!("{error} (the token is taken from {TOKEN_VARIABLE})")),
            _ => CliError::Failed(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_servers_are_taken() {
        for url in ["http://127.0.0.1:8077", "http://localhost/", "http://[::1]:1"] {
            assert_eq!(Client::new(url, Some("t")).map(|client| client.base).unwrap(), url.trim_end_matches('/'));
        }
        for (url, expected) in [
            ("https://weir.example.com", "needs TLS"),
            ("127.0.0.1:8077", "is no address"),
            ("ftp://localhost", "is no address"),
            ("http://localhost/events", "has more than an address"),
            ("http://user@localhost", "has more than an address"),
            ("", "is no address"),
        ] {
            let error = Client::new(url, None).map(drop).unwrap_err();
            assert!(error.to_string().contains(expected) && error.exit_code() == 2, "{url}: {error}");
        }
        assert_eq!(Client::new("http://localhost", Some("a\nb")).map(drop).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_server_file_says_where_the_server_is() {
        let data = tempfile::tempdir().unwrap();
        assert!(read_server_file(data.path()).unwrap_err().contains("no server runs with this configuration"));
        std::fs::write(data.path().join(SERVER_FILE), "{}").unwrap();
        assert!(read_server_file(data.path()).unwrap_err().contains("does not say where the server is"));
        let file = ServerFile { url: "http://127.0.0.1:1".to_owned(), pid: 7 };
        std::fs::write(data.path().join(SERVER_FILE), serde_json::to_vec(&file).unwrap()).unwrap();
        assert_eq!(read_server_file(data.path()).unwrap(), file);
    }
}
