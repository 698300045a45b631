//! The other side of the imports: the server when compiled to wasm, else the one that tests set up. Nothing here is public.

#[cfg(not(target_family = "wasm"))]
pub(crate) mod native;
#[cfg(target_family = "wasm")]
pub(crate) mod wasm;

#[cfg(not(target_family = "wasm"))]
pub(crate) use native::{buckets as keyvalue, config_get, log, publish, request, send};
#[cfg(target_family = "wasm")]
pub(crate) use wasm::{config_get, keyvalue, log, publish, request, send};
