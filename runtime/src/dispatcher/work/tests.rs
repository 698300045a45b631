//! When something can be pulled, and what goes into one call.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::*;
use crate::config::BatchPolicy;
use crate::event::Event;
use crate::queue::{Delivery, Tries};

fn item(number: u128) -> Item {
    let delivery =
        Delivery { event: Arc::default(), position: Position(number), tries: Tries::default(), first_seen: Timestamp(0) };
    Item::new(delivery, None)
}

#[test]
fn a_pull_gathers_only_while_something_waits_to_be_run() {
    let work = Work::new(8, 100, false, Fill::default(), SubscriptionStats::new("q", "h"));
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(pin!(work.room()).poll(&mut context), Poll::Ready(8));
    work.push((0..3).map(item).collect(), Vec::new());
    assert_eq!(pin!(work.room()).poll(&mut context), Poll::Ready(5), "most of the places are free");
    work.push((3..7).map(item).collect(), Vec::new());
    let mut room = pin!(work.room());
    assert_eq!(room.as_mut().poll(&mut context), Poll::Pending, "few are free, and some still wait");
    let cancel = Cancel::default();
    for left in (0..7).rev() {
        assert!(work.next(None, &cancel).is_some());
        let expected = if left > 0 { Poll::Pending } else { Poll::Ready(1) };
        assert_eq!(room.as_mut().poll(&mut context), expected, "{left} wait, nothing has ended");
    }
}

#[test]
fn what_has_ended_is_settled_when_it_is_enough_or_nothing_runs() {
    let work = Work::new(8, 100, false, Fill::default(), SubscriptionStats::new("q", "h"));
    let cancel = Cancel::default();
    let urgency = || work.urgency(&work.state());
    work.push((0..7).map(item).collect(), Vec::new());
    work.allow(8, false);
    let mut running: Vec<Item> = (0..2).filter_map(|_| work.next(None, &cancel)).collect();
    let mut seen = vec![urgency()];
    while let Some(item) = running.pop() {
        running.extend(work.next(Some(Done::Ended(Ended::new(&item, End::Expired))), &cancel));
        seen.push(urgency());
    }
    let soon = [Urgency::Soon; 3];
    // Half of eight places is enough. The last two end while less than that is there, but then nothing runs.
    assert_eq!(seen, [&[Urgency::None][..], &soon, &[Urgency::Now; 4]].concat());
    assert_eq!(work.state().told, Urgency::Now);
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(Some(ended)) = pin!(work.ended()).poll(&mut context) else { panic!("it is to be settled now") };
    assert_eq!((ended.len(), urgency()), (7, Urgency::None));
    work.close();
    assert!(matches!(pin!(work.ended()).poll(&mut context), Poll::Ready(None)));
}

fn batches(size: u32, wait: Duration, slots: usize) -> Work {
    let fill = Fill::new(BatchPolicy { size, wait }, 1_000);
    Work::new(slots, 100, false, fill, SubscriptionStats::new("q", "h"))
}

fn numbers(batch: &[Item]) -> Vec<u128> {
    batch.iter().map(|item| item.delivery.position.0).collect()
}

fn sized(number: u128, bytes: usize) -> Item {
    let event = Arc::new(Event { id: "x".repeat(bytes), ..Event::default() });
    Item::new(Delivery { event, ..item(number).delivery }, None)
}

fn acked(batch: &[Item]) -> Vec<Done> {
    batch.iter().map(|item| Done::Ended(Ended::new(item, End::Judged(Verdict::Ack, None)))).collect()
}

#[test]
fn a_batch_takes_what_may_run_and_fits() {
    let (work, cancel) = (batches(4, Duration::ZERO, 6), Cancel::default());
    let mut items: Vec<Item> = (0..5).map(item).collect();
    items.extend([sized(5, 900), sized(6, 200), sized(7, 2_000), item(8)]);
    items.push(Item { alone: true, ..item(9) });
    assert_eq!(work.push(items, Vec::new()).0, 1, "one runner makes several calls of few events");
    // What runs alone comes first; then as many as a batch holds, then as many as may run at once.
    let alone = work.next_batch(Vec::new(), &cancel);
    assert_eq!(numbers(&alone), [9]);
    let full = work.next_batch(acked(&alone), &cancel);
    assert_eq!(numbers(&full), [0, 1, 2, 3]);
    let mut state = work.state();
    state.runners += 1;
    drop(state);
    let rest = work.next_batch(Vec::new(), &cancel);
    assert_eq!(numbers(&rest), [4, 5], "two more may run");
    let next = work.next_batch(acked(&full), &cancel);
    assert_eq!(numbers(&next), [6], "the one behind it is too large to go along");
    let next = work.next_batch(acked(&next), &cancel);
    assert_eq!(numbers(&next), [7]);
    let next = work.next_batch(acked(&next), &cancel);
    assert_eq!(numbers(&next), [8]);
    assert!(work.next_batch(acked(&next), &cancel).is_empty());
    assert!(work.next_batch(acked(&rest), &cancel).is_empty());
    let state = work.state();
    assert_eq!((state.running, state.runners, state.busy, state.ended.len()), (0, 0, 0, 10));
}

#[test]
fn what_runs_again_does_so_in_its_order_before_others_and_alone() {
    let (work, cancel) = (batches(3, Duration::ZERO, 3), Cancel::default());
    work.push((0..4).map(item).collect(), Vec::new());
    let batch = work.next_batch(Vec::new(), &cancel);
    let again = batch.into_iter().map(|item| Done::Again(Item { alone: true, ..item })).collect();
    let mut ran = Vec::new();
    let mut next = work.next_batch(again, &cancel);
    while !next.is_empty() {
        ran.push(numbers(&next));
        next = work.next_batch(acked(&next), &cancel);
    }
    assert_eq!(ran, [[0], [1], [2], [3]]);
    assert_eq!(work.stats.snapshot().in_flight, 4, "nothing is settled yet");
}

#[test]
fn what_a_full_batch_leaves_behind_waits_on_a_timer() {
    let (work, cancel) = (batches(4, Duration::from_secs(3600), 8), Cancel::default());
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(work.push((0..4).map(|number| sized(number, 400)).collect(), Vec::new()).0, 1, "it is full");
    assert_eq!(pin!(work.timed()).poll(&mut context), Poll::Ready(()));
    let batch = work.next_batch(Vec::new(), &cancel);
    assert!(batch.len() < 4, "not all fit");
    assert_eq!(pin!(work.timed()).poll(&mut context), Poll::Ready(()), "the keeper is told of the rest");
    assert!(work.release_due(Timestamp(0)).1.is_some(), "and waits for it");
}

/// It is given back at a stop, whatever it waits for.
#[test]
fn a_batch_waits_for_its_events_and_no_longer() {
    let (work, cancel) = (batches(3, Duration::from_secs(3600), 3), Cancel::default());
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(work.push(vec![item(0)], Vec::new()).0, 0, "no runner is started");
    assert_eq!(work.taken_while_waiting(), None, "nothing stands still");
    assert_eq!(pin!(work.timed()).poll(&mut context), Poll::Ready(()), "the keeper is told");
    let (_, full, runners) = work.release_due(Timestamp(0));
    assert!(full.is_some_and(|full| full > Instant::now()) && runners == 0);
    assert_eq!(pin!(work.room()).poll(&mut context), Poll::Ready(2), "more are pulled meanwhile");
    assert_eq!(work.push(vec![item(1)], Vec::new()).0, 0);
    assert_eq!(work.push(vec![item(2)], Vec::new()).0, 1, "it is full");
    let batch = work.next_batch(Vec::new(), &cancel);
    assert_eq!((numbers(&batch), work.release_due(Timestamp(0)).1), (vec![0, 1, 2], None));
    assert!(work.next_batch(acked(&batch), &cancel).is_empty());
    work.push(vec![item(3)], Vec::new());
    work.stop();
    let state = work.state();
    let last = state.ended.last().map(|ended| (ended.position, matches!(ended.end, End::GivenBack(Cause::Shutdown, None))));
    assert_eq!((last, state.lanes.waiting()), (Some((Position(3), true)), 0));
    drop(state);

    // One that has waited goes as it is.
    let work = batches(3, Duration::from_millis(1), 3);
    assert_eq!(work.push(vec![item(0)], Vec::new()).0, 0);
    let begun = Instant::now();
    while work.release_due(Timestamp(0)).2 == 0 {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    assert!(begun.elapsed() >= Duration::from_micros(900));
    assert_eq!(numbers(&work.next_batch(Vec::new(), &cancel)), [0]);
}

/// What waits for its time here goes back with it, and counts by why it goes.
#[test]
fn what_waits_goes_back_for_the_reason_of_the_pause_or_stop() {
    for (cause, go) in [(Cause::Pause, Work::give_back as fn(&Work)), (Cause::Shutdown, Work::stop)] {
        let work = Work::new(8, 100, false, Fill::default(), SubscriptionStats::new("q", "h"));
        let (mut context, cancel) = (Context::from_waker(Waker::noop()), Cancel::default());
        work.push(vec![item(0), item(1)], Vec::new());
        let parked = work.next(None, &cancel).unwrap();
        assert!(work.next(Some(Done::Park(parked, Timestamp(5))), &cancel).is_some());
        go(&work);
        let Poll::Ready(Some(ended)) = pin!(work.ended()).poll(&mut context) else { panic!("it goes back") };
        let [Ended { end: End::GivenBack(why, Some((due, _))), .. }] = ended.as_slice() else { panic!("with its time") };
        assert_eq!((*why, *due), (cause, Timestamp(5)));
    }
}
