//! Logs at every level, with and without a context.
use weir_guests::logging::{Level, log};

weir_guests::handler!(|_, _| {
    for level in [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error, Level::Critical] {
        log(level, "orders", "counted");
    }
    log(Level::Info, "", "no context");
    Ok(())
});
