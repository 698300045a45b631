//! The other side of the imports: the server when compiled to wasm, else the one that tests set up. Nothing here is public.

#[cfg(not(target_family = "wasm"))]
pub(crate) mod native;
#[cfg(target_family = "wasm")]
pub(crate) mod wasm;

use std::cell::Cell;

#[cfg(not(target_family = "wasm"))]
pub(crate) use native::{buckets as keyvalue, config_get, log, publish, request, send};
#[cfg(target_family = "wasm")]
pub(crate) use wasm::{config_get, keyvalue, log, publish, request, send};

thread_local! {
    /// The item of a batch that mail and published events belong to now.
    static ITEM: Cell<Option<u32>> = const { Cell::new(None) };
}

/// The item that what is sent now belongs to.
pub(crate) fn item() -> Option<u32> {
    ITEM.get()
}

/// Calls a function in which what is sent belongs to this item.
pub(crate) fn within<R>(index: u32, function: impl FnOnce() -> R) -> R {
    struct Before(Option<u32>);
    impl Drop for Before {
        fn drop(&mut self) {
            ITEM.set(self.0);
        }
    }
    let _before = Before(ITEM.replace(Some(index)));
    function()
}
