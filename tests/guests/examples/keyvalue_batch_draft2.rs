//! Calls every function of `wasi:keyvalue/batch` in its second draft.
weir_guests::keyvalue_batch!(draft2, Option::<String>::as_deref);
