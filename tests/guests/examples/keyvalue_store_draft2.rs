//! Calls every function of `wasi:keyvalue/store` in its second draft.
weir_guests::keyvalue_store!(draft2, Some("x"));
