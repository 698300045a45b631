//! Logs for ever.
use weir_guests::logging::{Level, log};

weir_guests::handler!(|_, _| loop {
    log(Level::Info, "tests", "all work and no play");
});
