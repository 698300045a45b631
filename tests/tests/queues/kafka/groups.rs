//! Processes that share a group: they come, go, and come back.

use std::sync::Arc;
use std::time::Duration;

use weir_runtime::queue::{QueueError, Start};

use super::rig::{ONE, SOON, ack, again, event, ids, nothing_comes, opened_as, publish, pull, pull_all, set, subscribed, topic};
use super::{fresh, shared};

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
async fn a_second_process_takes_partitions_and_gives_them_back() {
    let url = topic(shared(), 4);
    let one = opened_as(&url, &fresh()).await.unwrap();
    one.subscribe("h", Start::New).await.unwrap();
    one.publish((0..40).map(|number| event(&number.to_string(), None)).collect()).await.unwrap();
    let first = pull(&*one, 4).await;
    let other = opened_as(&url, &fresh()).await.unwrap();
    // What runs may finish: so its partition goes over only then.
    let mut ids: Vec<String> = first.iter().map(|delivery| delivery.event.id.clone()).collect();
    let joining = {
        let other = Arc::clone(&other);
        tokio::spawn(async move { pull(&*other, 100).await })
    };
    ack(&*one, first).await;
    // The second gets some only when the first has given partitions up; published one by one until then.
    let mut number = 40;
    while !joining.is_finished() {
        one.publish(vec![event(&number.to_string(), None)]).await.unwrap();
        number += 1;
        if let Ok(Ok(some)) = tokio::time::timeout(Duration::from_millis(20), one.pull("h", ONE)).await {
            ids.extend(some.iter().map(|delivery| delivery.event.id.clone()));
            ack(&*one, some).await;
        }
    }
    let some = joining.await.unwrap();
    ids.extend(some.iter().map(|delivery| delivery.event.id.clone()));
    ack(&*other, some).await;
    other.close().await;
    while ids.len() < number {
        let some = pull(&*one, 100).await;
        ids.extend(some.iter().map(|delivery| delivery.event.id.clone()));
        ack(&*one, some).await;
    }
    ids.sort_by_key(|id| id.parse::<u32>().unwrap());
    assert_eq!(ids, (0..number).map(|number| number.to_string()).collect::<Vec<_>>());
    one.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
async fn what_runs_goes_on_when_another_process_comes() {
    for protocol in ["classic", "consumer"] {
        let url = format!("{}&protocol={protocol}", topic(shared(), 4));
        let one = subscribed(&url).await;
        let all: Vec<String> = (0..40).map(|number| number.to_string()).collect();
        one.publish(all.iter().map(|id| event(id, Some(id))).collect()).await.unwrap();
        let held = pull_all(&*one, 40).await;
        let other = subscribed(&url).await;
        // Two of the partitions are to go to the other: they do once what runs there has ended.
        nothing_comes(&*other).await;
        assert!(tokio::time::timeout(Duration::from_secs(2), one.lapsed("h")).await.is_err(), "{protocol}");
        assert!(held.iter().all(|held| one.holds("h", held.position)), "{protocol}");
        ack(&*one, held).await;
        let all: Vec<String> = (40..80).map(|number| number.to_string()).collect();
        // Until it has partitions, everything goes to the first.
        let (mut came, mut at_other) = (Vec::new(), 0);
        one.publish(all.iter().map(|id| event(id, Some(id))).collect()).await.unwrap();
        while came.len() < 40 {
            for queue in [&one, &other] {
                if let Ok(some) = tokio::time::timeout(Duration::from_millis(20), queue.pull("h", ONE)).await {
                    let some = some.unwrap();
                    at_other += usize::from(Arc::ptr_eq(queue, &other));
                    came.extend(some.iter().map(|delivery| delivery.event.id.clone()));
                    ack(&**queue, some).await;
                }
            }
        }
        came.sort();
        assert_eq!(came, all, "{protocol}: each once");
        eprintln!("{protocol}: {at_other} of 40 went to the second");
        one.close().await;
        other.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
async fn a_static_member_finds_its_partitions_again() {
    for protocol in ["classic", "consumer"] {
        let url = format!("{}&member=static&protocol={protocol}", topic(shared(), 1).replace("lease=4s", "lease=10s"));
        let name = fresh();
        let one = opened_as(&url, &name).await.unwrap();
        one.subscribe("h", Start::New).await.unwrap();
        publish(&*one, &["0"]).await;
        let came = pull(&*one, 1).await;
        ack(&*one, came).await;
        let other = subscribed(&url).await;
        nothing_comes(&*other).await;
        one.close().await;
        publish(&*other, &["1"]).await;
        // Nobody has it now, and nobody else gets it before the lease is over.
        nothing_comes(&*other).await;
        let one = opened_as(&url, &name).await.unwrap();
        let came = pull(&*one, 1).await;
        assert_eq!(ids(&came), set(["1"]), "{protocol}");
        ack(&*one, came).await;
        nothing_comes(&*other).await;
        one.close().await;
        other.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
async fn two_static_members_of_one_name_are_told() {
    let url = format!("{}&member=static", topic(shared(), 1));
    let name = fresh();
    let one = opened_as(&url, &name).await.unwrap();
    one.subscribe("h", Start::New).await.unwrap();
    publish(&*one, &["0"]).await;
    let held = pull(&*one, 1).await;
    let other = opened_as(&url, &name).await.unwrap();
    let taken = again(|| other.pull("h", ONE)).await;
    assert_eq!(ids(&taken), ids(&held));
    // The one that comes last has the place; the other is told until it is alone.
    let refused = tokio::time::timeout(SOON, one.pull("h", ONE)).await.unwrap();
    let Err(QueueError::Unavailable(text)) = refused else { panic!("{refused:?}") };
    assert!(text.contains("[processes that share a queue need a `[server] name` each]"), "{text}");
    one.close().await;
    other.close().await;
}
