//! Leases: what lapses, what comes late, what was lost on its way, and who reads an ordered group.

use super::super::lock;
use super::*;
use crate::queue::Tries;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_frozen_process_held_goes_to_another_and_its_settlement_is_late() {
    let (frozen, key) = subscribed().await;
    let other = open(&format!("{}?stream={key}&lease=2s", shared().url(0))).await.unwrap();
    publish(&frozen, 0..2).await;
    let held = pull(&frozen, 2).await;
    lock(&frozen.tasks).abort_all();
    let came = pull(&other, 2).await;
    assert!(came.iter().all(|delivery| delivery.tries.failed == 1), "a lapsed lease counts as a try: {came:?}");
    assert!(held.iter().all(|held| !frozen.holds(SUBSCRIPTION, held.position)), "it can't know better");
    assert!(came.iter().all(|came| other.holds(SUBSCRIPTION, came.position)));
    let mut late = settle(&frozen, held, Settle::Ack).await;
    late.sort_unstable();
    let positions: Vec<_> = came.iter().map(|delivery| delivery.position).collect();
    assert_eq!(late, positions);
    ack(&other, came).await;
    nothing_comes(&other).await;
    other.close().await;
    frozen.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_that_cannot_be_renewed_are_told_and_cost_no_attempt() {
    let server = RedisServer::start(Keeps::Nothing, &[]);
    let queue = subscribed_at(&format!("{}?stream=k&lease=2s", server.url(0))).await;
    publish(&queue, 0..1).await;
    let held = pull(&queue, 1).await;
    server.freeze();
    let lapsed = tokio::time::timeout(SOON, queue.lapsed(SUBSCRIPTION)).await.unwrap();
    assert_eq!(lapsed, [held[0].position]);
    server.thaw();
    let mut again = Vec::new();
    eventually("it comes again", async || {
        again = queue.pull(SUBSCRIPTION, NonZeroUsize::MIN).await.unwrap_or_default();
        !again.is_empty()
    })
    .await;
    assert_eq!((again[0].position, again[0].tries), (lapsed[0], Tries::default()));
    ack(&queue, again).await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_whose_answer_got_lost_come_without_a_try() {
    let (queue, key) = subscribed().await;
    publish(&queue, 0..3).await;
    let held = pull(&queue, 1).await;
    // As the server does when the connection ends before its answer has left.
    let consumer = &queue.shared.consumer;
    let _ = shared().ask(&["XREADGROUP", "GROUP", SUBSCRIPTION, consumer, "COUNT", "1", "STREAMS", &key, ">"]);
    queue.shared.redis.forget_connection();
    let mut came = Vec::new();
    eventually("the two others come", async || {
        came.extend(queue.pull(SUBSCRIPTION, NonZeroUsize::MIN.saturating_add(1)).await.unwrap_or_default());
        came.len() == 2
    })
    .await;
    came.sort_by_key(|delivery| delivery.position);
    assert_eq!(ids(&came), ["event-1", "event-2"]);
    assert!(came.iter().all(|delivery| delivery.tries == Tries::default()), "{came:?}");
    ack(&queue, came.into_iter().chain(held).collect()).await;
    nothing_comes(&queue).await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_had_not_begun_when_the_process_was_killed_has_no_try_behind_it() {
    let (queue, key) = subscribed().await;
    publish(&queue, 0..3).await;
    let held = pull(&queue, 3).await;
    // The first runs; the others stand behind it, and the last of them has its turn after all.
    let tries = |failed| Tries { failed, ..Tries::default() };
    queue.note(SUBSCRIPTION, held[0].position, tries(1));
    queue.note(SUBSCRIPTION, held[1].position, tries(0));
    queue.note(SUBSCRIPTION, held[2].position, tries(0));
    let hash = format!("{{{key}}}.tries.{SUBSCRIPTION}");
    eventually("the notes are written", async || shared().ask(&["HLEN", &hash]) == ":2\r\n").await;
    queue.note(SUBSCRIPTION, held[2].position, tries(1));
    let last = super::super::answer::id(held[2].position);
    eventually("it has begun", async || shared().ask(&["HGET", &hash, &last]).contains("1:0:")).await;
    drop(queue);
    let queue = open(&format!("{}?stream={key}&lease=2s", shared().url(0))).await.unwrap();
    let mut again = pull(&queue, 3).await;
    again.sort_by_key(|delivery| delivery.position);
    assert_eq!(again.iter().map(|delivery| delivery.tries.failed).collect::<Vec<_>>(), [1, 0, 1]);
    ack(&queue, again).await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notes_stand_when_the_process_is_killed() {
    let (queue, key) = subscribed().await;
    publish(&queue, 0..1).await;
    let held = pull(&queue, 1).await;
    let tries = Tries { failed: 4, outside: 2, outside_since: Some(crate::clock::Timestamp(77)) };
    queue.note(SUBSCRIPTION, held[0].position, tries);
    let hash = format!("{{{key}}}.tries.{SUBSCRIPTION}");
    eventually("the note is written", async || shared().ask(&["HLEN", &hash]) == ":1\r\n").await;
    drop(queue);
    let queue = open(&format!("{}?stream={key}&lease=2s", shared().url(0))).await.unwrap();
    let again = pull(&queue, 1).await;
    assert_eq!(again[0].tries, tries);
    ack(&queue, again).await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_for_a_pull_that_went_away_is_given_to_others() {
    let (one, key) = subscribed().await;
    let other = open(&format!("{}?stream={key}&lease=30s", shared().url(0))).await.unwrap();
    nothing_comes(&one).await;
    // The read of the pull that was dropped still blocks, and takes it.
    publish(&one, 0..1).await;
    eventually("it is taken", async || one.depth().await.unwrap().subscriptions[0].in_flight == Some(1)).await;
    let came = pull(&other, 1).await;
    assert_eq!(came[0].tries, Tries::default());
    ack(&other, came).await;
    one.close().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_the_lead_holds_nothing() {
    let key = fresh();
    let url = format!("{}?stream={key}&lease=2s", shared().url(0));
    let queue = open(&url).await.unwrap();
    queue.keep_order(SUBSCRIPTION).unwrap();
    queue.subscribe(SUBSCRIPTION, Start::New).await.unwrap();
    publish(&queue, 0..3).await;
    let held = pull(&queue, 2).await;
    let reader = format!("{{{key}}}.reader.{SUBSCRIPTION}");
    let _ = shared().ask(&["SET", &reader, "another", "PX", "3000"]);
    let mut lapsed = tokio::time::timeout(SOON, queue.lapsed(SUBSCRIPTION)).await.unwrap();
    lapsed.sort_unstable();
    assert_eq!(lapsed, [held[0].position, held[1].position]);
    nothing_comes(&queue).await;
    // The other one is gone without having read: everything comes again, in order, and none of it counts.
    let came = pull(&queue, 3).await;
    assert_eq!(ids(&came), ["event-0", "event-1", "event-2"]);
    assert!(came.iter().all(|delivery| delivery.tries == Tries::default()), "{came:?}");
    ack(&queue, came).await;
    queue.close().await;
}

/// Leased and never begun, for longer than a beat: a kill costs no try.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_here_and_never_began_has_no_try_behind_it() {
    let (queue, key) = subscribed().await;
    publish(&queue, 0..2).await;
    let held = pull(&queue, 2).await;
    queue.note(SUBSCRIPTION, held[0].position, Tries { failed: 1, ..Tries::default() });
    let hash = format!("{{{key}}}.tries.{SUBSCRIPTION}");
    let waits = super::super::answer::id(held[1].position);
    eventually("it is noted", async || shared().ask(&["HKEYS", &hash]).contains(&waits)).await;
    drop(queue);
    let queue = open(&format!("{}?stream={key}&lease=2s", shared().url(0))).await.unwrap();
    let mut again = pull(&queue, 2).await;
    again.sort_by_key(|delivery| delivery.position);
    assert_eq!(again.iter().map(|delivery| delivery.tries.failed).collect::<Vec<_>>(), [1, 0]);
    ack(&queue, again).await;
    assert_eq!(shared().ask(&["EXISTS", &hash]), ":0\r\n", "nothing is left of the notes");
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_that_could_not_be_written_is_written_with_the_next_beat() {
    let server = RedisServer::start(Keeps::Nothing, &[]);
    let queue = subscribed_at(&format!("{}?stream=k&lease=6s", server.url(0))).await;
    publish(&queue, 0..1).await;
    let held = pull(&queue, 1).await;
    let _ = server.ask(&["ACL", "SETUSER", "default", "-hset"]);
    queue.note(SUBSCRIPTION, held[0].position, Tries { failed: 3, ..Tries::default() });
    // Refused once at least: the server says so.
    eventually("it is refused", async || server.ask(&["ACL", "LOG"]).contains("hset")).await;
    let _ = server.ask(&["ACL", "SETUSER", "default", "+hset"]);
    let hash = format!("{{k}}.tries.{SUBSCRIPTION}");
    eventually("it is written", async || server.ask(&["HVALS", &hash]).contains("3:0:")).await;
    ack(&queue, held).await;
    queue.close().await;
}
