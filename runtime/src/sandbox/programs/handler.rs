//! `weir:events/handler`: the event as a record, the answer as a value.

use wasmtime::Store;
use wasmtime::component::Instance;

use super::Linked;
use super::typed::{DeliveryIn, EventIn, Handle, extensions, idempotency_key};
use crate::sandbox::Setup;
use crate::sandbox::classify::Ending;
use crate::sandbox::run::{Job, Stopped};
use crate::sandbox::state::State;

#[derive(Clone)]
pub(in crate::sandbox) struct Handler(pub(super) Linked);

impl Handler {
    fn function<'a>(&self, instance: &Instance, store: &mut Store<State>) -> wasmtime::Result<Handle<'a>> {
        instance.get_typed_func(store, self.0.function)
    }

    pub(super) fn check(&self, instance: &Instance, store: &mut Store<State>) -> wasmtime::Result<()> {
        self.function(instance, store).map(drop)
    }

    pub(super) async fn call(&self, setup: &Setup, job: &Job<'_>, store: &mut Store<State>) -> Result<Ending, Stopped> {
        let instance = self.0.instantiate(store).await?;
        let handle = self.function(&instance, store).map_err(Stopped::Loading)?;
        let extensions = extensions(job.event);
        let key = idempotency_key(job.event, &setup.handler);
        let given = (EventIn::new(job.event, &extensions), DeliveryIn::new(job, setup, &key));
        let (answer,) = handle.call_async(&mut *store, given).await.map_err(Stopped::Called)?;
        Ok(answer.into())
    }
}
