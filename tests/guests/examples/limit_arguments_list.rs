//! Hands the host a list of a million recipients, each of them the same few bytes of its memory.
use weir_guests::email::{message, send};

weir_guests::handler!(|_, _| {
    let mut mail = message("ann@example.com", "hello");
    mail.to = vec![String::new(); 1_000_000];
    let _ = send(&mail);
    Ok(())
});
