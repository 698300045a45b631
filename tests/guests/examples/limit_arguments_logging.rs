//! Hands the host a text of 3 MiB to log.
use weir_guests::logging::{Level, log};

weir_guests::handler!(|_, _| {
    log(Level::Info, "tests", &"x".repeat(3 << 20));
    Ok(())
});
