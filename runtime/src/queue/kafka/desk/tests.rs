//! What the desk does, step by step, without a broker.

use std::time::{Duration, Instant};

use super::*;
use crate::queue::{Settle, Settlement};

const SLOT: Slot = Slot { retry: false, partition: 3 };
const NOW: Timestamp = Timestamp(1_000_000);

fn came(offset: i64) -> Came {
    Came { offset, event: Arc::new(Event::default()), first_seen: NOW, own: Note::default() }
}

fn tries(failed: u32) -> Tries {
    Tries { failed, ..Tries::default() }
}

/// With one partition from offset 10, reserved, and these taken.
fn desk(offsets: std::ops::Range<i64>) -> Desk {
    let mut desk = Desk { wanted: 100, ..Desk::default() };
    desk.assign(SLOT, Window::new(10));
    commit(&mut desk);
    for offset in offsets {
        desk.take(SLOT, came(offset), NOW);
    }
    desk
}

/// Commits all there is: the offset and the window as a next owner reads it.
fn commit(desk: &mut Desk) -> Vec<(i64, Window)> {
    let planned = desk.plan();
    for planned in &planned {
        desk.committed(planned);
    }
    planned.iter().map(|planned| (planned.commit.offset, Window::read(planned.commit.offset, &planned.commit.metadata))).collect()
}

fn out(desk: &mut Desk) -> Vec<i64> {
    desk.hand_out(100).iter().map(|delivery| Slot::of(delivery.position).1).collect()
}

fn settle(desk: &mut Desk, offset: i64, settle: Settle) -> Settled {
    desk.settle(&[Settlement { position: SLOT.position(offset), settle }], NOW)
}

#[test]
fn positions_are_partition_and_offset() {
    for slot in [SLOT, Slot { retry: true, partition: 0 }, Slot { retry: false, partition: i32::MAX }] {
        for offset in [0, 7, i64::MAX] {
            assert_eq!(Slot::of(slot.position(offset)), (slot, offset));
        }
    }
    assert_ne!(SLOT.position(1), Slot { retry: true, ..SLOT }.position(1));
}

#[test]
fn nothing_is_taken_before_its_reservation_is_committed() {
    let mut desk = Desk::default();
    desk.assign(SLOT, Window::new(10));
    assert!(!desk.may_take(SLOT));
    commit(&mut desk);
    assert!(desk.may_take(SLOT));
}

#[test]
fn a_settlement_holds_once_it_is_committed() {
    let mut desk = desk(10..13);
    assert_eq!(out(&mut desk), [10, 11, 12]);
    let mut settled = settle(&mut desk, 11, Settle::Ack);
    let (_, confirmed) = &mut settled.waits[0];
    assert!(confirmed.try_recv().is_err());
    let (offset, window) = commit(&mut desk).remove(0);
    assert_eq!((offset, window.has_ended(11), window.has_ended(10)), (10, true, false));
    assert_eq!(confirmed.try_recv(), Ok(Ok(())));
    assert!(settle(&mut desk, 11, Settle::Ack).waits.is_empty(), "again: it is committed");
    assert!(settle(&mut desk, 99, Settle::Ack).waits.is_empty(), "it never came");
}

#[test]
fn what_is_given_back_comes_again_in_its_place() {
    let mut desk = desk(10..14);
    assert_eq!(out(&mut desk), [10, 11, 12, 13]);
    for offset in [12, 10] {
        settle(&mut desk, offset, Settle::Return);
    }
    assert_eq!(out(&mut desk), [10, 12]);
}

#[test]
fn what_was_noted_is_given_back_once_that_is_committed() {
    let mut desk = desk(10..11);
    out(&mut desk);
    assert!(desk.note(SLOT.position(10), tries(1)));
    assert_eq!(commit(&mut desk)[0].1.note_of(10).map(|note| note.tries), Some(tries(1)));
    let settled = settle(&mut desk, 10, Settle::Return);
    assert_eq!((settled.waits.len(), out(&mut desk).len()), (1, 0));
    assert_eq!(settle(&mut desk, 10, Settle::Return).waits.len(), 1, "asked once more: it still waits");
    assert_eq!(commit(&mut desk)[0].1.note_of(10), None);
    assert_eq!(out(&mut desk), [10]);
}

#[test]
fn a_retry_waits_with_its_tries() {
    let mut desk = desk(10..12);
    out(&mut desk);
    let due = NOW.after(Duration::from_secs(1));
    settle(&mut desk, 10, Settle::Retry { due, tries: tries(2) });
    let window = commit(&mut desk).remove(0).1;
    assert_eq!(window.note_of(10), Some(Note { tries: tries(2), due: Some(due) }));
    assert_eq!(desk.next_due(), Some(due));
    assert!(!desk.get_due(NOW) && desk.get_due(due));
    let again = desk.hand_out(9);
    assert_eq!((again.len(), again[0].tries), (1, tries(2)));
    // The next owner waits for it too.
    let mut next = Desk { wanted: 9, ..Desk::default() };
    next.assign(SLOT, window);
    commit(&mut next);
    next.take(SLOT, came(10), NOW);
    assert_eq!(next.next_due(), Some(due));
}

#[test]
fn what_may_have_run_with_another_is_run_with_its_start_committed_first() {
    let mut before = desk(10..13);
    out(&mut before);
    before.note(SLOT.position(11), tries(1));
    let left = commit(&mut before).remove(0).1;

    let mut desk = Desk { wanted: 9, ..Desk::default() };
    desk.assign(SLOT, left);
    commit(&mut desk);
    for (offset, behind) in [(10, 0), (11, 1)] {
        assert!(desk.may_take(SLOT));
        assert!(!desk.take(SLOT, came(offset), NOW));
        assert!(!desk.may_take(SLOT) && desk.hand_out(9).is_empty(), "its start is not committed");
        assert_eq!(commit(&mut desk)[0].1.note_of(offset).map(|note| note.tries), Some(tries(behind + 1)));
        let came = desk.hand_out(9);
        assert_eq!((came.len(), came[0].tries), (1, tries(behind)));
    }
    // Given back, it is as if it had never begun.
    settle(&mut desk, 10, Settle::Return);
    assert!(desk.hand_out(9).is_empty());
    commit(&mut desk);
    assert_eq!(out(&mut desk), [10]);
}

#[test]
fn what_was_given_back_here_has_its_start_committed_once() {
    let mut before = desk(10..11);
    out(&mut before);
    let left = commit(&mut before).pop().map_or_else(|| before.window(SLOT).unwrap().clone(), |(_, window)| window);
    let mut desk = Desk { wanted: 9, ..Desk::default() };
    desk.assign(SLOT, left);
    commit(&mut desk);
    desk.take(SLOT, came(10), NOW);
    commit(&mut desk);
    assert_eq!(out(&mut desk), [10]);
    settle(&mut desk, 10, Settle::Return);
    // Nobody runs it now: a kill costs it nothing.
    assert_eq!(commit(&mut desk)[0].1.note_of(10), None);
    assert!(!desk.is_dirty());
    assert_eq!(out(&mut desk), [10]);
}

#[test]
fn what_a_lease_was_too_old_for_comes_again_once_it_is_renewed() {
    let mut desk = desk(10..12);
    out(&mut desk);
    desk.note(SLOT.position(10), tries(1));
    let sent = desk.plan();
    assert!(desk.lapse_all() && !desk.lapse_all());
    assert!(!desk.holds(SLOT.position(10)));
    assert_eq!(desk.take_lapsed().len(), 2);
    assert_eq!(settle(&mut desk, 10, Settle::Ack).late, [SLOT.position(10)]);
    // What was sent before says nothing of it.
    sent.iter().for_each(|planned| assert!(!desk.committed(planned)));
    assert!(out(&mut desk).is_empty());
    assert_eq!(commit(&mut desk)[0].1.note_of(10), None, "no try");
    assert_eq!(out(&mut desk), [10, 11]);
    settle(&mut desk, 10, Settle::Ack);
    assert_eq!(commit(&mut desk)[0].0, 11);
}

#[test]
fn a_partition_that_is_closed_leaves_no_suspicion() {
    let mut desk = desk(10..13);
    out(&mut desk);
    desk.note(SLOT.position(11), tries(1));
    settle(&mut desk, 12, Settle::Retry { due: NOW.after(Duration::from_secs(5)), tries: tries(4) });
    assert!(desk.close(&[SLOT]));
    assert_eq!(settle(&mut desk, 10, Settle::Ack).late, [SLOT.position(10)]);
    let mut told = desk.take_lapsed();
    told.sort();
    assert_eq!(told, [SLOT.position(10), SLOT.position(11)]);
    let window = commit(&mut desk).remove(0).1;
    assert_eq!((window.open(), window.note_of(11), window.note_of(12).map(|note| note.tries)), (10, None, Some(tries(4))));
}

#[test]
fn what_runs_may_finish_when_its_partition_goes() {
    let mut desk = desk(10..13);
    desk.hand_out(2);
    let now = Instant::now();
    desk.leave(&[SLOT], now + Duration::from_secs(60));
    assert!(!desk.may_take(SLOT) && out(&mut desk).is_empty(), "nothing new");
    assert!(!desk.may_go(&[SLOT], now));
    settle(&mut desk, 10, Settle::Ack);
    settle(&mut desk, 11, Settle::Retry { due: NOW.after(Duration::from_secs(5)), tries: tries(1) });
    assert!(desk.may_go(&[SLOT], now));
    assert!(!desk.close(&[SLOT]), "nothing lapsed");
    let (offset, window) = commit(&mut desk).remove(0);
    assert_eq!((offset, window.note_of(11).map(|note| note.tries)), (11, Some(tries(1))));
    // With something out it goes when its time is over.
    let mut desk = self::desk(10..11);
    out(&mut desk);
    desk.leave(&[SLOT], now + Duration::from_secs(60));
    assert!(desk.may_go(&[SLOT], now + Duration::from_secs(61)));
}

#[test]
fn a_lost_partition_makes_settlements_late() {
    let mut desk = desk(10..12);
    out(&mut desk);
    let mut settled = settle(&mut desk, 10, Settle::Ack);
    assert!(desk.lose(&[SLOT]));
    assert!(settled.waits[0].1.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
    assert_eq!(settle(&mut desk, 11, Settle::Ack).late, [SLOT.position(11)]);
    assert_eq!(desk.take_lapsed(), [SLOT.position(11)]);
    // It comes back to us: a commit of before says nothing of it.
    let stale = {
        let mut other = self::desk(10..10);
        other.touch();
        other.plan()
    };
    desk.assign(SLOT, Window::new(10));
    assert!(!desk.committed(&stale[0]) && desk.is_dirty());
}

#[test]
fn a_log_that_begins_anew_is_read_from_its_beginning() {
    let mut desk = desk(10..12);
    out(&mut desk);
    desk.take(SLOT, came(0), NOW);
    assert_eq!(out(&mut desk), [0]);
    assert_eq!(desk.take_lapsed().len(), 2);
}

#[test]
fn what_had_ended_above_is_no_other_log_when_the_watermark_has_passed_it() {
    let mut before = desk(10..13);
    out(&mut before);
    settle(&mut before, 11, Settle::Ack);
    let left = commit(&mut before).remove(0).1;
    let mut desk = Desk { wanted: 9, ..Desk::default() };
    desk.assign(SLOT, left);
    commit(&mut desk);
    desk.take(SLOT, came(10), NOW);
    commit(&mut desk);
    assert_eq!(out(&mut desk), [10]);
    settle(&mut desk, 10, Settle::Ack);
    assert!(!desk.take(SLOT, came(11), NOW));
    desk.take(SLOT, came(12), NOW);
    assert_eq!(commit(&mut desk)[0].0, 12);
    assert_eq!(out(&mut desk), [12]);
    assert!(desk.take_lapsed().is_empty());
}

#[test]
fn copies_that_wait_long_hold_up_nothing_new() {
    let retries = Slot { retry: true, partition: 0 };
    let mut desk = Desk { most: 2, ..desk(10..10) };
    desk.assign(retries, Window::new(0));
    commit(&mut desk);
    let due = NOW.after(Duration::from_secs(600));
    for offset in 0..LONG_MAX as i64 {
        assert!(desk.may_take(retries));
        desk.take(retries, Came { own: Note { tries: tries(3), due: Some(due) }, ..came(offset) }, NOW);
        commit(&mut desk);
    }
    assert_eq!((desk.may_take(retries), desk.may_take(SLOT), desk.missing()), (false, true, 2));
    assert!(desk.get_due(due));
    let came = desk.hand_out(9);
    assert!(came.len() == 9 && came[0].tries == tries(3) && desk.may_take(retries));
}

#[test]
fn no_more_is_asked_for_than_may_be_held() {
    let mut desk = Desk { most: 3, ..desk(10..12) };
    assert_eq!(desk.missing(), 1);
    out(&mut desk);
    assert_eq!(desk.missing(), 1);
    desk.wanted = 0;
    assert_eq!(desk.missing(), 0);
}
