//! `wasi:cli/run`: a program with the event on stdin, whose exit is the answer.

use wasmtime::Store;
use wasmtime::component::{Instance, TypedFunc};

use super::{Linked, exit};
use crate::sandbox::classify::Ending;
use crate::sandbox::run::{Job, Stopped};
use crate::sandbox::state::State;

type Run = TypedFunc<(), (Result<(), ()>,)>;

#[derive(Clone)]
pub(in crate::sandbox) struct Command(pub(super) Linked);

impl Command {
    fn function(&self, instance: &Instance, store: &mut Store<State>) -> wasmtime::Result<Run> {
        instance.get_typed_func(store, self.0.function)
    }

    pub(super) fn check(&self, instance: &Instance, store: &mut Store<State>) -> wasmtime::Result<()> {
        self.function(instance, store).map(drop)
    }

    pub(super) async fn call(&self, job: &Job<'_>, store: &mut Store<State>) -> Result<Ending, Stopped> {
        store.data_mut().stdin = exit::stdin(job.event);
        let called = self.run(store).await;
        exit::ended(called, &store.data().log)
    }

    /// Its exit code. A program that returns can only say whether it is well.
    async fn run(&self, store: &mut Store<State>) -> Result<i32, Stopped> {
        let instance = self.0.instantiate(store).await?;
        let run = self.function(&instance, store).map_err(Stopped::Loading)?;
        let (answer,) = run.call_async(store, ()).await.map_err(Stopped::Called)?;
        Ok(i32::from(answer.is_err()))
    }
}
