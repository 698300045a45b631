//! A core module for preview 1 of WASI that exports `_start`: a command, run as it is.

use wasmtime::{Engine, ExternType, Linker, Store};
use wasmtime_wasi::{I32Exit, p1};

use super::exit;
use crate::sandbox::classify::Ending;
use crate::sandbox::imports::PREVIEW1;
use crate::sandbox::run::{Job, Stopped, loading};
use crate::sandbox::state::State;

/// What a command exports.
pub(in crate::sandbox) const START: &str = "_start";

/// A core module that is linked.
#[derive(Clone)]
pub(in crate::sandbox) struct Module(wasmtime::InstancePre<State>);

impl Module {
    /// Links it.
    ///
    /// # Errors
    /// When `_start` is no function without parameters and results, or an import has another type.
    pub(in crate::sandbox) fn link(engine: &Engine, module: &wasmtime::Module) -> wasmtime::Result<Self> {
        let plain = |kind: &ExternType| kind.func().is_some_and(|kind| kind.params().len() + kind.results().len() == 0);
        if !module.get_export(START).as_ref().is_some_and(plain) {
            return Err(wasmtime::Error::msg(format!("`{START}` is no function without parameters and results")));
        }
        let mut linker = Linker::new(engine);
        p1::add_to_linker_async(&mut linker, State::preview1)?;
        // The engine's own takes no code above 125, and does not say which one it was.
        linker.allow_shadowing(true);
        linker.func_wrap(PREVIEW1, "proc_exit", |code: i32| -> wasmtime::Result<()> { Err(I32Exit(code).into()) })?;
        linker.instantiate_pre(module).map(Self)
    }

    pub(super) fn engine(&self) -> &Engine {
        self.0.module().engine()
    }

    /// Makes an instance.
    pub(in crate::sandbox) async fn start(&self, store: &mut Store<State>) -> wasmtime::Result<wasmtime::Instance> {
        self.0.instantiate_async(store).await
    }

    pub(super) async fn call(&self, job: &Job<'_>, store: &mut Store<State>) -> Result<Ending, Stopped> {
        store.data_mut().stdin = exit::stdin(job.event);
        let called = self.run(store).await;
        exit::ended(called, &store.data().log)
    }

    async fn run(&self, store: &mut Store<State>) -> Result<i32, Stopped> {
        let instance = self.start(store).await.map_err(loading)?;
        let start = instance.get_typed_func::<(), ()>(&mut *store, START).map_err(Stopped::Loading)?;
        start.call_async(store, ()).await.map_err(Stopped::Called)?;
        Ok(0)
    }
}
