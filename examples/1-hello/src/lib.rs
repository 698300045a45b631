//! The smallest handler: it takes any event and writes a line to the server's log.

use weir_sdk::prelude::*;

weir_sdk::handler!(hello);

fn hello(event: Event) {
    log::info!("hello, {}", event.kind);
}
