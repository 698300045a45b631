//! The routes of dead letters: list, one, replay, drop.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State as Shared};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;

use super::State;
use super::answer::{self, Failure};
use super::routes::{MISSING, MORE, ask, broken, named};
use crate::clock::{self, Timestamp};
use crate::dead::replay::ReplayError;
use crate::dead::{DEAD_LIST_MAX, DeadFilter};
use crate::source::{delay, http};

/// How much of a text that was sent is repeated.
const SHOWN_CHARS: usize = 80;

type Id = Result<Path<String>, PathRejection>;

pub(super) async fn list(Shared(state): Shared<Arc<State>>, RawQuery(query): RawQuery) -> Result<Response, Failure> {
    let filter = filter_of(query.as_deref(), clock::now()).map_err(bad)?;
    let page = ask(state.backend.dead(filter)).await?.map_err(broken)?;
    let mut response = answer::json(StatusCode::OK, &page.letters);
    if !page.missing.is_empty() {
        response.headers_mut().insert(MISSING, HeaderValue::from(page.missing.len()));
    }
    if let Some(next) = page.next
        && let Ok(next) = HeaderValue::from_str(&next.to_string())
    {
        response.headers_mut().insert(MORE, next);
    }
    Ok(response)
}

pub(super) async fn one(Shared(state): Shared<Arc<State>>, id: Id) -> Result<Response, Failure> {
    let id = named(id)?;
    match ask(state.backend.dead_one(&id)).await?.map_err(broken)? {
        Some(letter) => Ok(answer::json(StatusCode::OK, &letter)),
        None => Err(unknown(&id)),
    }
}

pub(super) async fn replay(Shared(state): Shared<Arc<State>>, id: Id, RawQuery(query): RawQuery) -> Result<Response, Failure> {
    let (id, to) = (named(id)?, addressee(query.as_deref()).map_err(bad)?);
    let replayed = tokio::time::timeout(http::PUBLISH_TIMEOUT, state.backend.replay(&id, to.as_deref())).await;
    match replayed.map_err(|_| late())? {
        Ok(replayed) => Ok(answer::json(StatusCode::OK, &replayed)),
        Err(error) => Err(failure_of(&error)),
    }
}

pub(super) async fn remove(Shared(state): Shared<Arc<State>>, id: Id) -> Result<Response, Failure> {
    let id = named(id)?;
    match ask(state.backend.drop_dead(&id)).await?.map_err(broken)? {
        true => Ok(answer::json(StatusCode::OK, &serde_json::json!({ "dropped": 1 }))),
        false => Err(unknown(&id)),
    }
}

fn bad(why: String) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, why)
}

fn unknown(id: &str) -> Failure {
    let id: String = id.chars().take(SHOWN_CHARS).collect();
    Failure::new(StatusCode::NOT_FOUND, ReplayError::Unknown(id).to_string())
}

fn late() -> Failure {
    let seconds = http::PUBLISH_TIMEOUT.as_secs();
    let text = format!(
        "dead letter was not replayed within {seconds} s (it may still be: look at `weir dead list` before you repeat it)"
    );
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, text).retry_after(http::RETRY_AFTER)
}

fn failure_of(error: &ReplayError) -> Failure {
    let text = error.to_string();
    match error {
        ReplayError::Unknown(_) => Failure::new(StatusCode::NOT_FOUND, text),
        ReplayError::Handler(_) | ReplayError::Queue { .. } | ReplayError::Event { .. } => {
            Failure::new(StatusCode::CONFLICT, text)
        }
        ReplayError::Publish { error, .. } => Failure { error: text, ..http::failure_of(error) },
        ReplayError::Unread(_) => broken(text),
        // To be repeated is what it must not be.
        ReplayError::Left { .. } => Failure::new(StatusCode::INTERNAL_SERVER_ERROR, text),
    }
}

fn parameters(query: Option<&str>) -> url::form_urlencoded::Parse<'_> {
    url::form_urlencoded::parse(query.unwrap_or_default().as_bytes())
}

fn not_known(name: &str, known: &str) -> String {
    let name: String = name.chars().take(SHOWN_CHARS).collect();
    format!("query parameter `{name}` is not known (known: {known})")
}

/// Which handler a replay is for, where another one than its own is.
fn addressee(query: Option<&str>) -> Result<Option<String>, String> {
    let mut to = None;
    for (name, value) in parameters(query) {
        match &*name {
            "handler" => to = Some(value.into_owned()),
            _ => return Err(not_known(&name, "`handler`")),
        }
    }
    Ok(to)
}

/// What a query asks for; a parameter that is not known is refused.
fn filter_of(query: Option<&str>, now: Timestamp) -> Result<DeadFilter, String> {
    let mut filter = DeadFilter::default();
    for (name, value) in parameters(query) {
        let text = |value: Cow<'_, str>| Some(value.into_owned());
        match &*name {
            "handler" => filter.handler = text(value),
            "queue" => filter.queue = text(value),
            "reason" => filter.reason = text(value),
            "older-than" | "older_than" => {
                let age = delay::duration(&value).map_err(|why| format!("query parameter `{name}`: {why}"))?;
                filter.older_than = Some(Timestamp(now.0.saturating_sub(clock::millis(age))));
            }
            "before" => {
                let before = value.parse().map_err(|why| format!("query parameter `before` {why}"))?;
                filter.before = Some(before);
            }
            "limit" => match value.parse() {
                Ok(limit @ 1..=DEAD_LIST_MAX) => filter.max = Some(limit),
                _ => return Err(format!("query parameter `limit` is `{value}`, expected 1 to {DEAD_LIST_MAX}")),
            },
            _ => return Err(not_known(&name, "`handler`, `queue`, `reason`, `older-than`, `before`, `limit`")),
        }
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_narrows_the_list_of_dead_letters() {
        let now = Timestamp(10_000);
        let all = "handler=mailer&queue=events&reason=no%20owner&older-than=3s&limit=5&before=9000-ab";
        let all = filter_of(Some(all), now).unwrap();
        assert_eq!((all.handler.as_deref(), all.queue.as_deref()), (Some("mailer"), Some("events")));
        assert_eq!(all.reason.as_deref(), Some("no owner"));
        assert_eq!((all.older_than, all.max), (Some(Timestamp(7_000)), Some(5)));
        assert_eq!(all.before.unwrap().to_string(), "9000-ab");
        assert_eq!(filter_of(Some("older_than=3s"), now).unwrap().older_than, Some(Timestamp(7_000)));
        let none = filter_of(None, now).unwrap();
        assert!(none.handler.is_none() && none.reason.is_none() && none.older_than.is_none() && none.max.is_none());
        for (query, expected) in [
            ("limit=0", "expected 1 to 1000"),
            ("limit=x", "expected 1 to 1000"),
            ("older-than=3", "no duration"),
            ("before=x", "no place in a list"),
            ("hander=x", "`hander` is not known"),
        ] {
            let error = filter_of(Some(query), now).unwrap_err();
            assert!(error.contains(expected), "{query}: {error}");
        }
    }

    #[test]
    fn a_replay_may_be_addressed() {
        assert_eq!(addressee(Some("handler=a%2Db")), Ok(Some("a-b".to_owned())));
        assert_eq!(addressee(None), Ok(None));
        assert!(addressee(Some("to=a")).unwrap_err().contains("`to` is not known (known: `handler`)"));
    }
}
