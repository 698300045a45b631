//! HTTP requests, one at a time. The server makes them, and only those that the grant covers; it checks where a name leads, speaks TLS,
//! follows no redirect and bounds time and size:
//!
//! ```toml
//! [handler.NAME.grants]
//! http = [{ url = "https://api.example.com/v1/*", methods = ["POST"] }]
//! ```
//!
//! ```
//! use weir_sdk::prelude::*;
//!
//! fn report(event: Event<String>) -> Result {
//!     let answer = http::post("https://api.example.com/v1/reports").json(&event.data)?.send()?;
//!     match answer.status {
//!         200..=299 => Ok(()),
//!         status => Err(retry(format!("the report was answered {status}"))),
//!     }
//! }
//! # use weir_sdk::testing;
//! # let mut host = testing::Host::new().http(|_| Ok(http::Response::status(204)));
//! # let run = host.run(report, testing::event("report.due", "all is well"));
//! # assert_eq!((run.result, run.requests[0].body.as_slice()), (Ok(()), &b"\"all is well\""[..]));
//! ```
//!
//! An answer is an answer, whatever its status. A retry after a failed connection or one of 429, 502, 503 and 504 costs the event no
//! attempt. The request that would pass the limit `requests`, and the answer that passes the limit `response`, end the run.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A request. Begin with [`get`], [`post`] or [`request`], end with [`send`](Request::send).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// In capitals.
    pub method: String,
    /// `https://host/path?query`, or with `http`.
    pub url: String,
    /// Names and values. `Host` and what is between two hops is the server's.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Longest wait for a connection, for the beginning of the answer, and between two pieces of it; none: as long as there is time.
    pub timeout: Option<Duration>,
    /// Bytes of the answer's body that are wanted: the rest is not taken in. None: all of it, up to the limit `response`.
    pub wanted: Option<usize>,
}

/// What came back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// From 200 to 599.
    pub status: u16,
    /// Names in lower case; values that are no text replaced.
    pub headers: Vec<(String, String)>,
    /// The body, or as much of it as was wanted.
    pub body: Vec<u8>,
}

/// Why there is no answer. `?` makes `Unavailable` a retry and the others a reject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// Not granted, or the name leads to an address that is not.
    Denied(String),
    /// Cannot be sent: names what is wrong.
    Invalid(String),
    /// The other side is away, or did not answer in time, or broke off.
    Unavailable(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Denied(text) | Error::Invalid(text) | Error::Unavailable(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

/// A GET.
#[must_use]
pub fn get(url: impl Into<String>) -> Request {
    request("GET", url)
}

/// A POST.
#[must_use]
pub fn post(url: impl Into<String>) -> Request {
    request("POST", url)
}

/// A request with any method.
#[must_use]
pub fn request(method: impl Into<String>, url: impl Into<String>) -> Request {
    Request { method: method.into(), url: url.into(), headers: Vec::new(), body: Vec::new(), timeout: None, wanted: None }
}

impl Request {
    /// One more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// A body in JSON, with its content type.
    ///
    /// # Errors
    /// When the value can't be JSON.
    pub fn json(self, value: &(impl Serialize + ?Sized)) -> Result<Self, serde_json::Error> {
        Ok(self.body(serde_json::to_vec(value)?).header("content-type", "application/json"))
    }

    /// See [`timeout`](Request::timeout).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// See [`wanted`](Request::wanted).
    #[must_use]
    pub fn wanted(mut self, bytes: usize) -> Self {
        self.wanted = Some(bytes);
        self
    }

    /// Sends it and waits for the whole answer.
    ///
    /// # Errors
    /// When there is none.
    pub fn send(self) -> Result<Response, Error> {
        Url::parse(&self.url)?;
        let breaks = |text: &str| text.contains(['\r', '\n', '\0']);
        if let Some((name, _)) = self.headers.iter().find(|(name, value)| name.is_empty() || breaks(name) || breaks(value)) {
            return Err(Error::Invalid(format!("header `{}` has no name or a line break", name.escape_debug())));
        }
        crate::host::request(self)
    }
}

impl Response {
    /// An answer with this status and nothing else: for tests.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Response { status, ..Response::default() }
    }

    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as text, what is not UTF-8 replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it does not fit the type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }

    /// How long `Retry-After` asks to wait, in seconds or until a date; none when it is missing or nothing of the kind.
    #[must_use]
    pub fn retry_after(&self, now: SystemTime) -> Option<Duration> {
        let value = self.header("retry-after")?.trim();
        if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
            return value.parse().ok().map(Duration::from_secs);
        }
        Some(date(value)?.duration_since(now).unwrap_or_default())
    }
}

/// The parts of an address that the server wants apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Url<'a> {
    pub(crate) tls: bool,
    pub(crate) authority: &'a str,
    /// With the query; never empty.
    pub(crate) path: String,
}

impl<'a> Url<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, Error> {
        let invalid = || {
            // Of its host at most: a path, a query or what stands before an `@` may be a secret, and this ends in logs.
            let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default().rsplit('@').next().unwrap_or_default();
            let shown: String = format!("{scheme}://{host}").chars().take(100).collect();
            let shown = shown.trim_start_matches("://").escape_debug().to_string();
            Error::Invalid(format!("`{shown}` begins no address of HTTP (expected such as `https://host/path`)"))
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(invalid)?;
        let tls = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(invalid()),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(invalid());
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Url { tls, authority, path })
    }
}

/// A date as HTTP writes it: `Sat, 21 Nov 2026 15:00:00 GMT`. Older forms are not written any more.
fn date(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = text.split_once(", ")?;
    let parts: [&str; 5] = rest.split(' ').collect::<Vec<_>>().try_into().ok()?;
    let [day, month, year, time, "GMT"] = parts else { return None };
    let [hours, minutes, seconds]: [&str; 3] = time.split(':').collect::<Vec<_>>().try_into().ok()?;
    let month = u64::try_from(MONTHS.iter().position(|known| *known == month)?).ok()? + 1;
    let number = |text: &str, max: u64| text.parse::<u64>().ok().filter(|number| *number <= max);
    let (day, year) = (number(day, 31)?, number(year, 9999).filter(|year| *year >= 1970)?);
    // Days since 1970, by Howard Hinnant's algorithm: years begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day.checked_sub(1)?;
    let days = (year * 365 + year / 4 - year / 100 + year / 400 + day_of_year).checked_sub(719_468)?;
    let seconds = days * 86_400 + number(hours, 23)? * 3_600 + number(minutes, 59)? * 60 + number(seconds, 60)?;
    Some(UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_parts() {
        for (text, expected) in [
            ("https://h/x?y#z", Some((true, "h", "/x?y"))),
            ("http://h:80", Some((false, "h:80", "/"))),
            ("https://h?x", Some((true, "h", "/?x"))),
            ("ftp://h/", None),
            ("h/x", None),
            ("https:///x", None),
            ("https://h/a b", None),
            ("https://h/a\nb", None),
        ] {
            let found = Url::parse(text);
            assert_eq!(found.as_ref().ok().map(|url| (url.tls, url.authority, url.path.as_str())), expected, "{text}");
        }
    }

    #[test]
    fn waits_are_read() {
        let now = UNIX_EPOCH + Duration::from_secs(1_795_273_200); // 2026-11-21T15:00:00Z
        for (value, expected) in [
            ("120", Some(120)),
            ("0", Some(0)),
            ("Sat, 21 Nov 2026 15:00:30 GMT", Some(30)),
            ("Tue, 29 Feb 2028 00:00:00 GMT", Some(1_835_395_200 - 1_795_273_200)),
            ("Fri, 20 Nov 2026 15:00:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("", None),
            ("Sat, 00 Nov 2026 15:00:30 GMT", None),
            ("Sat, 21 Nov 1926 15:00:30 GMT", None),
        ] {
            let response = Response { headers: vec![("retry-after".to_owned(), value.to_owned())], ..Response::status(503) };
            assert_eq!(response.retry_after(now), expected.map(Duration::from_secs), "{value}");
        }
        assert_eq!(Response::status(503).retry_after(now), None);
    }
}
