//! What went wrong with a Redis server, in words that say what to do. Pure.

use ::redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why a server could not do as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedisProblem {
    /// It can't be reached, or can't answer now: it restarts, loads its data, is a replica, is out of memory.
    #[error("{0}")]
    Away(String),
    /// Somebody has to change something: login, permissions, version, the type of a key, the URL.
    #[error("{0}")]
    Refused(String),
    /// Another error that it answered, by its code.
    #[error("{text}")]
    Answered {
        /// Such as `NOGROUP`.
        code: String,
        /// The whole answer, with the server's name.
        text: String,
    },
}

/// Codes that are looked for in the text of a script's error: before Redis 7 it begins with `ERR Error running script`.
const IN_SCRIPTS: [&str; 5] = ["WRONGTYPE", "NOGROUP", "NOPERM", "OOM", "READONLY"];

impl RedisProblem {
    /// What an error of the client means; `server` is the server's URL without credentials.
    pub(super) fn of(server: &str, error: &RedisError) -> Self {
        match error.kind() {
            ErrorKind::Io | ErrorKind::Parse => Self::Away(format!("`{server}` can't be reached: {}", io_text(error))),
            ErrorKind::InvalidClientConfig => Self::Refused(format!("`{server}`: {error}")),
            ErrorKind::Server(
                ServerErrorKind::BusyLoading
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::TryAgain,
            ) => Self::Away(format!("`{server}` is not ready: {error}")),
            _ => {
                let detail = error.detail().unwrap_or_default();
                Self::answered(server, error.code().unwrap_or_default(), detail, &error.to_string())
            }
        }
    }

    fn answered(server: &str, code: &str, detail: &str, whole: &str) -> Self {
        let code = IN_SCRIPTS.into_iter().find(|known| whole.contains(known)).unwrap_or(code);
        match code {
            "NOAUTH" => {
                Self::Refused(format!("`{server}` asks for a login (write `redis://USER:PASSWORD@…` or `redis://:PASSWORD@…`)"))
            }
            "WRONGPASS" => Self::Refused(format!("`{server}` does not take this user and password")),
            _ if detail.contains("without any password configured") => {
                Self::Refused(format!("`{server}` takes no password for this user (leave it out of the URL)"))
            }
            _ if whole.contains("DB index is out of range") => {
                Self::Refused(format!("`{server}`: the server has no database of this number (see its setting `databases`)"))
            }
            "NOPERM" => Self::Refused(format!("`{server}`: the user lacks a permission: {}", about_permission(detail))),
            "OOM" => Self::Away(format!("`{server}` is out of memory (raise its `maxmemory`, or take something out)")),
            "READONLY" => Self::Away(format!("`{server}` is a replica and takes no writes")),
            "NOREPLICAS" | "MISCONF" => Self::Away(format!("`{server}` takes no writes now: {whole}")),
            "MOVED" | "CROSSSLOT" => Self::Refused(format!("`{server}` is part of a cluster, which is not in this version yet")),
            code => Self::Answered { code: code.to_owned(), text: format!("`{server}` answered: {whole}") },
        }
    }

    /// Whether it answered with this code.
    #[must_use]
    pub fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Answered { code, .. } if code == wanted)
    }
}

/// The server says which command, key or channel it is about.
fn about_permission(detail: &str) -> &str {
    if detail.is_empty() { "(give it one with ACL SETUSER)" } else { detail }
}

/// An error of a connection without its decoration.
fn io_text(error: &RedisError) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    if error.is_connection_refusal() {
        return "connection refused".to_owned();
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_say_what_to_do() {
        let refused = |text: &str| RedisProblem::Refused(format!("`redis://h:1/0` {text}"));
        for (code, detail, expected) in [
            ("WRONGPASS", "invalid username-password pair", refused("does not take this user and password")),
            (
                "NOAUTH",
                "Authentication required.",
                refused("asks for a login (write `redis://USER:PASSWORD@…` or `redis://:PASSWORD@…`)"),
            ),
        ] {
            assert_eq!(RedisProblem::answered("redis://h:1/0", code, detail, &format!("{code}: {detail}")), expected);
        }
        let in_script = "ERR: Error running script (call to f_1): @user_script:1: WRONGTYPE Operation against a key";
        let answered = RedisProblem::answered("redis://h:1/0", "ERR", "", in_script);
        assert!(answered.is("WRONGTYPE"), "{answered:?}");
        let other = RedisProblem::answered("redis://h:1/0", "ERR", "odd", "ERR: odd");
        assert_eq!(other.to_string(), "`redis://h:1/0` answered: ERR: odd");
    }
}
