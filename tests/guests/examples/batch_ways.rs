//! Answers, or does not, as the data of its items says; says how many they are, and which.
use weir_guests::batch::{Answer, says};
use weir_guests::{Failure, reject, retry};

weir_guests::batch_handler!(|items| {
    let ids: Vec<_> = items.iter().map(|item| item.event.id.as_str()).collect();
    println!("call with {} of {}", ids.join(" "), ids.len());
    let mut answers = Vec::new();
    for (index, item) in (0..).zip(&items) {
        let attempt = item.delivery.attempt;
        let verdict = match says(item).as_str() {
            "retry" => retry("not now", Some(7)),
            // An attempt at which it works.
            number if number.parse::<u32>().is_ok() => {
                if attempt < number.parse().unwrap() { retry("not yet", None) } else { Ok(()) }
            }
            "reject" => reject("never"),
            "missing" => continue,
            "all" => return Err(Failure::Reject("all of them".to_owned())),
            "trap" => panic!("{} is poison", item.event.id),
            "loop" => loop {
                std::hint::black_box(());
            },
            "grow" => {
                let mut held = Vec::new();
                loop {
                    held.push(std::hint::black_box(vec![1_u8; 1 << 20]));
                }
            }
            "range" => {
                answers.push(Answer { index: items.len() as u32, verdict: Ok(()) });
                Ok(())
            }
            "twice" => {
                answers.push(Answer { index, verdict: Ok(()) });
                Ok(())
            }
            _ => Ok(()),
        };
        answers.push(Answer { index, verdict });
    }
    // In any order.
    answers.reverse();
    Ok(answers)
});
