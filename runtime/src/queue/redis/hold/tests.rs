//! Leases over time, without a server.

use std::sync::Arc;

use super::*;
use crate::clock::Timestamp;
use crate::event::Event;

const LEASE: Duration = Duration::from_secs(30);

fn delivery(position: u128, failed: u32) -> Delivery {
    let tries = Tries { failed, ..Tries::default() };
    Delivery { event: Arc::new(Event::default()), position: Position(position), tries, first_seen: Timestamp(0) }
}

fn hold(positions: std::ops::Range<u128>, at: Instant) -> Hold {
    let mut hold = Hold::default();
    for position in positions {
        hold.take_in(delivery(position, 0), false, at);
    }
    hold
}

/// What is written by one beat.
fn taken_notes(hold: &mut Hold) -> Vec<(Position, Tries)> {
    let notes = hold.notes();
    hold.wrote(&notes);
    notes
}

fn ack(position: u128) -> Settlement {
    Settlement { position: Position(position), settle: Settle::Ack }
}

#[test]
fn nothing_is_read_while_something_is_at_hand() {
    let now = Instant::now();
    let mut hold = hold(0..3, now);
    hold.want(10);
    assert_eq!(hold.wanted(), 0);
    assert_eq!(hold.hand_out(2).len(), 2);
    assert_eq!(hold.hand_out(2).len(), 1);
    assert_eq!(hold.wanted(), 10);
    hold.want_no_more(10);
    assert_eq!(hold.wanted(), 0);
}

#[test]
fn what_nobody_wants_is_given_back() {
    let now = Instant::now();
    let mut hold = hold(0..2, now);
    let after = Duration::from_secs(2);
    assert!(hold.unwanted(now, after).is_empty());
    let unwanted = hold.unwanted(now + after, after);
    assert_eq!(unwanted.len(), 2);
    assert_eq!(hold.take_back(&unwanted).len(), 2);
    assert!(hold.hand_out(9).is_empty());
}

#[test]
fn a_young_lease_is_acked_without_a_look() {
    let now = Instant::now();
    let mut hold = hold(0..2, now);
    hold.take_in(delivery(2, 3), true, now);
    let young = LEASE * 2 / 3;
    let plan = hold.begin_settle(&[ack(0), ack(0), ack(2), ack(9)], now + young / 2, young);
    assert_eq!((plan.acks.as_slice(), plan.kept.as_slice()), (&[Position(0), Position(2)][..], &[Position(2)][..]));
    assert_eq!((plan.checked.len(), plan.late.len()), (0, 0));
    hold.settled(&plan, false);
    let plan = hold.begin_settle(&[ack(0), ack(1)], now + young, young);
    assert_eq!(plan.checked, [Checked { position: Position(1), settle: Settle::Ack, tries: None }]);
}

#[test]
fn what_could_not_be_renewed_lapses_and_its_settlement_is_late() {
    let now = Instant::now();
    let mut hold = hold(0..3, now);
    hold.hand_out(2);
    let two_thirds = LEASE * 2 / 3;
    assert!(!hold.lapse_old(now + two_thirds - Duration::from_millis(1), two_thirds));
    hold.renewed(&[Position(0)], &[], now + LEASE / 3);
    assert!(hold.lapse_old(now + two_thirds, two_thirds));
    // The third was never handed out: nobody runs it.
    assert_eq!(hold.take_lapsed(), [Position(1)]);
    assert!(hold.hand_out(1).is_empty());
    let plan = hold.begin_settle(&[ack(1)], now + two_thirds, two_thirds);
    assert_eq!(plan.late, [Position(1)]);
    assert!(hold.take_stopped(now + two_thirds, LEASE).is_empty());
    let mut stopped: Vec<_> = hold.take_stopped(now + LEASE, LEASE).iter().map(|checked| checked.position).collect();
    stopped.sort_unstable();
    assert_eq!(stopped, [Position(1), Position(2)]);
}

#[test]
fn what_is_being_settled_does_not_lapse() {
    let now = Instant::now();
    let mut hold = hold(0..2, now);
    hold.hand_out(2);
    let plan = hold.begin_settle(&[ack(0)], now, LEASE);
    hold.renewed(&[Position(0), Position(1)], &[Position(0), Position(1)], now);
    assert_eq!(hold.take_lapsed(), [Position(1)]);
    // Nor after an attempt that failed: nothing is run that could be stopped, and the next attempt tells whether it comes too late.
    hold.unsettled(&plan);
    assert!(!hold.lapse_old(now + LEASE, LEASE));
}

#[test]
fn what_comes_again_before_its_settlement_is_answered_is_a_delivery_of_its_own() {
    let now = Instant::now();
    let mut hold = hold(0..1, now);
    hold.hand_out(1);
    let back = [Settlement { position: Position(0), settle: Settle::Return }];
    let plan = hold.begin_settle(&back, now, LEASE);
    assert!(!hold.holds(Position(0), now));
    hold.take_in(delivery(0, 0), false, now);
    hold.settled(&plan, false);
    assert_eq!(hold.hand_out(1).len(), 1);
    assert_eq!(hold.begin_settle(&[ack(0)], now, LEASE).acks, [Position(0)]);
}

#[test]
fn only_notes_that_say_more_than_a_lapse_are_written() {
    let now = Instant::now();
    let mut hold = hold(0..1, now);
    let tries = |failed, outside| Tries { failed, outside, ..Tries::default() };
    assert!(!hold.note(Position(0), tries(1, 0)));
    assert!(!hold.note(Position(7), tries(5, 0)));
    assert!(hold.note(Position(0), tries(2, 0)));
    assert!(hold.note(Position(0), tries(2, 1)));
    assert_eq!(taken_notes(&mut hold), [(Position(0), tries(2, 1))]);
    assert!(taken_notes(&mut hold).is_empty());
    // Given back, it has what was tried here behind it.
    let plan = hold.begin_settle(&[Settlement { position: Position(0), settle: Settle::Return }], now, LEASE);
    assert_eq!(plan.checked[0].tries, Some(tries(2, 1)));
}

#[test]
fn what_is_lost_sight_of_keeps_the_tries_that_were_made_here() {
    let now = Instant::now();
    let tries = |failed| Tries { failed, ..Tries::default() };
    // Begins; waits here after the failure; begins again; is stopped in the second try or while it waits.
    for (notes, behind) in [(vec![1], 0), (vec![1, 1], 1), (vec![1, 1, 2], 1), (vec![1, 1, 2, 2], 2), (vec![0, 1], 0)] {
        let mut hold = hold(0..1, now);
        drop(hold.hand_out(1));
        for failed in &notes {
            hold.note(Position(0), tries(*failed));
        }
        assert!(hold.lapse_all());
        hold.take_in(delivery(0, 0), false, now);
        assert_eq!(hold.hand_out(1)[0].tries, tries(behind), "{notes:?}");
        let written = taken_notes(&mut hold);
        assert_eq!(written.first().map(|(_, tries)| tries.failed), (behind > 0).then_some(behind), "{notes:?}");
    }
    // What another process counted since stands.
    let mut hold = hold(0..1, now);
    drop(hold.hand_out(1));
    hold.note(Position(0), tries(1));
    assert!(hold.lapse_all());
    hold.take_in(delivery(0, 5), false, now);
    assert_eq!(hold.hand_out(1)[0].tries, tries(5));
}

#[test]
fn what_was_asked_for_is_told_by_its_settlement_alone() {
    let now = Instant::now();
    let mut hold = hold(0..2, now);
    hold.hand_out(2);
    let plan = hold.begin_settle(&[ack(0)], now, LEASE);
    hold.unsettled(&plan);
    // It took effect, and its answer got lost: the server knows nothing of it any more.
    hold.renewed(&[Position(0), Position(1)], &[Position(0), Position(1)], now);
    assert_eq!(hold.take_lapsed(), [Position(1)]);
    hold.lapse_old(now + LEASE, LEASE);
    let plan = hold.begin_settle(&[ack(0), ack(1)], now + LEASE, LEASE);
    assert_eq!((plan.checked.len(), plan.late.as_slice()), (1, &[Position(1)][..]));
}

#[test]
fn in_order_what_one_comes_to_all_come_to() {
    let now = Instant::now();
    let mut hold = Hold::new(true);
    hold.leads_since = Some(now);
    hold.take_in(delivery(0, 0), false, now);
    hold.take_in(delivery(1, 0), false, now + LEASE / 2);
    assert_eq!(hold.unwanted(now + LEASE, Duration::ZERO), []);
    // One is too old to be acked without a look: then both are looked at, the older first.
    let plan = hold.begin_settle(&[ack(0), ack(1)], now + LEASE, LEASE);
    assert_eq!(plan.acks, []);
    assert_eq!(plan.checked.iter().map(|checked| checked.position.0).collect::<Vec<_>>(), [0, 1]);
    hold.settled(&plan, false);

    hold.take_in(delivery(2, 0), false, now);
    hold.take_in(delivery(3, 0), false, now + LEASE / 2);
    assert_eq!(hold.hand_out(9).len(), 4);
    assert!(hold.lapse_old(now + LEASE, LEASE));
    let mut lapsed = hold.take_lapsed();
    lapsed.sort_unstable();
    assert_eq!((lapsed.as_slice(), hold.leads_since), (&[Position(2), Position(3)][..], None));
    assert_eq!(hold.take_stopped(now + 9 * LEASE, LEASE), [], "the next to read takes them over, in order");
}

#[test]
fn what_could_not_be_given_back_is_not_kept_alive() {
    let now = Instant::now();
    let mut hold = hold(0..1, now);
    let back = hold.take_back(&[Position(0)]);
    let plan = hold.begin_settle(&back, now, LEASE);
    hold.unsettled(&plan);
    hold.abandon(&[Position(0)]);
    assert_eq!(hold.to_renew(now + LEASE, LEASE), []);
    assert_eq!(hold.take_stopped(now + LEASE, LEASE).len(), 1);
}

#[test]
fn what_has_not_begun_is_noted() {
    let now = Instant::now();
    let mut hold = hold(0..2, now);
    let tries = |failed| Tries { failed, ..Tries::default() };
    assert!(!hold.note(Position(0), tries(1)), "a lapsed lease counts that by itself");
    assert!(hold.note(Position(1), tries(0)) && !hold.note(Position(1), tries(0)));
    assert!(hold.note(Position(1), tries(1)), "it begins after all");
    assert_eq!(taken_notes(&mut hold), [(Position(1), tries(1))]);
}

#[test]
fn what_is_being_acknowledged_is_not_delivered_again() {
    let now = Instant::now();
    let mut hold = hold(0..2, now);
    hold.hand_out(2);
    let back = Settlement { position: Position(1), settle: Settle::Return };
    hold.begin_settle(&[ack(0), back], now, LEASE);
    assert_eq!((hold.holds(Position(0), now), hold.holds(Position(1), now)), (true, false));
}

#[test]
fn a_note_is_written_until_the_server_has_it() {
    let now = Instant::now();
    let mut hold = hold(0..1, now);
    let tries = |failed| Tries { failed, ..Tries::default() };
    assert!(hold.note(Position(0), tries(0)));
    let first = hold.notes();
    assert_eq!(
        (first.as_slice(), hold.notes()),
        (&[(Position(0), tries(0))][..], first.clone()),
        "it is not known to be written"
    );
    // It begins while the first note is on its way: that one is done with, the next is not.
    assert!(hold.note(Position(0), tries(1)));
    hold.wrote(&first);
    assert_eq!(taken_notes(&mut hold), [(Position(0), tries(1))]);
    assert_eq!(hold.notes(), []);
}

#[test]
fn what_waits_for_long_and_has_not_begun_is_noted_once() {
    let now = Instant::now();
    let mut hold = hold(0..3, now);
    let tries = |failed| Tries { failed, ..Tries::default() };
    hold.take_in(delivery(3, 2), false, now);
    hold.note(Position(0), tries(1));
    hold.begin_settle(&[ack(1)], now, LEASE);
    hold.note_unbegun(now, LEASE / 12);
    assert_eq!(hold.notes(), [], "it has not waited");
    hold.note_unbegun(now + LEASE / 12, LEASE / 12);
    let mut notes = taken_notes(&mut hold);
    notes.sort_unstable_by_key(|(position, _)| *position);
    assert_eq!(notes, [(Position(2), tries(0)), (Position(3), tries(2))]);
    hold.note_unbegun(now + LEASE, LEASE / 12);
    assert_eq!(hold.notes(), []);
    assert!(hold.note(Position(3), tries(3)), "that it begins is noted then, as nothing counts it");
    // The settlement takes away what was noted.
    let plan = hold.begin_settle(&[ack(2)], now, LEASE);
    assert_eq!((plan.acks.as_slice(), plan.kept.as_slice()), (&[Position(2)][..], &[Position(2)][..]));
}

#[test]
fn what_is_certainly_ours() {
    let now = Instant::now();
    let mut hold = hold(0..2, now);
    hold.hand_out(2);
    assert_eq!((hold.keep(Position(0), now, LEASE), hold.keep(Position(9), now, LEASE)), ((true, false), (false, false)));
    assert_eq!(hold.keep(Position(0), now + LEASE, LEASE), (false, true), "its lease may have lapsed: then it has");
    assert_eq!(hold.take_lapsed(), [Position(0)]);
    assert_eq!(hold.begin_settle(&[ack(0)], now, LEASE).late, [Position(0)]);
    hold.begin_settle(&[ack(1)], now, LEASE);
    assert_eq!(hold.keep(Position(1), now + LEASE, LEASE), (true, false), "its settlement tells");
}

/// What has a dead letter comes back with the try that it was for, so that the letter is looked for when it ends otherwise.
#[test]
fn what_is_given_up_has_its_try_behind_it_wherever_it_comes_back_from() {
    let now = Instant::now();
    let tries = |failed, outside| Tries { failed, outside, outside_since: None };
    for given_up in [tries(1, 0), tries(0, 1)] {
        let given_up_once = || {
            let mut hold = hold(0..1, now);
            hold.hand_out(1);
            hold.note(Position(0), tries(1, 0));
            hold.note(Position(0), given_up);
            hold
        };
        let back = Settlement { position: Position(0), settle: Settle::Return };
        assert_eq!(given_up_once().begin_settle(&[back], now, LEASE).checked[0].tries, Some(given_up));
        // It lapses while the letter is written, is told as late, and is taken again as the server counts it.
        let mut hold = given_up_once();
        hold.keep(Position(0), now + LEASE, LEASE);
        hold.begin_settle(&[ack(0)], now, LEASE);
        hold.take_in(delivery(0, 0), false, now);
        assert_eq!(hold.hand_out(1)[0].tries, given_up);
    }
}
