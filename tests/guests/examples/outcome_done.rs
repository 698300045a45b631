//! Answers ok.
weir_guests::handler!(|_, _| Ok(()));
