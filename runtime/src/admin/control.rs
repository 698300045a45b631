//! The routes that change what a handler does, pause, resume and forget, and the one that replays a queue.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::response::Response;

use super::State;
use super::answer::{self, Failure};
use super::backend::Refused;
use super::routes::{ask, broken, named};

type Name = Result<Path<String>, PathRejection>;

pub(super) async fn pause(state: Shared<Arc<State>>, name: Name) -> Result<Response, Failure> {
    set_paused(state, name, true).await
}

pub(super) async fn resume(state: Shared<Arc<State>>, name: Name) -> Result<Response, Failure> {
    set_paused(state, name, false).await
}

async fn set_paused(Shared(state): Shared<Arc<State>>, name: Name, paused: bool) -> Result<Response, Failure> {
    let name = named(name)?;
    ask(state.backend.set_paused(&name, paused)).await?.map_err(failure_of)?;
    // As the handler is now: what else holds it up is told with it.
    let handler = state.backend.handlers().into_iter().find(|handler| handler.name == name);
    Ok(answer::json(StatusCode::OK, &handler))
}

pub(super) async fn forget(Shared(state): Shared<Arc<State>>, name: Name) -> Result<Response, Failure> {
    let forgotten = ask(state.backend.forget(&named(name)?)).await?.map_err(failure_of)?;
    Ok(answer::json(StatusCode::OK, &serde_json::json!({ "forgotten": forgotten })))
}

pub(super) async fn replay_queue(Shared(state): Shared<Arc<State>>, name: Name) -> Result<Response, Failure> {
    let risen = state.backend.replay_queue(&named(name)?).await.map_err(failure_of)?;
    Ok(answer::json(StatusCode::OK, &risen))
}

fn failure_of(refused: Refused) -> Failure {
    match refused {
        Refused::Unknown(text) => Failure::new(StatusCode::NOT_FOUND, text),
        Refused::Refused(text) => Failure::new(StatusCode::CONFLICT, text),
        Refused::Unavailable(text) => broken(text),
    }
}
