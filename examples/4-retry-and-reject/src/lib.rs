//! The three answers of a handler: done, not now, never.

use std::time::Duration;

use weir_sdk::prelude::*;

weir_sdk::handler!(charge);

#[derive(serde::Deserialize)]
struct Payment {
    amount: String,
    ready: bool,
}

fn charge(event: Event<Payment>, delivery: Delivery) -> Result {
    let amount: f64 = event.data.amount.parse().or_reject("`amount` is not a number")?;
    if amount <= 0.0 {
        return Err(reject(format!("`amount` is {amount}, expected more than 0")));
    }
    // Stands for a system that is not ready the first time.
    if !event.data.ready && delivery.attempt == 1 {
        return Err(retry_after("the bank is closed", Duration::from_millis(100)));
    }
    log::info!("charged {amount} at attempt {}", delivery.attempt);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use weir_sdk::testing::{Host, delivery, event};

    use super::*;

    #[test]
    fn each_answer() {
        let run = |amount: &str, ready, attempt| {
            let mut host = Host::new().delivery(Delivery { attempt, ..delivery() });
            host.run(charge, event("payment.due", json!({ "amount": amount, "ready": ready }))).result
        };
        assert_eq!(run("5", true, 1), Ok(()));
        assert_eq!(run("5", false, 1), Err(retry_after("the bank is closed", Duration::from_millis(100))));
        assert_eq!(run("5", false, 2), Ok(()));
        assert_eq!(run("-1", true, 1), Err(reject("`amount` is -1, expected more than 0")));
        assert_eq!(run("five", true, 1), Err(reject("`amount` is not a number: invalid float literal")));
    }
}
