//! What the store holds for a broker that can't, by commands that open queue and store themselves.

use serde_json::json;
use weir_tests::brokers::nats;
use weir_tests::guests;
use weir_tests::server::Site;

use crate::handler;

#[test]
#[cfg_attr(without_nats, ignore = "no nats-server on this machine: make tools")]
fn a_delayed_event_is_taken_and_counted_without_a_server() {
    let broker = nats::start("");
    let queue = format!("[queue.events]\nurl = \"{}/later.new?stream=LATER\"\n", broker.url());
    let site = Site::new(&format!("{queue}{}", handler("it", guests::SERVER_LOG, "")));
    let depth = || site.run(&["queues", "--json"]).ending(0).json()[0]["depth"].clone();
    let _ = site.run(&["publish", "events", "--type", "t", "--delay", "2s"]).ending(0);
    let _ = site.run(&["publish", "events", "--type", "t", "--delay", "1h"]).ending(0);
    assert_eq!(depth(), json!(2));
    let server = site.start();
    server.ended(1);
    assert_eq!(depth(), json!(1));
    let _ = server.stop();
    assert_eq!(depth(), json!(1));
}
