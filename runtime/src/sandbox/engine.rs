//! The engines: one per class of component, each with its pool, made on first use; and the thread that ticks their epochs.
//!
//! Settings and their worth in microseconds: engine-floor.md. A class is chosen before compiling and is part of the cache key.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::{Config, Enabled, Engine, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

use crate::config::Ceilings;

/// The version of wasmtime this is built with; part of the cache key.
pub(crate) const ENGINE_VERSION: &str = "48";

/// Initial linear memory up to which copying a component's memory back is cheaper than asking the kernel which pages were written.
const SMALL_MEMORY_MAX: u64 = 256 * 1024;

/// How often the epoch moves: the precision of deadlines, and how long a busy guest holds a thread before it yields.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// Frames of a backtrace that are kept (sandbox.md §6).
const BACKTRACE_FRAMES: usize = 32;

/// Room on an async stack beside the wasm stack, for host functions; address space, touched only when used.
const HOST_STACK: usize = 1 << 20;

/// Linear memory that a slot keeps resident, small and large: what does not fit is given back to the kernel at the end of each event.
const KEEP_SMALL: usize = 1 << 20;
const KEEP_LARGE: usize = 4 << 20;

/// Table bytes that a slot keeps resident: all of an ordinary guest's table.
const KEEP_TABLE: usize = 64 * 1024;

/// Slots that stay warm with the memory of their last component: enough for what runs at once, far fewer than all.
const WARM_SLOTS_PER_CORE: u32 = 16;

/// Mappings of a live instance, about; `vm.max_map_count` divided by it bounds the instances (sandbox.md §4).
const MAPPINGS_PER_INSTANCE: u32 = 8;

/// Elements of one table, bytes of instance data, memories and tables of one module: bounds that are checked, not memory taken.
pub(crate) const TABLE_ELEMENTS: usize = 100_000;
const INSTANCE_BYTES: usize = 8 << 20;
const PER_MODULE: u32 = 4;

/// Most linear memories, tables and core instances of one component: the pool holds as many for each instance, so that it never runs out
/// of one while there are permits.
pub(crate) const MEMORIES_PER_COMPONENT: u32 = 2;
const TABLES_PER_COMPONENT: u32 = 4;
const CORE_INSTANCES_PER_COMPONENT: u32 = 32;

/// What kind of engine a component needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Little initial memory: reset by copying.
    Small,
    /// More: reset page by page as the kernel reports writes, images mapped copy-on-write.
    Large,
}

impl Class {
    /// By the bytes of linear memory that a component begins with.
    #[must_use]
    pub fn of(initial_memory: u64) -> Self {
        if initial_memory <= SMALL_MEMORY_MAX { Self::Small } else { Self::Large }
    }
}

/// The engines of one process.
pub struct Engines {
    small: OnceLock<Engine>,
    large: OnceLock<Engine>,
    ceilings: Ceilings,
    instances: u32,
    ticker: Ticker,
}

impl Engines {
    /// Engines for at most `instances` instances each at once.
    #[must_use]
    pub fn new(ceilings: &Ceilings, instances: u32) -> Self {
        let instances = fitting_instances(instances);
        Self { small: OnceLock::new(), large: OnceLock::new(), ceilings: *ceilings, instances, ticker: Ticker::start() }
    }

    /// How many instances there can be at once.
    #[must_use]
    pub fn instances(&self) -> u32 {
        self.instances
    }

    /// The engine of a class, made on first use.
    ///
    /// # Errors
    /// When the engine can't be made on this machine: too little address space, for example.
    pub fn get(&self, class: Class) -> wasmtime::Result<Engine> {
        let cell = match class {
            Class::Small => &self.small,
            Class::Large => &self.large,
        };
        if let Some(engine) = cell.get() {
            return Ok(engine.clone());
        }
        let engine = Engine::new(&config(class, &self.ceilings, self.instances))?;
        // Two threads may both have made one; the first one stays.
        let engine = cell.get_or_init(|| engine).clone();
        self.ticker.add(&engine);
        Ok(engine)
    }
}

/// Settings of a class, as measured in engine-floor.md; also what the bench calls `tuned`.
#[must_use]
pub fn config(class: Class, ceilings: &Ceilings, instances: u32) -> Config {
    let mut config = Config::new();
    let stack = usize::try_from(ceilings.stack).unwrap_or(usize::MAX);
    config
        .consume_fuel(true)
        .epoch_interruption(true)
        .concurrency_support(false)
        .memory_init_cow(class == Class::Large)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES))
        .max_wasm_stack(stack)
        .async_stack_size(stack.saturating_add(HOST_STACK))
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(class, ceilings, instances)));
    config
}

fn pool(class: Class, ceilings: &Ceilings, instances: u32) -> PoolingAllocationConfig {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let warm = WARM_SLOTS_PER_CORE.saturating_mul(u32::try_from(cores).unwrap_or(1));
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_stacks(instances)
        .total_memories(instances.saturating_mul(MEMORIES_PER_COMPONENT))
        .total_tables(instances.saturating_mul(TABLES_PER_COMPONENT))
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES_PER_COMPONENT))
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .max_memory_size(usize::try_from(ceilings.memory).unwrap_or(usize::MAX))
        .max_memories_per_module(PER_MODULE)
        .max_tables_per_module(PER_MODULE)
        .max_core_instance_size(INSTANCE_BYTES)
        .max_component_instance_size(INSTANCE_BYTES)
        .table_elements(TABLE_ELEMENTS)
        .table_keep_resident(KEEP_TABLE)
        .linear_memory_keep_resident(if class == Class::Small { KEEP_SMALL } else { KEEP_LARGE })
        .max_unused_warm_slots(warm.min(instances))
        .decommit_batch_size(1)
        .pagemap_scan(if class == Class::Large && scan_available() { Enabled::Yes } else { Enabled::No });
    pool
}

/// Whether this kernel reports written pages (Linux 6.7); without it large components cost 20 µs more an event.
#[must_use]
pub fn scan_available() -> bool {
    PoolingAllocationConfig::is_pagemap_scan_available()
}

/// As many instances as asked for, or as `vm.max_map_count` has room for.
fn fitting_instances(asked: u32) -> u32 {
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
    let Ok(mappings) = text.trim().parse::<u32>() else { return asked };
    let most = (mappings / MAPPINGS_PER_INSTANCE).max(1);
    if asked > most {
        tracing::warn!(
            asked,
            instances = most,
            "instances lowered: vm.max_map_count has no room for more (raise it with sysctl)"
        );
    }
    asked.min(most)
}

/// Moves the epoch of every engine once a [`TICK`]; ends when dropped.
struct Ticker {
    engines: Arc<Mutex<Vec<EngineWeak>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    fn start() -> Self {
        let engines: Arc<Mutex<Vec<EngineWeak>>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (Arc::clone(&engines), Arc::clone(&stop));
        let run = move || {
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(TICK);
                let engines = shared.lock().unwrap_or_else(PoisonError::into_inner);
                engines.iter().filter_map(EngineWeak::upgrade).for_each(|engine| engine.increment_epoch());
            }
        };
        let thread = std::thread::Builder::new().name("weir-epoch".to_owned()).spawn(run);
        if let Err(error) = &thread {
            // Without ticks no deadline binds a guest that computes: fuel still does.
            tracing::error!(%error, "no thread for deadlines");
        }
        Self { engines, stop, thread: thread.ok() }
    }

    fn add(&self, engine: &Engine) {
        self.engines.lock().unwrap_or_else(PoisonError::into_inner).push(engine.weak());
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
