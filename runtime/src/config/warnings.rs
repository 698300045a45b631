//! What a configuration may say and is seldom meant: told by `weir check` and at start. Nothing of it is an error.

use super::Config;
use crate::queue::url::QueueUrl;

impl Config {
    /// What is to be told, each in a sentence for people.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let embedded = |url: &QueueUrl| matches!(url, QueueUrl::Memory | QueueUrl::Disk(_));
        let on_brokers: Vec<&str> =
            self.queues.iter().filter(|(_, queue)| !embedded(&queue.url)).map(|(name, _)| name.as_str()).collect();
        let unordered = self.handlers.iter().filter(|(_, handler)| handler.order_by.is_some()).flat_map(|(name, handler)| {
            let has_fallback = |queue: &&String| self.queues.get(*queue).is_some_and(|queue| queue.fallback.is_some());
            handler.queues.iter().filter(has_fallback).map(|queue| order(name, queue))
        });
        let keyless = self.queues.iter().filter(|(_, queue)| queue.key.is_some() && queue.url.adapter() != "kafka");
        let keyless = keyless.map(|(name, queue)| key(name, queue.url.adapter()));
        store(self.server.store.is_shared(), &on_brokers).into_iter().chain(unordered).chain(keyless).collect()
    }
}

/// delivery.md §6.
fn store(shared: bool, on_brokers: &[&str]) -> Option<String> {
    if shared || on_brokers.is_empty() {
        return None;
    }
    let names: Vec<String> = on_brokers.iter().map(|name| format!("`{name}`")).collect();
    Some(format!(
        "queue {} is on a network broker and `[server] store` is embedded: right only for one process with a disk that lasts \
         (write `store = \"redis://…\"` where several processes read it)",
        names.join(", ")
    ))
}

/// What was published while a broker was away comes later than what follows it.
fn order(handler: &str, queue: &str) -> String {
    format!(
        "handler `{handler}` has `order-by`, and queue `{queue}` a `fallback`: what that takes while the broker is away is forwarded in \
         another order"
    )
}

/// Kafka alone has a key beside the attributes (surface.md §5).
fn key(queue: &str, adapter: &str) -> String {
    format!("queue `{queue}` has a `key`, which is written to Kafka only: {adapter} has no key beside an event's attributes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_embedded_store_beside_a_broker_is_told() {
        assert_eq!(store(false, &[]), None);
        assert_eq!(store(true, &["orders"]), None);
        let text = store(false, &["orders", "mails"]).unwrap();
        assert!(text.starts_with("queue `orders`, `mails` is on a network broker"), "{text}");
    }
}
