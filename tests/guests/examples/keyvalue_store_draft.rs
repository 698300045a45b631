//! Calls every function of `wasi:keyvalue/store` in its first draft.
weir_guests::keyvalue_store!(draft, Some(u64::MAX));
