//! Several `nsqd`, found by their addresses or by `nsqlookupd`.

use super::*;

/// Two servers, registered where a third says.
fn cluster() -> (Server, [Server; 2]) {
    let lookup = nsq::start_lookup();
    let register = format!("-lookupd-tcp-address 127.0.0.1:{}", lookup.port());
    let servers = [nsq::start(&register), nsq::start(&register)];
    (lookup, servers)
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
async fn several_servers_are_one_queue_and_one_of_them_is_enough() {
    let (mut one, two) = (nsq::start(""), nsq::start(""));
    let topic = fresh();
    let url = format!("nsq://127.0.0.1:{},127.0.0.1:{}/{topic}?lease=2s", one.port(), two.port());
    let queue = subscribed(&url).await;
    for number in 0..10 {
        publish(&*queue, number..number + 1).await;
    }
    let came = take(&*queue, 10).await;
    assert_eq!(ids_of(&came), ids(0..10));
    let from: BTreeSet<u128> = came.iter().map(|delivery| delivery.position.0 >> 64).collect();
    assert_eq!(from.len(), 2, "both were published to");
    settle(&*queue, came, Settle::Ack).await;
    one.process().stop();
    for number in 10..20 {
        publish(&*queue, number..number + 1).await;
    }
    let came = take(&*queue, 10).await;
    assert_eq!(ids_of(&came), ids(10..20));
    settle(&*queue, came, Settle::Ack).await;
    assert_eq!(queue.health().error, None, "one is enough");
    one.start_again();
    eventually("the other is back", async || {
        publish(&*queue, 20..21).await;
        let came = take(&*queue, 1).await;
        let first = came.iter().any(|delivery| from.first() == Some(&(delivery.position.0 >> 64)));
        let second = came.iter().any(|delivery| from.last() == Some(&(delivery.position.0 >> 64)));
        settle(&*queue, came, Settle::Ack).await;
        // Whichever of the two it was: both are seen again, one after the other.
        static SEEN: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);
        let bits = u8::from(first) | u8::from(second) << 1;
        SEEN.fetch_or(bits, std::sync::atomic::Ordering::Relaxed) | bits == 3
    })
    .await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
async fn servers_are_found_and_so_are_those_that_join() {
    let (lookup, [one, two]) = cluster();
    let topic = fresh();
    let url = format!("nsq+lookup://127.0.0.1:{}/{topic}?lease=2s&poll=1s", lookup.http().unwrap());
    // Nobody has the topic yet: the channel is known before the first event.
    let queue = subscribed(&url).await;
    eventually("the servers have registered", async || queue.publish(vec![at_once(0)]).await.is_ok()).await;
    let came = take(&*queue, 1).await;
    assert_eq!(ids_of(&came), ids(0..1));
    settle(&*queue, came, Settle::Ack).await;
    // Another program publishes to both, one of which did not have the topic.
    for (server, number) in [(&one, 1), (&two, 2)] {
        let other = opened(&format!("{}/{topic}", server.url()), None).await.unwrap();
        publish(&*other, number..number + 1).await;
        other.close().await;
    }
    let came = take(&*queue, 2).await;
    assert_eq!(ids_of(&came), ids(1..3));
    settle(&*queue, came, Settle::Ack).await;
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.events, depth.subscriptions.len()), (Some(0), 1));
    queue.unsubscribe(SUBSCRIPTION).await.unwrap();
    assert_eq!(queue.depth().await.unwrap().subscriptions, []);
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
async fn nsqlookupd_may_be_away_at_first() {
    let (mut lookup, servers) = cluster();
    lookup.process().stop();
    let url = format!("nsq+lookup://127.0.0.1:{}/{}?lease=2s&poll=1s", lookup.http().unwrap(), fresh());
    let queue = subscribed(&url).await;
    let health = queue.health();
    assert!(!health.connected_once && health.error.is_some(), "{health:?}");
    lookup.start_again();
    eventually("a server is found", async || queue.publish(vec![at_once(0)]).await.is_ok()).await;
    let came = take(&*queue, 1).await;
    settle(&*queue, came, Settle::Ack).await;
    eventually("it is well", async || queue.health().error.is_none()).await;
    queue.close().await;
    drop(servers);
}
