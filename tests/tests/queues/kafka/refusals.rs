//! What is refused, and how that is said; and logins and certificates that are taken.

use weir_runtime::queue::{QueueError, Start};
use weir_tests::brokers::kafka;

use super::rig::{ack, event, opened_as, pull};
use super::{fresh, shared};

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
async fn a_topic_that_is_missing_is_named() {
    let url = format!("{}/nowhere", shared().url());
    let error = opened_as(&url, &fresh()).await.err().unwrap();
    let expected = format!(
        "`{}/nowhere`: topic `nowhere` is not there [make it, or let Weir do so with `partitions=N` in the URL]",
        shared().url()
    );
    assert_eq!(error, QueueError::Invalid(expected));
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
async fn users_log_in_and_the_others_are_told_why_not() {
    let server = kafka::start_guarded(false);
    let at = |login: &str, topic: &str| server.url().replace("//", &format!("//{login}@")) + topic;
    for (login, mechanism) in [("ann:s3cret", "plain"), ("ann:s3cret", "scram-sha-512")] {
        let queue = opened_as(&at(login, &format!("/{}?partitions=1&sasl={mechanism}", fresh())), &fresh()).await.unwrap();
        queue.subscribe("h", Start::New).await.unwrap();
        queue.publish(vec![event("1", None)]).await.unwrap();
        ack(&*queue, pull(&*queue, 1).await).await;
        queue.close().await;
    }
    let wrong = "Authentication (Local: Authentication failure) [check user, password and `sasl=` of the URL]: ";
    let rights =
        "TopicAuthorizationFailed (Broker: Topic authorization failed) [the user needs READ, WRITE and DESCRIBE on the topic]";
    let reached = [
        ("ann:wr0ng", "", wrong),
        ("ann:wr0ng", "&sasl=scram-sha-512", wrong),
        ("ann:s3cret", "&sasl=scram-sha-256", wrong),
        ("bob:s3cret", "", rights),
    ];
    for (login, query, says) in reached {
        let error = opened_as(&at(login, &format!("/orders?partitions=1{query}")), &fresh()).await.err();
        let Some(QueueError::Invalid(text)) = &error else { panic!("{login}{query}: {error:?}") };
        eprintln!("{login}{query}: {text}");
        assert!(
            text.starts_with(&format!("`kafka://127.0.0.1:{}/orders`: topic `orders`: {says}", server.port())),
            "{login}{query}: {text}"
        );
        assert!(!text.contains("s3cret") && !text.contains("wr0ng"), "{login}{query}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
async fn connections_are_secured() {
    let server = kafka::start_guarded(true);
    let ca = server.folder().join("ca.pem");
    let url = server.url().replace("kafka://", "kafka+ssl://ann:s3cret@");
    let queue = opened_as(&format!("{url}/{}?partitions=1&ca={}", fresh(), ca.display()), &fresh()).await.unwrap();
    queue.subscribe("h", Start::New).await.unwrap();
    queue.publish(vec![event("1", None)]).await.unwrap();
    ack(&*queue, pull(&*queue, 1).await).await;
    queue.close().await;
    let stranger = opened_as(&format!("{url}/{}?partitions=1", fresh()), &fresh()).await.err();
    assert!(matches!(&stranger, Some(QueueError::Invalid(text)) if text.contains("check `ca=`")), "{stranger:?}");
}
