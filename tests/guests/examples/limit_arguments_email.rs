//! Hands the host a mail of 3 MiB.
use weir_guests::email::{message, send};

weir_guests::handler!(|_, _| {
    let _ = send(&message("ann@example.com", &"x".repeat(3 << 20)));
    Ok(())
});
