//! Orders many at a time: what they come to together is worked out once, and each has its own answer.

use weir_sdk::prelude::*;

weir_sdk::batch_handler!(on_orders);

#[derive(serde::Deserialize)]
struct Order {
    id: String,
    total: f64,
}

fn on_orders(orders: Vec<Item<Order>>) -> Answers {
    let together: f64 = orders.iter().map(|order| order.event.data.total).sum();
    log::info!("{together:.2} in {} orders", orders.len());
    orders.into_iter().map(|order| order.handle(store)).collect()
}

/// As a handler of one event would: what it publishes belongs to that event.
fn store(event: Event<Order>, _: Delivery) -> Result {
    let order = event.data;
    if order.total < 0.0 {
        return Err(reject(format!("order `{}` has a negative total", order.id)));
    }
    publish::event("order.stored").subject(order.id).to("stored")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use weir_sdk::testing::{Host, event};

    use super::*;

    #[test]
    fn each_order_has_its_own_answer() {
        let order = |id: &str, total: f64| event("order.paid", json!({ "id": id, "total": total }));
        let run = Host::new().run_batch(on_orders, [order("1", 2.0), order("2", -1.0), order("3", 4.0)]);
        let results: Vec<_> = run.items.iter().map(|item| item.result.clone()).collect();
        assert_eq!(results, [Ok(()), Err(reject("order `2` has a negative total")), Ok(())]);
        assert_eq!(run.logs[0].message, "5.00 in 3 orders");
        assert_eq!(run.items[2].published[0].event.subject.as_deref(), Some("3"));
    }
}
