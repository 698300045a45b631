//! The routes: one table, and the few lines that each takes. `admin.rs` documents the table and a test compares the two.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{MatchedPath, Path, Request, State as Shared};
use axum::http::{StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{self, MethodRouter};

use super::answer::{self, Failure};
use super::guard::Access;
use super::metrics::{self, Scrape};
use super::{State, control, dead};
use crate::source::http;

/// How long what the server knows may take to be put together: a scrape ends after 10 s by default.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(8);

/// Header of a list that is not whole, because of its `limit` or its bytes: what `before` is for the next page.
pub const MORE: &str = "weir-more";

/// Header of a list that lacks what some places hold, which can't be asked now: how many they are.
pub const MISSING: &str = "weir-missing";

/// A route of this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Publish,
    Health,
    Ready,
    Metrics,
    Handlers,
    Queues,
    DeadList,
    DeadOne,
    DeadReplay,
    DeadDrop,
    QueueReplay,
    Pause,
    Resume,
    Forget,
}

impl Route {
    pub(super) const ALL: [Self; 14] = [
        Self::Publish,
        Self::Health,
        Self::Ready,
        Self::Metrics,
        Self::Handlers,
        Self::Queues,
        Self::DeadList,
        Self::DeadOne,
        Self::DeadReplay,
        Self::DeadDrop,
        Self::QueueReplay,
        Self::Pause,
        Self::Resume,
        Self::Forget,
    ];

    /// Method and path.
    pub(super) fn line(self) -> (&'static str, &'static str) {
        match self {
            Self::Publish => ("POST", "/events/{queue}"),
            Self::Health => ("GET", "/healthz"),
            Self::Ready => ("GET", "/readyz"),
            Self::Metrics => ("GET", "/metrics"),
            Self::Handlers => ("GET", "/api/handlers"),
            Self::Queues => ("GET", "/api/queues"),
            Self::DeadList => ("GET", "/api/dead"),
            Self::DeadOne => ("GET", "/api/dead/{id}"),
            Self::DeadReplay => ("POST", "/api/dead/{id}/replay"),
            Self::DeadDrop => ("DELETE", "/api/dead/{id}"),
            Self::QueueReplay => ("POST", "/api/queues/{name}/replay"),
            Self::Pause => ("POST", "/api/handlers/{name}/pause"),
            Self::Resume => ("POST", "/api/handlers/{name}/resume"),
            Self::Forget => ("POST", "/api/handlers/{name}/forget"),
        }
    }

    pub(super) fn access(self) -> Access {
        match self {
            Self::Health | Self::Ready => Access::Anyone,
            Self::Publish => Access::Publish,
            _ => Access::Full,
        }
    }

    fn handler(self, state: &Arc<State>) -> MethodRouter<Arc<State>> {
        match self {
            Self::Publish => routing::post(http::post).with_state(state.ingress.clone()),
            Self::Health => routing::get(health),
            Self::Ready => routing::get(ready),
            Self::Metrics => routing::get(scrape),
            Self::Handlers => routing::get(handlers),
            Self::Queues => routing::get(queues),
            Self::DeadList => routing::get(dead::list),
            Self::DeadOne => routing::get(dead::one),
            Self::DeadReplay => routing::post(dead::replay),
            Self::DeadDrop => routing::delete(dead::remove),
            Self::QueueReplay => routing::post(control::replay_queue),
            Self::Pause => routing::post(control::pause),
            Self::Resume => routing::post(control::resume),
            Self::Forget => routing::post(control::forget),
        }
    }
}

/// All routes with their protections.
pub(super) fn router(state: &Arc<State>) -> Router {
    let mut router = Router::new();
    for route in Route::ALL {
        router = router.route(route.line().1, route.handler(state));
    }
    router
        .fallback(|uri: Uri| async move {
            let path: String = uri.path().chars().take(80).collect();
            Failure::new(StatusCode::NOT_FOUND, format!("no route `{path}`"))
        })
        .method_not_allowed_fallback(|| async {
            Failure::new(StatusCode::METHOD_NOT_ALLOWED, "this route has another method (see the header `allow`)".to_owned())
        })
        .layer(middleware::from_fn_with_state(state.clone(), guard))
        .layer(middleware::map_response(answer::protect))
        .with_state(state.clone())
}

/// What has no route asks for as much as the most protected one.
async fn guard(Shared(state): Shared<Arc<State>>, path: Option<MatchedPath>, request: Request, next: Next) -> Response {
    // Routes of one path are for the same people.
    let route = Route::ALL.into_iter().find(|route| path.as_ref().is_some_and(|path| path.as_str() == route.line().1));
    match state.rules.check(request.uri(), request.headers(), route.map_or(Access::Full, Route::access)) {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    }
}

async fn health() -> Response {
    answer::json(StatusCode::OK, &serde_json::json!({"status": "ok", "server": "weir"}))
}

async fn ready(Shared(state): Shared<Arc<State>>) -> Response {
    let readiness = state.backend.readiness();
    let ready = readiness.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({
        "ready": ready,
        "draining": readiness.draining,
        "not_ready": readiness.not_ready,
        "degraded": readiness.degraded,
    });
    answer::json(status, &body)
}

async fn scrape(Shared(state): Shared<Arc<State>>) -> Response {
    let handlers = state.backend.handlers().into_iter();
    // What a queue or the store can't say in time is missing from the text; what was counted never is.
    let queues = ask(state.backend.queues()).await.unwrap_or_default();
    let dead = ask(state.backend.dead_counts()).await.ok().and_then(Result::ok).unwrap_or_default();
    let stats = state.backend.stats();
    let scrape = Scrape {
        subscriptions: stats.iter().map(|one| (one.queue.clone(), one.handler.clone(), one.snapshot())).collect(),
        queues,
        handlers: handlers.filter_map(|handler| Some((handler.name, handler.version?))).collect(),
        dead,
        reloads: state.backend.reloads(),
    };
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], scrape.render()).into_response()
}

async fn handlers(Shared(state): Shared<Arc<State>>) -> Response {
    answer::json(StatusCode::OK, &state.backend.handlers())
}

async fn queues(Shared(state): Shared<Arc<State>>) -> Result<Response, Failure> {
    Ok(answer::json(StatusCode::OK, &ask(state.backend.queues()).await?))
}

/// A name or an id in the path.
pub(super) fn named(path: Result<Path<String>, PathRejection>) -> Result<String, Failure> {
    let wrong = |_| Failure::new(StatusCode::BAD_REQUEST, "name in the path is not UTF-8".to_owned());
    path.map(|Path(name)| name).map_err(wrong)
}

/// Waits for an answer of the server's parts, for so long.
pub(super) async fn ask<T>(answer: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::time::timeout(ASK_TIMEOUT, answer).await.map_err(|_| {
        let text = format!("no answer from a queue or the store within {} s", ASK_TIMEOUT.as_secs());
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, text).retry_after(http::RETRY_AFTER)
    })
}

/// What can't be asked now.
pub(super) fn broken(why: String) -> Failure {
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, why).retry_after(http::RETRY_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_the_routes_that_there_are() {
        let documented: Vec<(&str, &str)> = include_str!("../admin.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("//! | `"))
            .filter_map(|line| line.split_once("` | "))
            .map(|(route, rest)| (route, rest.split(" | ").next().unwrap_or_default()))
            .collect();
        let routes: Vec<(String, &str)> = Route::ALL
            .into_iter()
            .map(|route| {
                let who = match route.access() {
                    Access::Anyone => "anyone",
                    Access::Publish => "`token` or `publish-token`",
                    Access::Full => "`token`",
                };
                (format!("{} {}", route.line().0, route.line().1), who)
            })
            .collect();
        let routes: Vec<(&str, &str)> = routes.iter().map(|(route, who)| (route.as_str(), *who)).collect();
        assert_eq!(documented, routes);
    }
}
