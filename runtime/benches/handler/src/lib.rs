//! A handler as users write them: parses the event's JSON and looks at one field.

use weir_sdk::prelude::*;

weir_sdk::handler!(look);

fn look(event: Event<serde_json::Value>) -> Result {
    if event.data["n"] == 1 { Ok(()) } else { Err(reject("`n` is not 1")) }
}
