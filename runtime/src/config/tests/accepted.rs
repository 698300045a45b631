//! What is taken, and as what.

use std::path::Path;
use std::time::Duration;

use super::super::{BatchPolicy, BucketGrant, ConfigValue, Export, LimitValue, Origin, Rate, Relay, RelayTls, Secret};
use super::{BASE, good};
use crate::keyvalue::BUCKET_BYTES;
use crate::queue::Start;
use crate::queue::url::QueueUrl;

#[test]
fn nothing_is_a_configuration_with_defaults() {
    let config = good("");
    assert_eq!(config.file, Path::new("/home/ann/../../etc/weir/weir.toml"));
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8077");
    assert_eq!(config.server.data, Path::new("/home/ann/../../etc/weir/.weir"));
    assert_eq!((config.server.token, config.server.name), (None, None));
    assert!(config.queues.is_empty() && config.handlers.is_empty());
}

#[test]
fn a_small_configuration_gets_defaults() {
    let config = good(BASE);
    let queue = &config.queues["events"];
    assert_eq!(queue.url, QueueUrl::Disk("/home/ann/../../etc/weir/data/events".into()));
    assert_eq!((queue.kind.as_str(), queue.start, queue.ingress, queue.max_size), ("weir.raw", Start::New, true, 10 << 30));
    let handler = &config.handlers["notify"];
    assert_eq!(handler.component, Path::new("/home/ann/../../etc/weir/notify.wasm"));
    assert_eq!((handler.queues.as_slice(), handler.concurrency), (["events".to_owned()].as_slice(), 8));
    assert_eq!(handler.limits, super::super::Limits::default());
    assert_eq!(handler.retry, super::super::RetryPolicy::default());
    assert!(handler.config.is_empty() && handler.grants.email.is_none() && handler.filter.is_none());
    assert!(handler.grants.publish.is_none() && handler.grants.http.is_empty());
    assert_eq!(good("[queue.m]\nurl = 'memory:'").queues["m"].max_size, 64 << 20);
}

#[test]
fn a_key_is_taken_and_told_where_no_broker_has_one() {
    let config = good("[queue.m]\nurl = 'memory:'\nkey = 'subject'");
    assert_eq!(config.queues["m"].key.as_deref(), Some("subject"));
    assert!(config.warnings()[0].starts_with("queue `m` has a `key`, which is written to Kafka only"));
    #[cfg(feature = "kafka")]
    assert!(!good("[queue.m]\nurl = 'kafka://h/t'\nkey = 'subject'").warnings().iter().any(|text| text.contains("`key`")));
}

/// Every key of this version, none with its default.
const EVERY_KEY: &str = r#"
[server]
listen = "0.0.0.0:0"
data = "/var/lib/weir"
store = "disk:"
name = "node-1"
group = "g"
grace = "0s"
token = "${TOKEN}"
publish-token = "p"
hosts = ["Weir.Example.com"]
max-event = "64KiB"
instances = 30000
loaded = 1
mail-kept = "1h"
[queue.old]
url = "memory:"
type = "com.example.raw"
start = "all"
ingress = false
max-size = "1MiB"
[queue.new]
url = "disk:/var/new"
[handler.notify]
component = "./h/notify.wasm"
queue = ["old", "new"]
concurrency = 256
filter = "type LIKE 'qa.%' AND host = '${HOST}'"
isolation = "fresh"
run = "batch"
batch = { size = 128, wait = "50ms" }
limits = { fuel = 1, memory = "256MiB", tables = 2, handles = 3, deadline = "5m", output = "1KiB", requests = 4, publishes = 10_000, published = "64MiB", response = "64MiB" }
retry = { attempts = 1, trap = 3, backoff = "2s..4s", after-max = "1h", outage = "2h" }
[handler.notify.config]
sender-name = "QA ${HOST}"
"any thing" = ""
rules = { file = "rules.toml" }
[handler.notify.grants]
publish = ["new", "self"]
http = [{ url = "https://API.example.com:443/v1/*", methods = ["GET", "POST"] }, { url = "http://localhost/hook", methods = ["PUT"] }]
keyvalue = [{ bucket = "digest" }, { bucket = "all", url = "redis://u:${PASSWORD}@h/1", max-size = "1GiB" }]
[handler.notify.grants.email]
relay = "smtp://ann:${PASSWORD}@${HOST}:25"
from = "QA <noreply@example.com>"
to = ["ann@example.com", "*@example.com", "*"]
rate = "100/m"
"#;

#[test]
fn every_key_of_server_and_queues_is_taken() {
    let config = good(EVERY_KEY);
    let server = &config.server;
    assert_eq!((server.listen.to_string().as_str(), server.data.as_path()), ("0.0.0.0:0", Path::new("/var/lib/weir")));
    assert_eq!((server.name.as_deref(), server.group.as_str(), server.grace), (Some("node-1"), "g", Duration::ZERO));
    assert_eq!((&server.token, &server.publish_token), (&Some(Secret("s3cr3t".into())), &Some(Secret("p".into()))));
    assert_eq!((server.hosts.as_slice(), server.max_event), (["weir.example.com".to_owned()].as_slice(), 65_536));
    assert_eq!((server.instances, server.loaded, server.mail_kept), (30_000, 1, Duration::from_secs(3_600)));
    let queue = &config.queues["old"];
    assert_eq!((&queue.url, queue.kind.as_str(), queue.start), (&QueueUrl::Memory, "com.example.raw", Start::All));
    assert_eq!((queue.ingress, queue.max_size), (false, 1 << 20));
}

#[test]
fn every_key_of_handlers_is_taken() {
    let config = good(EVERY_KEY);
    let handler = &config.handlers["notify"];
    assert_eq!((handler.queues.as_slice(), handler.concurrency), (["old".to_owned(), "new".to_owned()].as_slice(), 256));
    assert_eq!(handler.filter.as_ref().unwrap().text(), "type LIKE 'qa.%' AND host = 'relay.example'");
    assert_eq!(handler.run, Some(Export::Batch));
    assert_eq!(handler.batch, Some(BatchPolicy { size: 128, wait: Duration::from_millis(50) }));
    let limits = handler.limits;
    assert_eq!((limits.fuel, limits.memory, limits.tables, limits.handles), (1, 256 << 20, 2, 3));
    assert_eq!((limits.deadline, limits.output, limits.requests), (Duration::from_secs(300), 1_024, 4));
    assert_eq!((limits.publishes, limits.published), (10_000, 64 << 20));
    assert_eq!(limits.response, 64 << 20);
    let http: Vec<_> = handler.grants.http.iter().map(|grant| (grant.url.to_string(), grant.methods.join(" "))).collect();
    assert_eq!(
        http,
        [
            ("https://api.example.com/v1/*".to_owned(), "GET POST".to_owned()),
            ("http://localhost/hook".to_owned(), "PUT".to_owned())
        ]
    );
    let publish = handler.grants.publish.as_ref().unwrap();
    assert_eq!((publish.queues.as_slice(), publish.own), (["new".to_owned()].as_slice(), true));
    let [own, shared] = handler.grants.keyvalue.as_slice() else { panic!("{:?}", handler.grants.keyvalue) };
    assert_eq!(*own, BucketGrant { bucket: "digest".to_owned(), url: None, max_size: BUCKET_BYTES });
    let url = shared.url.as_ref().map(ToString::to_string);
    assert_eq!((shared.bucket.as_str(), url.as_deref(), shared.max_size), ("all", Some("redis://h:6379/1"), 1 << 30));
    let retry = handler.retry;
    assert_eq!((retry.attempts, retry.trap, retry.backoff_from.as_secs(), retry.backoff_to.as_secs()), (1, 3, 2, 4));
    assert_eq!((retry.after_max.as_secs(), retry.outage.as_secs()), (3_600, 7_200));
    let secret = |text: &str| Secret(text.to_owned());
    let config = [
        ("any thing".to_owned(), ConfigValue::Text(String::new())),
        ("rules".to_owned(), ConfigValue::File("/home/ann/../../etc/weir/rules.toml".into())),
        (
            "sender-name".to_owned(),
            ConfigValue::Secret { text: secret("QA relay.example"), values: vec![secret("relay.example")] },
        ),
    ];
    assert_eq!(handler.config, config);
    let email = handler.grants.email.as_ref().unwrap();
    let credentials = Some(("ann".to_owned(), Secret("hunter2 secret".to_owned())));
    assert_eq!(email.relay, Relay::Smtp { host: "relay.example".to_owned(), port: 25, tls: RelayTls::StartTls, credentials });
    assert_eq!((email.from.as_str(), email.to.len()), ("QA <noreply@example.com>", 3));
    assert_eq!(email.rate, Some(Rate { count: 100, per: Duration::from_secs(60) }));
}

#[test]
fn limits_know_where_they_came_from() {
    let toml = format!("{BASE}[handler.notify.limits]\nfuel = 5\nmemory = '1MiB'");
    let config = super::read_with(&toml, &["handler.notify.limits.memory=2MiB"]).unwrap();
    let shown = config.handlers["notify"].shown_limits();
    let from = |name: &str| shown.iter().find(|limit| limit.name == name).map(|limit| (limit.value, limit.from)).unwrap();
    assert_eq!(from("fuel"), (LimitValue::Count(5), Origin::File));
    assert_eq!(from("memory"), (LimitValue::Size(2 << 20), Origin::Override));
    assert_eq!(from("deadline"), (LimitValue::Time(Duration::from_secs(30)), Origin::Default));
    assert_eq!(serde_json::to_string(&from("memory").0).unwrap(), "\"2MiB\"");
    assert_eq!(serde_json::to_string(&from("fuel").0).unwrap(), "5");
    assert_eq!(Origin::Override.as_str(), "--set");
}

#[cfg(feature = "redis")]
#[test]
fn a_fallback_and_a_map_are_taken() {
    let config = good(
        "[queue.q]\nurl = 'redis://h?stream=k'\nfallback = 'disk:./late'\nmax-size = '1MiB'\nmap = { type = '/a~1b', data = '' }",
    );
    let queue = &config.queues["q"];
    let late = Path::new("/home/ann/../../etc/weir/late");
    assert_eq!((queue.fallback.as_deref(), queue.max_size), (Some(late), 1 << 20));
    let event = queue.map.as_ref().unwrap().read(
        &r#"{"a/b":"t"}"#.into(),
        crate::event::Event { id: "1".to_owned(), source: "/s".to_owned(), ..crate::event::Event::default() },
    );
    assert_eq!(event.unwrap().kind, "t");
}
