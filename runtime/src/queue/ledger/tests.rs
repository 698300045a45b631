//! Histories of one and several subscriptions, step by step. Random ones against a model: `disk/tests/model.rs`.

use super::{Ledger, Reading};
use crate::clock::Timestamp;
use crate::queue::{Start, Tries};

const NOW: Timestamp = Timestamp(1_000);

fn subscribe(ledger: &mut Ledger, name: &str, start: Start) {
    let reading = ledger.would_begin(name, start).unwrap();
    ledger.insert(name.to_owned(), reading);
}

fn reading<'l>(ledger: &'l mut Ledger, name: &str) -> &'l mut Reading {
    ledger.readings.get_mut(name).unwrap()
}

fn take(ledger: &mut Ledger, name: &str, max: usize, now: Timestamp) -> Vec<u64> {
    let end = ledger.end;
    reading(ledger, name).take(end, max, now).into_iter().map(|(seq, _)| seq).collect()
}

/// Whether the event is free then.
fn end(ledger: &mut Ledger, name: &str, seq: u64) -> Option<bool> {
    let free = ledger.begin_end(name, seq);
    ledger.finish_end(name, seq);
    free
}

#[test]
fn an_event_is_free_when_every_subscription_has_ended_it() {
    let mut ledger = Ledger::default();
    subscribe(&mut ledger, "a", Start::New);
    subscribe(&mut ledger, "b", Start::New);
    ledger.append(2);
    assert_eq!(take(&mut ledger, "a", 9, NOW), [0, 1]);
    assert_eq!(end(&mut ledger, "a", 0), Some(false), "b has not seen it");
    assert_eq!(take(&mut ledger, "b", 1, NOW), [0]);
    assert_eq!(end(&mut ledger, "b", 0), Some(true));
    assert_eq!(end(&mut ledger, "b", 0), None, "it has ended");
    assert_eq!(end(&mut ledger, "b", 1), None, "it is not leased");
    // Both in one commit: the second one frees it.
    assert_eq!(take(&mut ledger, "b", 1, NOW), [1]);
    assert_eq!((ledger.begin_end("a", 1), ledger.begin_end("b", 1)), (Some(false), Some(true)));
}

#[test]
fn what_could_not_be_ended_stays_leased() {
    let mut ledger = Ledger::default();
    subscribe(&mut ledger, "a", Start::New);
    ledger.append(1);
    take(&mut ledger, "a", 1, NOW);
    assert_eq!(ledger.begin_end("a", 0), Some(true));
    ledger.undo_end("a", 0);
    assert_eq!(take(&mut ledger, "a", 1, NOW), [0_u64; 0]);
    assert_eq!(reading(&mut ledger, "a").in_flight(), 1);
    assert_eq!(end(&mut ledger, "a", 0), Some(true));
    assert_eq!(reading(&mut ledger, "a").in_flight(), 0);
}

#[test]
fn what_comes_back_is_older_and_comes_first_when_it_is_due() {
    let mut ledger = Ledger::default();
    subscribe(&mut ledger, "a", Start::New);
    ledger.append(5);
    assert_eq!(take(&mut ledger, "a", 3, NOW), [0, 1, 2]);
    let a = reading(&mut ledger, "a");
    a.give_back(2);
    a.retry(0, Timestamp(1_001), Tries { failed: 1, ..Tries::default() });
    assert_eq!(a.next_due(), Some(Timestamp(1_001)));
    assert_eq!(take(&mut ledger, "a", 2, NOW), [2, 3], "0 is not due, 1 is leased");
    assert_eq!(take(&mut ledger, "a", 9, Timestamp(1_001)), [0, 4]);
    assert_eq!(reading(&mut ledger, "a").next_due(), None);
    assert_eq!(reading(&mut ledger, "a").count(5), 5);
    assert_eq!(reading(&mut ledger, "a").oldest(5), Some(0));
}

#[test]
fn the_first_subscriptions_begin_with_what_waited_until_something_ends() {
    for start in [Start::New, Start::All] {
        let mut ledger = Ledger::default();
        ledger.append(2);
        subscribe(&mut ledger, "a", start);
        take(&mut ledger, "a", 1, NOW);
        subscribe(&mut ledger, "b", start);
        assert_eq!(take(&mut ledger, "b", 9, NOW), [0, 1]);
        end(&mut ledger, "b", 1);
        subscribe(&mut ledger, "c", Start::New);
        assert_eq!(take(&mut ledger, "c", 9, NOW), [0_u64; 0]);
    }
}

#[test]
fn nothing_waited_so_a_later_subscription_is_not_among_the_first() {
    let mut ledger = Ledger::default();
    subscribe(&mut ledger, "a", Start::New);
    ledger.append(2);
    subscribe(&mut ledger, "b", Start::New);
    assert_eq!(take(&mut ledger, "b", 9, NOW), [0_u64; 0]);
}

#[test]
fn all_begins_with_what_somebody_still_holds() {
    let mut ledger = Ledger::default();
    subscribe(&mut ledger, "a", Start::New);
    ledger.append(6);
    take(&mut ledger, "a", 4, NOW);
    for seq in [0, 2] {
        end(&mut ledger, "a", seq);
    }
    reading(&mut ledger, "a").retry(3, Timestamp(u64::MAX), Tries::default());
    subscribe(&mut ledger, "b", Start::All);
    assert_eq!(take(&mut ledger, "b", 9, NOW), [1, 3, 4, 5]);
}

#[test]
fn without_subscriptions_what_comes_next_waits_and_what_was_is_gone() {
    let mut ledger = Ledger::default();
    subscribe(&mut ledger, "a", Start::New);
    ledger.append(3);
    assert!(ledger.unsubscribe("a").is_some());
    assert!(!ledger.holds(1));
    ledger.append(1);
    subscribe(&mut ledger, "b", Start::New);
    assert_eq!(take(&mut ledger, "b", 9, NOW), [3]);
}

#[test]
fn the_cursor_passes_only_what_gets_a_row() {
    let mut ledger = Ledger::default();
    subscribe(&mut ledger, "a", Start::New);
    ledger.append(5);
    take(&mut ledger, "a", 5, NOW);
    ledger.begin_end("a", 3);
    let a = reading(&mut ledger, "a");
    let passed: Vec<_> = a.unkept_below(4).map(|(seq, _)| seq).collect();
    assert_eq!(passed, [0, 1, 2]);
    passed.iter().for_each(|seq| a.keep(*seq));
    assert_eq!(a.unkept_below(5).map(|(seq, _)| seq).collect::<Vec<_>>(), [4]);
}

#[test]
fn a_blocker_is_named_when_it_stands_out() {
    let mut ledger = Ledger::default();
    assert_eq!(ledger.blocker(), None);
    subscribe(&mut ledger, "a", Start::New);
    assert_eq!(ledger.blocker(), None, "it holds nothing");
    subscribe(&mut ledger, "b", Start::New);
    ledger.append(2);
    assert_eq!(ledger.blocker(), None, "both hold the same");
    take(&mut ledger, "a", 1, NOW);
    end(&mut ledger, "a", 0);
    assert_eq!(ledger.blocker(), Some("b"));
    ledger.unsubscribe("a");
    assert_eq!(ledger.blocker(), Some("b"));
}
