//! Whether a server is new enough: 6.2 brought `XAUTOCLAIM`, `XPENDING … IDLE`, `XTRIM MINID` and `GETDEL`. Pure.

use ::redis::{RedisError, Value};

use super::RedisProblem;

/// The oldest version that has all that is used.
const OLDEST: (u32, u32) = (6, 2);

/// Checks the answer to `HELLO`: names and values in turn.
pub(super) fn check(server: &str, hello: &Value) -> Result<(), RedisProblem> {
    let found = version_in(hello).unwrap_or_default();
    match parse(&found) {
        Some(version) if version >= OLDEST => Ok(()),
        Some(_) => Err(too_old(server, &format!("is Redis {found}"))),
        None => Err(RedisProblem::Refused(format!(
            "`{server}` does not say its version, found `{found}`, expected Redis 6.2 or later"
        ))),
    }
}

/// What servers answer to a login or `HELLO` that they are too old for.
pub(super) fn refusal(server: &str, error: &RedisError) -> Option<RedisProblem> {
    let text = error.to_string().to_ascii_lowercase();
    let old = text.contains("unknown command") || text.contains("wrong number of arguments for 'auth'");
    old.then(|| too_old(server, "is older than Redis 6"))
}

fn too_old(server: &str, what: &str) -> RedisProblem {
    RedisProblem::Refused(format!("`{server}` {what}, expected 6.2 or later (update the server)"))
}

fn version_in(hello: &Value) -> Option<String> {
    let text = |value: &Value| match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    };
    match hello {
        Value::Array(items) => {
            let mut pairs = items.chunks_exact(2);
            pairs.find_map(|pair| (text(pair.first()?)? == "version").then(|| text(pair.get(1)?))?)
        }
        Value::Map(pairs) => pairs.iter().find(|(name, _)| text(name).as_deref() == Some("version")).and_then(|(_, v)| text(v)),
        _ => None,
    }
}

/// Major and minor number.
fn parse(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.');
    let number = |part: &str| part.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
    Some((number(numbers.next()?)?, numbers.next().and_then(number)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        for (text, expected) in [
            ("6.2.0", Some((6, 2))),
            ("7.0.15", Some((7, 0))),
            ("8.2-rc1", Some((8, 2))),
            ("255.255.255", Some((255, 255))),
            ("10.1", Some((10, 1))),
            ("7", None),
            ("", None),
            ("seven.0", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn servers_before_6_2_are_refused() {
        let hello = |version: &str| {
            let items = ["server", "redis", "version", version, "proto"].map(|text| Value::BulkString(text.into()));
            Value::Array(items.into_iter().chain([Value::Int(2)]).collect())
        };
        for good in ["6.2.0", "7.0.15", "8.0.0"] {
            assert_eq!(check("redis://h:1/0", &hello(good)), Ok(()), "{good}");
        }
        let refused = check("redis://h:1/0", &hello("6.0.16")).unwrap_err().to_string();
        assert_eq!(refused, "`redis://h:1/0` is Redis 6.0.16, expected 6.2 or later (update the server)");
        assert!(check("redis://h:1/0", &Value::Nil).unwrap_err().to_string().contains("does not say its version"));
        let unknown: RedisError = (::redis::ErrorKind::Client, "x", "unknown command `HELLO`".to_owned()).into();
        let refused = refusal("redis://h:1/0", &unknown).unwrap().to_string();
        assert_eq!(refused, "`redis://h:1/0` is older than Redis 6, expected 6.2 or later (update the server)");
    }
}
