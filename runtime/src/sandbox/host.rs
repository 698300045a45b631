//! The host side of what a guest may import; one file per interface, named like it.

pub(crate) mod config;
pub(crate) mod email;
pub(crate) mod http;
pub(crate) mod keyvalue;
pub(crate) mod logging;
pub(crate) mod publisher;
pub(crate) mod sockets;

use wasmtime::Engine;
use wasmtime::component::Linker;

use super::state::State;

/// A linker with every ambient interface, and those capabilities that are granted. What they give is checked again at each call.
pub(crate) fn linker(engine: &Engine, granted: impl Fn(&str) -> bool) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    sockets::add(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    http::add(&mut linker)?;
    linker.instance("weir:events/types@0.1.0")?;
    config::add(&mut linker)?;
    logging::add(&mut linker)?;
    if granted("weir:events/email") {
        email::add(&mut linker)?;
    }
    if granted("weir:events/publisher") {
        publisher::add(&mut linker)?;
    }
    if ["store", "atomics", "batch"].iter().any(|name| granted(&format!("wasi:keyvalue/{name}"))) {
        keyvalue::add(&mut linker)?;
    }
    Ok(linker)
}
