//! What is held, handed out, let go and forgotten.

use std::sync::Arc;

use super::*;
use crate::clock::Timestamp;
use crate::event::Event;
use crate::queue::{Settle, Tries};

const YOUNG: Duration = Duration::from_secs(20);

fn delivery(position: u128) -> Delivery {
    Delivery {
        event: Arc::new(Event::default()),
        position: Position(position),
        tries: Tries::default(),
        first_seen: Timestamp(0),
    }
}

fn ack(position: u128) -> Settlement {
    Settlement { position: Position(position), settle: Settle::Ack }
}

#[test]
fn what_comes_again_while_it_is_ours_is_not_handed_out_again() {
    let mut hold = Hold::default();
    hold.take_in(delivery(1), 'a', Instant::now());
    assert_eq!(hold.hand_out(8).len(), 1);
    hold.take_in(delivery(1), 'b', Instant::now());
    assert_eq!((hold.hand_out(8).len(), hold.len()), (0, 1));
    let plan = hold.plan(&[ack(1), ack(2)], Instant::now(), Some(YOUNG));
    assert_eq!((plan.sent, plan.late), (vec![(ack(1), 'b')], vec![]));
    hold.settled(Position(1));
    assert_eq!(hold.len(), 0);
}

#[test]
fn what_is_let_go_may_come_again_before_that_is_answered() {
    let mut hold = Hold::default();
    hold.take_in(delivery(1), 'a', Instant::now());
    hold.hand_out(1);
    let held = hold.let_go(Position(1)).unwrap();
    hold.take_in(delivery(1), 'b', Instant::now());
    assert_eq!(hold.hand_out(1).len(), 1);
    hold.hold_again(Position(1), held);
    assert_eq!(hold.get_mut(Position(1)).map(|held| held.token), Some('b'));
    // What no pull has is not handed out after it was let go.
    hold.take_in(delivery(2), 'c', Instant::now());
    let held = hold.let_go(Position(2)).unwrap();
    hold.hold_again(Position(2), held);
    assert_eq!((hold.hand_out(8).len(), hold.len()), (0, 1));
}

#[test]
fn what_lapsed_is_told_once_and_settled_late() {
    let mut hold = Hold::default();
    hold.take_in(delivery(1), (), Instant::now());
    hold.hand_out(1);
    hold.take_in(delivery(2), (), Instant::now());
    assert!(hold.lapse(|_| true));
    assert_eq!(hold.take_lapsed(), [Position(1)]);
    assert_eq!(hold.hand_out(8).len(), 0, "what was not out is forgotten");
    assert_eq!(hold.plan(&[ack(1)], Instant::now(), None).late, [Position(1)]);
    // It comes again, as new.
    hold.take_in(delivery(1), (), Instant::now());
    assert_eq!(hold.hand_out(8).len(), 1);
}

#[test]
fn what_lapsed_and_is_never_settled_does_not_pile_up() {
    let mut hold = Hold::default();
    let most = LATE_MAX as u128;
    for at in 0..2 * most {
        hold.take_in(delivery(at), (), Instant::now());
        hold.hand_out(1);
        assert!(hold.lapse(|_| true));
    }
    assert!(hold.late_order.len() <= LATE_MAX + 1 && hold.late.len() <= LATE_MAX + 1, "{}", hold.late_order.len());
    assert!(hold.lapsed.len() <= LATE_MAX + 1, "nobody asked");
    assert_eq!(hold.len(), 0);
    let (oldest, newest) = (ack(0), ack(2 * most - 1));
    assert_eq!(hold.plan(&[oldest, newest], Instant::now(), None).late, [newest.position], "the oldest are forgotten");
    // All that lapses at once is remembered, and told.
    hold.take_lapsed();
    let many = 2 * most..5 * most;
    for at in many.clone() {
        hold.take_in(delivery(at), (), Instant::now());
    }
    hold.hand_out(usize::MAX);
    assert!(hold.lapse(|_| true));
    assert_eq!(hold.take_lapsed().len(), 3 * LATE_MAX);
    let all: Vec<Settlement> = many.map(ack).collect();
    assert_eq!(hold.plan(&all, Instant::now(), None).late.len(), 3 * LATE_MAX);
}

#[test]
fn an_old_lease_is_no_lease() {
    let mut hold = Hold::default();
    hold.take_in(delivery(1), (), Instant::now());
    hold.hand_out(1);
    let later = Instant::now() + YOUNG * 2;
    assert!(hold.holds(Position(1), Instant::now(), YOUNG));
    assert!(!hold.holds(Position(1), later, YOUNG));
    assert_eq!(hold.take_lapsed(), [Position(1)]);
}

#[test]
fn what_is_withdrawn_is_held_and_not_handed_out() {
    let mut hold = Hold::default();
    hold.take_in(delivery(1), 'a', Instant::now());
    hold.take_in(delivery(2), 'b', Instant::now());
    assert!(hold.is_idle());
    assert_eq!(hold.withdraw(|token| *token == 'a'), [Position(1)]);
    assert_eq!((hold.waiting(), hold.len()), (vec![Position(2)], 2));
    assert_eq!(hold.hand_out(8).len(), 1);
}

#[test]
fn demand_is_what_waits_less_what_has_come() {
    let mut hold = Hold { wanted: 3, ..Hold::default() };
    assert_eq!(hold.missing(), 3);
    hold.take_in(delivery(1), (), Instant::now());
    assert_eq!(hold.missing(), 2);
}
