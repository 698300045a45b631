//! A mail for an event. Relay and sender are the server's; the handler names recipient and words.

use weir_sdk::prelude::*;

weir_sdk::handler!(welcome);

#[derive(serde::Deserialize)]
struct User {
    name: String,
    email: String,
}

fn welcome(event: Event<User>) -> Result {
    let user = event.data;
    email::to(email::address(&user.name, &user.email))
        .subject(format!("Welcome, {}", user.name))
        .text(format!("Good to have you, {}.\n", user.name))
        .send()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use weir_sdk::testing::{Host, event};

    use super::*;

    #[test]
    fn a_user_is_welcomed_once() {
        let registered = || event("user.registered", json!({ "name": "Ann", "email": "ann@example.com" }));
        let mut host = Host::new();
        let mails = host.run(welcome, registered()).mails;
        assert_eq!((mails[0].to[0].as_str(), mails[0].subject.as_str()), ("Ann <ann@example.com>", "Welcome, Ann"));
        assert!(host.run(welcome, registered()).mails.is_empty(), "the same event again sends nothing");
    }

    #[test]
    fn it_waits_for_the_relay() {
        let mut host = Host::new().mail_error(email::Error::Unavailable("connection refused".into()));
        let run = host.run(welcome, event("user.registered", json!({ "name": "Ann", "email": "ann@example.com" })));
        assert_eq!(run.result, Err(retry("connection refused")));
    }
}
