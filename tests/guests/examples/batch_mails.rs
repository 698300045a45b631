//! Mails for each item that says so, and asks for another try of those whose mail failed. Says what it was told of a mail for no item.
use weir_guests::batch::{Answer, says};
use weir_guests::email::{message, send, send_for};
use weir_guests::retry;

weir_guests::batch_handler!(|items| {
    println!("{:?}", send(&message("ann@example.com", "for nobody")));
    println!("{:?}", send_for(items.len() as u32, &message("ann@example.com", "for nobody")));
    let mut answers = Vec::new();
    for (index, item) in (0..).zip(&items) {
        let verdict = match says(item).as_str() {
            "mail" => match send_for(index, &message("ann@example.com", "for all the same")) {
                Ok(id) => {
                    println!("{} is {id}", item.event.id);
                    Ok(())
                }
                Err(error) => retry(&format!("{error:?}"), None),
            },
            "missing" => continue,
            "retry" => retry("my own", None),
            "trap" => panic!("after mails"),
            _ => Ok(()),
        };
        answers.push(Answer { index, verdict });
    }
    Ok(answers)
});
