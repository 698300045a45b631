//! Events out of an event: one for whoever writes receipts, and one for itself, later.

use std::time::Duration;

use weir_sdk::prelude::*;

weir_sdk::handler!(on_order);

const HOUR: Duration = Duration::from_secs(3600);

#[derive(serde::Serialize, serde::Deserialize)]
struct Order {
    id: String,
}

fn on_order(event: Event<Order>) -> Result {
    let order = event.data;
    if event.kind == "order.check" {
        log::info!("an hour ago {} was paid", order.id);
        return Ok(());
    }
    publish::event("receipt.due").subject(order.id.as_str()).data(&order)?.to("receipts")?;
    publish::event("order.check").data(&order)?.after(HOUR).to_self()?;
    log::info!("{} is paid: its receipt is due", order.id);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use weir_sdk::publish::Schedule;
    use weir_sdk::testing::{Host, event};

    use super::*;

    #[test]
    fn a_paid_order_becomes_two_events() {
        let run = Host::new().run(on_order, event("order.paid", json!({ "id": "A-17" })));
        let published: Vec<_> =
            run.published.iter().map(|published| (&*published.queue, &*published.event.kind, published.due)).collect();
        assert_eq!(published, [("receipts", "receipt.due", Schedule::Now), ("self", "order.check", Schedule::After(HOUR))]);
    }

    #[test]
    fn a_check_becomes_none() {
        let run = Host::new().run(on_order, event("order.check", json!({ "id": "A-17" })));
        assert_eq!((run.result, run.published.len()), (Ok(()), 0));
    }
}
