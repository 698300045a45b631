//! Why an event is not done: it may work later, or it never will.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::time::Duration;

/// What a handler answers.
pub type Result<T = (), E = Failure> = std::result::Result<T, E>;

/// Why an event is not done. Made by [`retry`], [`retry_after`], [`reject`], or from an error by `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It may work later: tried again while attempts are left, then a dead letter.
    Retry {
        /// For people: log and dead letter.
        reason: String,
        /// Not before this long; none: the handler's `backoff` in weir.toml.
        after: Option<Duration>,
    },
    /// It never will: a dead letter at once.
    Reject {
        /// For people: log and dead letter.
        reason: String,
    },
}

impl Failure {
    /// What people read.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Failure::Retry { reason, .. } | Failure::Reject { reason } => reason,
        }
    }

    /// The same with `context: ` before the reason.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        match &mut self {
            Failure::Retry { reason, .. } | Failure::Reject { reason } => *reason = format!("{context}: {reason}"),
        }
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

/// It may work later: try again with the handler's backoff.
#[must_use]
pub fn retry(reason: impl Into<String>) -> Failure {
    Failure::Retry { reason: reason.into(), after: None }
}

/// It may work later: try again, but not before `after`.
///
/// Weir cuts it to the handler's `after-max`.
#[must_use]
pub fn retry_after(reason: impl Into<String>, after: Duration) -> Failure {
    Failure::Retry { reason: reason.into(), after: Some(after) }
}

/// It never will work: a dead letter at once, with this reason.
#[must_use]
pub fn reject(reason: impl Into<String>) -> Failure {
    Failure::Reject { reason: reason.into() }
}

// `Failure` is no `Error` itself: that is what makes this conversion possible.
impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let reason = chain(&error);
        if comes_again(&error) { reject(reason) } else { retry(reason) }
    }
}

/// Whether this error is the same at every attempt. The list stands in the crate's documentation.
fn comes_again(error: &dyn Any) -> bool {
    if let Some(error) = error.downcast_ref::<crate::email::Error>() {
        return !matches!(error, crate::email::Error::Unavailable(_));
    }
    if let Some(error) = error.downcast_ref::<crate::http::Error>() {
        return !matches!(error, crate::http::Error::Unavailable(_));
    }
    if let Some(error) = error.downcast_ref::<crate::keyvalue::Error>() {
        return matches!(error, crate::keyvalue::Error::Denied(_));
    }
    error.is::<crate::publish::Error>()
        || error.is::<crate::config::Missing>()
        || error.is::<serde_json::Error>()
        || error.is::<std::num::ParseIntError>()
        || error.is::<std::num::ParseFloatError>()
        || error.is::<std::str::Utf8Error>()
        || error.is::<std::string::FromUtf8Error>()
}

/// An error with what caused it, unless its own text already says that.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}

/// Turns an error or a missing value into a [`reject`].
pub trait OrReject<T> {
    /// The value, or a reject that says `what` and, for a `Result`, the error.
    ///
    /// # Errors
    /// When there is no value.
    fn or_reject(self, what: impl fmt::Display) -> Result<T>;
}

/// Turns an error or a missing value into a [`retry`].
pub trait OrRetry<T> {
    /// The value, or a retry that says `what` and, for a `Result`, the error.
    ///
    /// # Errors
    /// When there is no value.
    fn or_retry(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> OrReject<T> for std::result::Result<T, E> {
    fn or_reject(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|e| reject(format!("{what}: {e}")))
    }
}

impl<T> OrReject<T> for Option<T> {
    fn or_reject(self, what: impl fmt::Display) -> Result<T> {
        self.ok_or_else(|| reject(what.to_string()))
    }
}

impl<T, E: fmt::Display> OrRetry<T> for std::result::Result<T, E> {
    fn or_retry(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|e| retry(format!("{what}: {e}")))
    }
}

impl<T> OrRetry<T> for Option<T> {
    fn or_retry(self, what: impl fmt::Display) -> Result<T> {
        self.ok_or_else(|| retry(what.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config, email};

    #[test]
    fn errors_become_what_they_mean() {
        let parse = "x".parse::<u8>().unwrap_err();
        let io = || std::io::Error::other("gone");
        for (failure, expected) in [
            (Failure::from(email::Error::Unavailable("the relay is away".into())), retry("the relay is away")),
            (Failure::from(email::Error::Denied("no".into())), reject("no")),
            (Failure::from(email::Error::Rejected("550".into())), reject("550")),
            (Failure::from(email::Error::Invalid("`to`".into())), reject("`to`")),
            (Failure::from(crate::publish::Error::Denied("no".into())), reject("no")),
            (Failure::from(crate::http::Error::Unavailable("no connection".into())), retry("no connection")),
            (Failure::from(crate::http::Error::Denied("no".into())), reject("no")),
            (Failure::from(parse), reject("invalid digit found in string")),
            (Failure::from(io()), retry("gone")),
            (
                Failure::from(config::Missing::new("rules")),
                reject("config key `rules` is not set (add it to the handler's `config` in weir.toml)"),
            ),
            (Err::<(), _>(io()).or_reject("read").unwrap_err(), reject("read: gone")),
            (None::<()>.or_retry("not yet").unwrap_err(), retry("not yet")),
            (retry("gone").context("`a`"), retry("`a`: gone")),
        ] {
            assert_eq!(failure, expected);
        }
    }
}
