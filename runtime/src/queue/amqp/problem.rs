//! What went wrong with a server, in words that name the queue and never a password; and what the server's codes mean.

use lapin::{Error, ErrorKind};

use crate::queue::QueueError;

/// What is not there.
pub(super) const NOT_FOUND: u16 = 404;
/// What may not be done.
pub(super) const ACCESS_REFUSED: u16 = 403;
/// What somebody else has for himself.
const RESOURCE_LOCKED: u16 = 405;
/// What is otherwise than we say.
pub(super) const PRECONDITION_FAILED: u16 = 406;
/// A virtual host that is not there, or not ours.
const NOT_ALLOWED: u16 = 530;

/// Why something could not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// The server is away, or the connection was lost: to be tried again.
    Away(String),
    /// Something is to be changed before it can work.
    Refused(String),
    /// A message that the server never takes.
    TooLarge { size: u64, bound: u64 },
}

impl From<Problem> for QueueError {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Away(text) => Self::Unavailable(text),
            Problem::Refused(text) => Self::Invalid(text),
            Problem::TooLarge { size, bound } => Self::TooLarge { size, bound },
        }
    }
}

impl Problem {
    /// The text, for people.
    pub(super) fn text(&self) -> String {
        QueueError::from(self.clone()).to_string()
    }

    /// What an answer of the server means for the queue with this URL.
    pub(super) fn of(url: &str, error: &Error) -> Self {
        let said = said(error);
        match code(error) {
            Some(ACCESS_REFUSED) if said.contains("Login") || said.contains("login") => {
                Self::Refused(format!("`{url}`: the server refuses the login: {said} [check user and password]"))
            }
            Some(NOT_ALLOWED) => Self::Refused(format!(
                "`{url}`: the virtual host can't be used: {said} [rabbitmqctl add_vhost makes one, set_permissions lets a user in]"
            )),
            Some(ACCESS_REFUSED) => Self::Refused(format!("`{url}`: a permission is missing: {said}")),
            Some(RESOURCE_LOCKED) => Self::Refused(format!("`{url}`: another connection has it for itself: {said}")),
            Some(_) => Self::Away(format!("`{url}`: the server says: {said}")),
            None => Self::Away(format!("`{url}`: {said}")),
        }
    }
}

/// The server's code, when it was the server that ended it.
pub(super) fn code(error: &Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

/// What the server, or the client, says.
pub(super) fn said(error: &Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_message().as_str().to_owned(),
        ErrorKind::IOError(error) => error.to_string(),
        ErrorKind::MissingHeartbeatError => "nothing was heard of the server for two heartbeats".to_owned(),
        ErrorKind::InvalidConnectionState(_) | ErrorKind::InvalidChannelState(..) | ErrorKind::InvalidChannel(_) => {
            "the connection was lost".to_owned()
        }
        _ => error.to_string(),
    }
}

/// How large messages may be, by the text that refuses one.
pub(super) fn size_bound(text: &str) -> Option<u64> {
    let (_, bound) = text.split_once("larger than")?;
    let digits: String = bound.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// In what a queue differs from how we would have made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Differs {
    /// The argument, `x-queue-type` for example.
    pub(super) argument: String,
    /// What it has; none: it does not have it.
    pub(super) current: Option<String>,
}

/// Reads the text that refuses a declaration: `inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received the value 'quorum' of
/// type 'longstr' but current is the value 'classic' of type 'longstr'`.
pub(super) fn differs(text: &str) -> Option<Differs> {
    let (_, rest) = text.split_once("inequivalent arg '")?;
    let (argument, rest) = rest.split_once('\'')?;
    let current = rest.split_once("but current is").map_or("", |(_, current)| current.trim());
    let value = current.split_once("the value '").map_or(current, |(_, value)| value);
    let value = value.trim_start_matches('\'').split('\'').next().unwrap_or_default();
    let current = (value != "none" && !value.is_empty()).then(|| value.to_owned());
    Some(Differs { argument: argument.to_owned(), current })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_declarations_say_what_differs() {
        let of = |argument: &str, current: Option<&str>| {
            Some(Differs { argument: argument.to_owned(), current: current.map(str::to_owned) })
        };
        for (text, expected) in [
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received the value 'quorum' of type 'longstr' but current is the value 'classic' of type 'longstr'",
                of("x-queue-type", Some("classic")),
            ),
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'q' in vhost '/': received the value '-1' of type 'signedint' but current is none",
                of("x-delivery-limit", None),
            ),
            (
                "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'",
                of("durable", Some("false")),
            ),
            ("NOT_FOUND - no queue 'q' in vhost '/'", None),
        ] {
            assert_eq!(differs(text), expected, "{text}");
        }
    }

    #[test]
    fn the_bound_on_messages_is_read() {
        let text = "PRECONDITION_FAILED - message size 2000000 is larger than configured max size 1048576";
        assert_eq!(size_bound(text), Some(1_048_576));
        assert_eq!(size_bound("PRECONDITION_FAILED - unknown delivery tag 3"), None);
    }
}
