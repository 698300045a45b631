//! Sends five mails, does not look at errors and answers ok.
use weir_guests::email::{message, send};

weir_guests::handler!(|_, _| {
    for number in 0..5 {
        let _ = send(&message("ann@example.com", &format!("mail {number}")));
    }
    Ok(())
});
