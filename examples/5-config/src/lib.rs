//! Words that change without recompiling: from `weir.toml`, and from a file that it names.

use weir_sdk::prelude::*;

weir_sdk::handler!(greet, self_test = check);

fn greet(event: Event<String>) -> Result {
    let greeting = config::require("greeting")?;
    let name = if event.data.is_empty() { config::get("nobody").unwrap_or_default() } else { event.data };
    log::info!("{}", greeting.trim().replace("NAME", &name));
    Ok(())
}

/// Called before a new version, or a changed file, takes over: an error keeps the old one.
fn check() -> Result {
    let greeting = config::require("greeting")?;
    if greeting.contains("NAME") { Ok(()) } else { Err(reject("`greeting` has no NAME in it")) }
}

#[cfg(test)]
mod tests {
    use weir_sdk::testing::{Host, event};

    use super::*;

    #[test]
    fn the_greeting_is_configured() {
        let mut host = Host::new().config("greeting", "Good morning, NAME.\n").config("nobody", "stranger");
        assert_eq!(host.run(greet, event("greeting.asked", "Ann")).logs[0].message, "Good morning, Ann.");
        assert_eq!(host.run(greet, event("greeting.asked", "")).logs[0].message, "Good morning, stranger.");
        assert_eq!(host.self_test(check).result, Ok(()));
    }

    #[test]
    fn a_greeting_without_a_name_is_refused() {
        let run = Host::new().config("greeting", "Hello").self_test(check);
        assert_eq!(run.result, Err(reject("`greeting` has no NAME in it")));
    }
}
