//! Sends a mail to the address that is the event's data, and takes what becomes of it as its own end.
use weir_guests::email::{self, Error};

weir_guests::handler!(|event, _| {
    let data = String::from_utf8(event.data.unwrap_or_default()).unwrap();
    match email::send(&email::message(data.trim_matches('"'), "hello")) {
        Ok(id) => {
            println!("mailed {id}");
            Ok(())
        }
        Err(Error::Unavailable(text)) => weir_guests::retry(&text, None),
        Err(Error::Denied(text) | Error::Invalid(text) | Error::Rejected(text)) => weir_guests::reject(text),
    }
});
