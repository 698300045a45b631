//! When something can be pulled.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::queue::{Delivery, Tries};

fn item(number: u128) -> Item {
    let delivery =
        Delivery { event: Arc::default(), position: Position(number), tries: Tries::default(), first_seen: Timestamp(0) };
    Item { delivery, lane: None, tried: false }
}

#[test]
fn a_pull_gathers_only_while_something_waits_to_be_run() {
    let work = Work::new(8, 100, false, SubscriptionStats::new("q", "h"));
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
    let work = Work::new(8, 100, false, SubscriptionStats::new("q", "h"));
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

/// What waits for its time here goes back with it, and counts by why it goes.
#[test]
fn what_waits_goes_back_for_the_reason_of_the_pause_or_stop() {
    for (cause, go) in [(Cause::Pause, Work::give_back as fn(&Work)), (Cause::Shutdown, Work::stop)] {
        let work = Work::new(8, 100, false, SubscriptionStats::new("q", "h"));
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
