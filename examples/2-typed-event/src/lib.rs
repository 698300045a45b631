//! An event with its data as a type of one's own. Data that does not fit never reaches the function: the event is rejected.

use weir_sdk::prelude::*;

weir_sdk::handler!(on_order);

#[derive(serde::Deserialize)]
struct Order {
    order_id: String,
    items: Vec<Item>,
}

#[derive(serde::Deserialize)]
struct Item {
    quantity: u32,
}

fn on_order(event: Event<Order>) {
    let pieces: u32 = event.data.items.iter().map(|item| item.quantity).sum();
    log::info!("order {} has {pieces} pieces", event.data.order_id);
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use weir_sdk::testing::{Host, event};

    use super::*;

    #[test]
    fn pieces_are_counted() {
        let order = json!({ "order_id": "A-1", "items": [{ "quantity": 2 }, { "quantity": 1 }] });
        let run = Host::new().run(on_order, event("order.created", order));
        assert_eq!(run.logs[0].message, "order A-1 has 3 pieces");
    }

    #[test]
    fn data_that_does_not_fit_is_rejected() {
        let order = json!({ "order_id": "A-1", "items": [{ "quantity": "two" }] });
        let run = Host::new().run(on_order, event("order.created", order));
        assert!(run.result.unwrap_err().reason().starts_with("data: `items[0].quantity`: invalid type: string \"two\""));
    }
}
