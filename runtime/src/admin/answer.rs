//! What is answered: JSON for everything, errors included, and the headers that every answer carries.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Headers of every answer: nothing here is a document that a browser should run, embed, guess about or keep.
const HEADERS: [(HeaderName, HeaderValue); 6] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
];

/// A request that was not done: `{"error": "…"}`, with `index` in a batch.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The HTTP status.
    pub status: StatusCode,
    /// For people: what was found and what is expected.
    pub error: String,
    /// Which event of a batch, from 0.
    pub index: Option<usize>,
    /// When to ask again, in seconds.
    pub retry_after: Option<u32>,
    /// Whether the connection ends with the answer, because the rest of the request is not read.
    pub close: bool,
}

impl Failure {
    /// A failure with a status and a sentence.
    #[must_use]
    pub fn new(status: StatusCode, error: String) -> Self {
        Self { status, error, index: None, retry_after: None, close: false }
    }

    /// Says when to ask again.
    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// Ends the connection with the answer.
    #[must_use]
    pub fn closing(self) -> Self {
        Self { close: true, ..self }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Text {
            error: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            index: Option<usize>,
        }
        let mut response = json(self.status, &Text { error: self.error, index: self.index });
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Answers with a JSON value.
#[must_use]
pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    (status, Json(value)).into_response()
}

/// Adds the headers of every answer.
pub(super) async fn protect(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}
