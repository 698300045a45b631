//! URLs of RabbitMQ, as they are written and shown.

use super::*;

fn parsed(text: &str) -> AmqpUrl {
    AmqpUrl::parse(text, Path::new("/etc")).unwrap()
}

#[test]
fn queues_are_read() {
    let url = parsed("amqps://ann:s3cr%2Fet@h/shop/orders%20new?hold=5m&heartbeat=2s&ca=ca.pem&queue-type=classic");
    assert_eq!(url.login, Some(("ann".to_owned(), Secret("s3cr/et".to_owned()))));
    assert_eq!((url.port, url.vhost.as_str(), &url.place), (5671, "shop", &Place::Queue("orders new".to_owned())));
    assert_eq!((url.hold, url.heartbeat, url.kind), (Duration::from_secs(300), Duration::from_secs(2), Kind::Classic));
    assert_eq!(url.authority.as_deref(), Some(Path::new("/etc/ca.pem")));
    assert_eq!(url.to_string(), "amqps://h:5671/shop/orders%20new");
    for text in ["amqp://h/%2F/q", "amqp://h//q"] {
        assert_eq!(parsed(text).vhost, "/", "{text}");
        assert_eq!(parsed(text).to_string(), "amqp://h:5672/%2F/q");
    }
    assert_eq!(parsed("amqp://h/v/a/b").place, Place::Queue("a/b".to_owned()));
}

#[test]
fn exchanges_are_read() {
    let of = |text: &str| match parsed(text).place {
        Place::Exchange(exchange) => exchange,
        Place::Queue(queue) => panic!("{queue}"),
    };
    let topic = of("amqp://h/%2F?exchange=events&routing=a.*&routing=b.%23");
    assert_eq!((topic.base.as_str(), topic.publish), ("events", None));
    assert_eq!(topic.routing, ["a.*", "b.#"]);
    let direct = of("amqp://h/%2F/mine?exchange=events&exchange-type=direct&routing=a");
    assert_eq!((direct.base.as_str(), direct.publish.as_deref(), direct.kind.as_deref()), ("mine", Some("a"), Some("direct")));
    assert_eq!(of("amqp://h/%2F?exchange=events&exchange-type=fanout").routing, ["#"]);
    assert_eq!(parsed("amqp://h/v/mine?exchange=e").to_string(), "amqp://h:5672/v/mine?exchange=e");
}

#[test]
fn mistakes_are_named() {
    for (rest, says) in [
        ("", "the queue is missing, as in `amqp://"),
        ("/orders", "the queue is missing"),
        ("/v/q?exchange=", "`exchange` is empty"),
        ("/v/q?exchange=a&exchange=b", "`exchange` is given twice"),
        ("/v/q?routing=a", "need `exchange=NAME`"),
        ("/v?exchange=e&exchange-type=odd", "expected `direct`, `topic` or `fanout`"),
        ("/v?exchange=e&exchange-type=direct", "needs `routing=KEY`"),
        ("/v/q?queue-type=stream", "expected `quorum` or `classic`"),
        ("/v/q?hold=1s", "expected from 10s to 7d"),
        ("/v/q?heartbeat=1500ms", "expected whole seconds"),
        ("/v/q?heartbeat=5m", "expected from 1s to 60s"),
        ("/v/amq.rabbitmq.trace", "the server's own"),
        ("/v/q?cert=c", "`cert=` and `key=` go together"),
        ("/v/q?ca=c", "are for `amqps:`"),
        ("/v/q?prefetch=1", "parameter `prefetch` is not known (known: `exchange`"),
    ] {
        let error = AmqpUrl::parse(&format!("amqp://u:s3cret@h{rest}"), Path::new("")).unwrap_err();
        assert!(error.contains(says) && !error.contains("s3cret"), "{rest}: {error}");
    }
    assert!(AmqpUrl::parse("amqp://u@h/v/q", Path::new("")).unwrap_err().contains("the password is missing"));
}
