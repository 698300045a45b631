//! Scenarios: what comes out is what went in.

use std::sync::Arc;

use super::rig::{SUBSCRIPTION, settle};
use super::rig::{ack, at_once, ensure, event, ids_of, nothing_comes, now, open, publish, pull, pull_exactly, within};
use super::{Adapter, Failure, Scenario};
use crate::event::Event;
use crate::queue::{Position, Settle, Settlement};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "round_trip",
        checks: "every attribute, extension and kind of data comes out as it went in",
        needs: &[],
        run: |adapter| Box::pin(round_trip(adapter)),
    },
    Scenario {
        name: "publish_time_is_kept",
        checks: "the first-seen time lies between publish and pull and stays over redeliveries",
        needs: &[],
        run: |adapter| Box::pin(publish_time_is_kept(adapter)),
    },
    Scenario {
        name: "empty_batch_is_taken",
        checks: "publishing and settling nothing is answered at once",
        needs: &[],
        run: |adapter| Box::pin(empty_batch_is_taken(adapter)),
    },
    Scenario {
        name: "settling_what_is_not_there_is_harmless",
        checks: "a settlement that is repeated, or names a position that was never given out, changes nothing",
        needs: &[],
        run: |adapter| Box::pin(settling_what_is_not_there_is_harmless(adapter)),
    },
];

/// Events that differ in everything that a queue could lose.
fn varied() -> Vec<Event> {
    let plain = (*event(0)).clone();
    let with = |id: &str, datacontenttype: Option<&str>, data: Option<&'static [u8]>| Event {
        id: id.to_owned(),
        datacontenttype: datacontenttype.map(str::to_owned),
        data: data.map(bytes::Bytes::from_static),
        ..plain.clone()
    };
    let full = Event {
        subject: Some("ünïcode ✓ \"quoted\" \\ 中文".to_owned()),
        time: Some("2026-03-01T12:00:00.123456789+01:00".to_owned()),
        dataschema: Some("https://example.com/schema?a=1&b=2".to_owned()),
        extensions: vec![
            ("partitionkey".to_owned(), "k 1".to_owned()),
            ("traceparent".to_owned(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
            ("x9".to_owned(), String::new()),
        ],
        ..with("full", Some("application/json; charset=utf-8"), Some(br#"{"a":[1,2.50,1e400,null,"\u00e9"],"b":{"":{}}}"#))
    };
    vec![
        full,
        with("none", None, None),
        with("json-text", None, Some(b"\"a string\"")),
        with("suffix", Some("application/vnd.example+json"), Some(b"[]")),
        with("text", Some("text/plain"), Some("line\nline\ttab ✓".as_bytes())),
        with("empty", Some("text/plain"), Some(b"")),
        with("binary", Some("application/octet-stream"), Some(&[0, 255, 254, 0, 10, 13, 128])),
        with("not-json", None, Some(b"{broken")),
    ]
}

async fn round_trip(adapter: &dyn Adapter) -> Result<(), Failure> {
    let queue = open(adapter).await?;
    let sent = varied();
    within("publish", queue.publish(sent.iter().cloned().map(|event| at_once(Arc::new(event))).collect())).await?;
    let mut came = pull_exactly(&*queue, SUBSCRIPTION, sent.len()).await?;
    came.sort_by_key(|delivery| sent.iter().position(|event| event.id == delivery.event.id));
    for (sent, came) in sent.iter().zip(&came) {
        ensure!(*sent == *came.event, "the event changed on its way:\nsent {sent:?}\ncame {:?}", came.event);
        ensure!(came.tries == Default::default(), "a new event came with {:?}, expected no tries", came.tries);
    }
    ack(&*queue, SUBSCRIPTION, came).await?;
    nothing_comes(&*queue, SUBSCRIPTION, "all events were acked").await?;
    queue.close().await;
    Ok(())
}

async fn publish_time_is_kept(adapter: &dyn Adapter) -> Result<(), Failure> {
    let queue = open(adapter).await?;
    let before = now();
    publish(&*queue, 0..1).await?;
    let first = pull(&*queue, SUBSCRIPTION, 1).await?;
    let seen: Vec<_> = first.iter().map(|delivery| delivery.first_seen).collect();
    let after = now();
    ensure!(
        seen.iter().all(|seen| before <= *seen && *seen <= after),
        "first seen at {seen:?}, expected between publish ({before:?}) and pull ({after:?})"
    );
    settle(&*queue, SUBSCRIPTION, first, Settle::Return).await?;
    let again: Vec<_> = pull(&*queue, SUBSCRIPTION, 1).await?.iter().map(|delivery| delivery.first_seen).collect();
    ensure!(seen == again, "first seen at {again:?} at the second delivery, {seen:?} at the first");
    queue.close().await;
    Ok(())
}

async fn empty_batch_is_taken(adapter: &dyn Adapter) -> Result<(), Failure> {
    let queue = open(adapter).await?;
    within("publish", queue.publish(Vec::new())).await?;
    within("settle", queue.settle(SUBSCRIPTION, Vec::new())).await?;
    nothing_comes(&*queue, SUBSCRIPTION, "nothing was published").await?;
    queue.close().await;
    Ok(())
}

async fn settling_what_is_not_there_is_harmless(adapter: &dyn Adapter) -> Result<(), Failure> {
    let queue = open(adapter).await?;
    publish(&*queue, 0..3).await?;
    let came = pull_exactly(&*queue, SUBSCRIPTION, 3).await?;
    let ack_all: Vec<Settlement> =
        came.iter().map(|delivery| Settlement { position: delivery.position, settle: Settle::Ack }).collect();
    let give_all: Vec<Settlement> = ack_all.iter().map(|s| Settlement { settle: Settle::Return, ..*s }).collect();
    let twice: Vec<Settlement> = ack_all.iter().chain(&ack_all).copied().collect();
    within("settle", queue.settle(SUBSCRIPTION, twice)).await?;
    within("settle again", queue.settle(SUBSCRIPTION, ack_all)).await?;
    within("give back what was acked", queue.settle(SUBSCRIPTION, give_all)).await?;
    let unknown = [Settle::Ack, Settle::Return].map(|settle| Settlement { position: Position(u128::from(u64::MAX) - 7), settle });
    within("settle an unknown position", queue.settle(SUBSCRIPTION, unknown.to_vec())).await?;
    nothing_comes(&*queue, SUBSCRIPTION, "all events were acked").await?;
    publish(&*queue, 3..4).await?;
    let came = ids_of(&pull(&*queue, SUBSCRIPTION, 5).await?);
    ensure!(came == ["event-3"], "{came:?} came after repeated settlements, expected only the new event-3");
    queue.close().await;
    Ok(())
}
