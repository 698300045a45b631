//! `wasi:logging/logging`: lines of the event's log, charged like stdout.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker};

use crate::sandbox::imports::LOGGING_VERSION;
use crate::sandbox::log::Way;
use crate::sandbox::state::State;

// Constructed by lifting alone.
#[expect(dead_code, reason = "the engine makes these from what a guest passes")]
#[derive(ComponentType, Lift, Clone, Copy)]
#[component(enum)]
#[repr(u8)]
enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

pub(crate) fn add(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut instance = linker.instance(&format!("wasi:logging/logging@{LOGGING_VERSION}"))?;
    instance.func_wrap("log", |store: StoreContextMut<'_, State>, (level, context, message): (Level, String, String)| {
        let context = if context.is_empty() { context } else { format!("{context}: ") };
        let line = format!("{}: {context}{message}\n", level.name());
        store.data().log.write(line.as_bytes(), Way::Logging).map_err(wasmtime::Error::from)
    })
}
