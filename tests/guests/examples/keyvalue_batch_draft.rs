//! Calls every function of `wasi:keyvalue/batch` in its first draft.
weir_guests::keyvalue_batch!(draft, |cursor: &Option<u64>| *cursor);
