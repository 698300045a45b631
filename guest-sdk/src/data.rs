//! From the bytes of an event to the handler's own type, and what is said when they do not fit.

use std::any::TypeId;

use serde::de::DeserializeOwned;

use crate::{Failure, Result, reject};

/// What an [`Event`](crate::Event) can hold: every type that serde can read, and [`Bytes`].
///
/// Implement it for a type that is read from something else than JSON (Protobuf, Avro, CSV).
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be read from an event's data",
    label = "not an event's data",
    note = "derive it: `#[derive(serde::Deserialize)]`, or take `Event<Bytes>`"
)]
pub trait EventData: Sized {
    /// Reads the data; `content_type` is the attribute `datacontenttype`.
    ///
    /// # Errors
    /// When the data does not fit; a [`reject`] is right, since it will not fit the next time.
    fn from_bytes(data: &Bytes, content_type: Option<&str>) -> Result<Self>;
}

/// The data of an event as it came; empty when the event has none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    /// The data as text.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn text(&self) -> std::result::Result<&str, std::str::Utf8Error> {
        std::str::from_utf8(&self.0)
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl EventData for Bytes {
    fn from_bytes(data: &Bytes, _: Option<&str>) -> Result<Self> {
        Ok(data.clone())
    }
}

impl<T: DeserializeOwned + 'static> EventData for T {
    fn from_bytes(data: &Bytes, content_type: Option<&str>) -> Result<Self> {
        // `Event<()>` is for handlers that do not care what the data is.
        if TypeId::of::<T>() == TypeId::of::<()>() {
            return serde_json::from_str("null").map_err(Failure::from);
        }
        if let Some(found) = content_type.filter(|found| !data.is_empty() && !is_json(found)) {
            return Err(reject(format!(
                "data: the media type is `{found}`, expected JSON (take `Event<Bytes>` to read it as it is)"
            )));
        }
        let text: &[u8] = if data.is_empty() { b"null" } else { data };
        // Keeping track of the path costs time, so that is done only once it is known that there is something to say.
        serde_json::from_slice(text).or_else(|_| explained(text))
    }
}

fn explained<T: DeserializeOwned>(text: &[u8]) -> Result<T> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|e| {
        let path = e.path().to_string();
        let inner = e.into_inner();
        match path.as_str() {
            _ if inner.is_syntax() || inner.is_eof() => reject(format!("data: not JSON: {inner}")),
            "." => reject(format!("data: {inner}")),
            path => reject(format!("data: `{path}`: {inner}")),
        }
    })?;
    json.end().map_err(|e| reject(format!("data: not JSON: {e}")))?;
    Ok(value)
}

/// As in RFC 6839: `application/json`, `text/json`, and whatever ends in `+json`.
pub(crate) fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let subtype = media_type.split_once('/').map_or("", |(_, subtype)| subtype);
    subtype == "json" || subtype.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Owner {
        email: String,
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Answer {
        owner: Owner,
    }

    fn read<T: EventData>(data: &str, content_type: Option<&str>) -> std::result::Result<T, String> {
        T::from_bytes(&Bytes(data.into()), content_type).map_err(|failure| match failure {
            Failure::Reject { reason } => reason,
            Failure::Retry { .. } => "a retry, which is wrong".to_owned(),
        })
    }

    #[test]
    fn data_is_read() {
        let answer = Answer { owner: Owner { email: "a@b".into() } };
        for content_type in [None, Some("application/json; charset=utf-8"), Some("application/vnd.x+JSON"), Some("text/json")] {
            assert_eq!(read::<Answer>(r#"{"owner":{"email":"a@b"}}"#, content_type).as_ref(), Ok(&answer), "{content_type:?}");
        }
        assert_eq!(read::<()>("{not json", None), Ok(()));
        assert_eq!(read::<Option<Answer>>("", None), Ok(None));
        assert_eq!(read::<Option<Answer>>("", Some("text/plain")), Ok(None));
        assert_eq!(read::<serde_json::Value>("", None), Ok(serde_json::Value::Null));
        assert_eq!(read::<Bytes>("x", Some("text/plain")), Ok(Bytes(b"x".to_vec())));
    }

    #[test]
    fn what_does_not_fit_is_rejected_with_its_path() {
        for (data, content_type, expected) in [
            (
                r#"{"owner":{"email":5}}"#,
                None,
                "data: `owner.email`: invalid type: integer `5`, expected a string at line 1 column 19",
            ),
            (r#"{"owner":{}}"#, None, "data: `owner`: missing field `email` at line 1 column 11"),
            ("{}", None, "data: missing field `owner` at line 1 column 2"),
            ("", None, "data: invalid type: null, expected struct Answer at line 1 column 4"),
            ("{", None, "data: not JSON: EOF while parsing an object at line 1 column 1"),
            (r#"{"owner":{"email":"a"}} x"#, None, "data: not JSON: trailing characters at line 1 column 25"),
            (
                "a,b",
                Some("text/csv"),
                "data: the media type is `text/csv`, expected JSON (take `Event<Bytes>` to read it as it is)",
            ),
        ] {
            assert_eq!(read::<Answer>(data, content_type), Err(expected.to_owned()), "{data}");
        }
    }
}
