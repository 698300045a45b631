//! Sends a mail, and then fails until its third attempt.
use weir_guests::email;

weir_guests::handler!(|event, delivery| {
    let data = String::from_utf8(event.data.unwrap_or_default()).unwrap();
    let id = email::send(&email::message(data.trim_matches('"'), "hello")).unwrap();
    println!("mailed {id}");
    if delivery.attempt < 3 { weir_guests::retry("after the mail", None) } else { Ok(()) }
});
