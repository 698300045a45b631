//! What a receiver's answer means for the event.

use std::time::SystemTime;

use weir_sdk::http::Response;
use weir_sdk::prelude::*;

/// Bytes of an answer's body that are read: enough for a person to see what is wrong.
pub(crate) const WANTED: usize = 1024;

/// Characters of it that stand in a reason.
const SNIPPET_CHARS: usize = 200;

/// Taken, to be tried again, or refused for good.
pub(crate) fn meaning(response: &Response, now: SystemTime) -> Result {
    let status = response.status;
    let reason = match snippet(&response.text()) {
        snippet if snippet.is_empty() => format!("answered {status}"),
        snippet => format!("answered {status}: {snippet}"),
    };
    match status {
        200..=299 => Ok(()),
        // Too early, too slow, too much: the same request may be taken later.
        408 | 425 | 429 => Err(later(reason, response, now)),
        400..=499 => Err(reject(reason)),
        300..=399 => Err(retry(format!("{reason} (a redirect is not followed: put the new address into the rules)"))),
        _ => Err(later(reason, response, now)),
    }
}

fn later(reason: String, response: &Response, now: SystemTime) -> Failure {
    Failure::Retry { reason, after: response.retry_after(now) }
}

/// The beginning of a body as one line.
fn snippet(body: &str) -> String {
    let words: Vec<&str> = body.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    let line = words.join(" ");
    if line.chars().count() <= SNIPPET_CHARS {
        return line;
    }
    line.chars().take(SNIPPET_CHARS - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn answers_mean() {
        let response = |status: u16, wait: Option<&str>, body: &str| Response {
            status,
            headers: wait.map(|wait| ("retry-after".to_owned(), wait.to_owned())).into_iter().collect(),
            body: body.into(),
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_273_200);
        let minute = |reason: &str| Err(retry_after(reason, Duration::from_secs(60)));
        for (status, wait, body, expected) in [
            (200, None, "ok", Ok(())),
            (204, None, "", Ok(())),
            (410, None, "gone\r\n  for good", Err(reject("answered 410: gone for good"))),
            (400, Some("60"), "", Err(reject("answered 400"))),
            (401, None, "", Err(reject("answered 401"))),
            (408, None, "", Err(retry("answered 408"))),
            (425, None, "", Err(retry("answered 425"))),
            (429, Some("60"), "slow down", minute("answered 429: slow down")),
            (503, Some("Sat, 21 Nov 2026 15:01:00 GMT"), "", minute("answered 503")),
            (503, None, "", Err(retry("answered 503"))),
            (500, None, "", Err(retry("answered 500"))),
            (302, None, "", Err(retry("answered 302 (a redirect is not followed: put the new address into the rules)"))),
        ] {
            assert_eq!(meaning(&response(status, wait, body), now), expected, "{status}");
        }
        let long = meaning(&response(400, None, &"é".repeat(900)), now).unwrap_err();
        assert_eq!(long.reason().chars().count(), "answered 400: ".len() + SNIPPET_CHARS);
    }
}
