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
