//! Makes a component of a core module that carries a component type, as binding generators embed it: what `wasm-tools component new` does.

use std::panic::{AssertUnwindSafe, catch_unwind};

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::ComponentEncoder;

/// The component. What the module has of preview 1 goes through wasmtime's adapter; a command keeps being one.
///
/// # Errors
/// When type and module don't fit each other.
pub(super) fn component(module: &[u8], command: bool) -> Result<Vec<u8>, String> {
    let adapter = if command { WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER } else { WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER };
    let encode = || {
        let encoder = ComponentEncoder::default().validate(true).module(module)?;
        encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, adapter)?.encode()
    };
    // The encoder is made for what compilers write, and what it takes for granted a file from anywhere may not keep.
    match catch_unwind(AssertUnwindSafe(encode)) {
        Ok(encoded) => encoded.map_err(|error| format!("carries a component type that does not fit it: {error:#}")),
        Err(_) => Err("carries a component type that can't be read".to_owned()),
    }
}
