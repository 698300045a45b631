//! {{name}}: welcomes users who registered.

use weir_sdk::prelude::*;

weir_sdk::handler!(handle);

/// The event's data. What does not fit is rejected, with the path in the reason.
#[derive(serde::Deserialize)]
struct User {
    name: String,
    email: String,
}

fn handle(event: Event<User>) -> Result {
    let user = event.data;
    email::to(email::address(&user.name, &user.email))
        .subject("Welcome")
        .text(format!("Good to have you, {}.\n", user.name))
        .send()?;
    log::info!("welcomed {}", user.name);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use weir_sdk::testing::{Host, event};

    use super::*;

    #[test]
    fn a_user_is_welcomed() {
        let run = Host::new().run(
            handle,
            event(
                "user.registered",
                json!({ "name": "Ann", "email": "ann@example.com" }),
            ),
        );
        assert_eq!(run.result, Ok(()));
        assert_eq!(run.mails[0].to, ["Ann <ann@example.com>"]);
    }

    #[test]
    fn a_user_without_an_address_is_rejected() {
        let run = Host::new().run(handle, event("user.registered", json!({ "name": "Ann" })));
        assert!(
            run.result
                .unwrap_err()
                .reason()
                .contains("missing field `email`")
        );
    }
}
