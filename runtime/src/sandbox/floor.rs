//! The two bare loops that Weir is measured against (sandbox.md §11): the engine with the same component and none of Weir.
//!
//! `bare` is what an experienced user of wasmtime would write first; `tuned` has every setting that Weir uses, and nothing else.

use std::sync::Arc;

use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker, ResourceTable};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store, StoreLimits, StoreLimitsBuilder,
};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::engine::{Class, config};
use super::programs::typed::{DeliveryIn, EventIn, Handle};
use crate::config::{Ceilings, Limits};
use crate::event::Event;

/// Slots of the loops' pools; they run one event at a time.
const SLOTS: u32 = 100;

/// Which loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Default WASI context, one store an event, pooling with keep-resident and page scan, fuel and epochs, no deadline.
    Bare,
    /// Every setting that Weir uses.
    Tuned,
}

/// A component in a bare loop.
pub struct Floor {
    kind: Kind,
    pre: InstancePre<Data>,
    handle: ComponentExportIndex,
    limits: Limits,
}

struct Data {
    wasi: Option<WasiCtx>,
    table: ResourceTable,
    limits: StoreLimits,
}

impl WasiView for Data {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: self.wasi.get_or_insert_with(|| WasiCtxBuilder::new().build()), table: &mut self.table }
    }
}

impl Floor {
    /// Compiles a component that imports nothing but WASI.
    ///
    /// # Errors
    /// When it can't be compiled or linked.
    pub fn new(kind: Kind, bytes: &[u8], initial_memory: u64) -> wasmtime::Result<Self> {
        let engine = Engine::new(&match kind {
            Kind::Bare => bare(),
            Kind::Tuned => config(Class::of(initial_memory), &Ceilings::default(), SLOTS),
        })?;
        let component = Component::from_binary(&engine, bytes)?;
        let mut linker: Linker<Data> = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        linker.instance("weir:events/types@0.1.0")?;
        linker.define_unknown_imports_as_traps(&component)?;
        let pre = linker.instantiate_pre(&component)?;
        let instance = component.get_export_index(None, "weir:events/handler@0.1.0");
        let handle = instance.and_then(|instance| component.get_export_index(Some(&instance), "handle"));
        let handle = handle.ok_or_else(|| wasmtime::Error::msg("exports no `weir:events/handler`"))?;
        Ok(Self { kind, pre, handle, limits: Limits::default() })
    }

    /// Runs `count` events, each in a fresh instance.
    ///
    /// # Errors
    /// When one of them does not end ok.
    pub async fn run(&self, event: &Arc<Event>, count: u64) -> wasmtime::Result<()> {
        for _ in 0..count {
            let mut store = self.store()?;
            let instance = self.pre.instantiate_async(&mut store).await?;
            let handle: Handle<'_> = instance.get_typed_func(&mut store, self.handle)?;
            let delivery = DeliveryIn {
                handler: "bench",
                queue: "bench",
                order_key: None,
                attempt: 1,
                attempts_left: 7,
                first_seen: 0,
                time_left: 30_000,
                idempotency_key: "0000000000000000000000000000000000000000000000000000000000000000",
                wants_reply: false,
            };
            let (answer,) = handle.call_async(&mut store, (EventIn::new(event, &[]), delivery)).await?;
            if answer.is_err() {
                return Err(wasmtime::Error::msg("the handler did not answer ok"));
            }
        }
        Ok(())
    }

    fn store(&self) -> wasmtime::Result<Store<Data>> {
        let wasi = (self.kind == Kind::Bare).then(|| WasiCtxBuilder::new().build());
        let memory = usize::try_from(self.limits.memory).unwrap_or(usize::MAX);
        let limits = StoreLimitsBuilder::new().memory_size(memory).build();
        let mut store = Store::new(self.pre.engine(), Data { wasi, table: ResourceTable::new(), limits });
        store.limiter(|data| &mut data.limits);
        store.set_fuel(self.limits.fuel)?;
        store.set_epoch_deadline(1_000_000);
        Ok(store)
    }
}

fn bare() -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(SLOTS)
        .total_core_instances(SLOTS * 32)
        .total_memories(SLOTS * 2)
        .total_tables(SLOTS * 4)
        .total_stacks(SLOTS)
        .linear_memory_keep_resident(1 << 20)
        .table_keep_resident(64 << 10)
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config.consume_fuel(true).epoch_interruption(true).allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}
