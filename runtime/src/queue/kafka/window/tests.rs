//! Tables, and a model: a plain set of what has ended.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn window(base: i64, ended: &[i64]) -> Window {
    let mut window = Window::new(base);
    ended.iter().for_each(|offset| window.end(*offset));
    window
}

fn tries(failed: u32) -> Option<Note> {
    Some(Note { tries: Tries { failed, ..Tries::default() }, due: None })
}

/// As the next owner reads it.
fn handed_over(window: &mut Window) -> Window {
    let Commit { offset, metadata } = window.commit();
    Window::read(offset, &metadata)
}

#[test]
fn the_watermark_is_the_lowest_that_has_not_ended() {
    for (ended, base, above) in [
        (&[][..], 10, 0),
        (&[10], 11, 0),
        (&[11], 10, 1),
        (&[11, 13, 12], 10, 3),
        (&[11, 12, 10], 13, 0),
        (&[12, 10, 14, 11], 13, 1),
        (&[10, 10, 9, 3], 11, 0),
    ] {
        let window = window(10, ended);
        assert_eq!((window.base(), window.ended_above()), (base, above), "{ended:?}");
    }
}

#[test]
fn what_is_passed_over_has_ended() {
    let mut window = Window::new(5);
    assert!(window.see(8));
    assert_eq!((window.base(), window.next()), (8, 9));
    assert!(window.see(11));
    assert!(window.has_ended(9) && window.has_ended(10) && !window.has_ended(8));
    window.end(8);
    assert_eq!(window.base(), 11);
    assert!(!window.see(10), "it has ended, so it is not done again");
}

#[test]
fn notes_end_with_their_offset() {
    let mut window = Window::new(0);
    assert!(window.note(1, tries(1)) && !window.note(1, tries(1)) && window.note(1, tries(2)));
    window.end(1);
    assert_eq!((window.note_of(1), window.note(1, tries(3))), (None, false));
    assert!(window.note(2, tries(1)) && window.note(2, None) && !window.note(2, None));
}

#[test]
fn metadata_of_others_says_nothing() {
    for metadata in ["", "weir1.", "weir1.!", "weir2.AAA", "NO_METADATA", "weir1._____w", "weir1.AAH_"] {
        assert_eq!(Window::read(7, metadata), Window::new(7), "{metadata}");
    }
}

#[test]
fn the_reservation_is_read_by_the_next_owner() {
    let mut window = Window::new(40);
    assert!(window.reserve() && !window.reserve());
    window.end(40);
    let next = handed_over(&mut window);
    assert_eq!((next.base(), next.open()), (41, 40 + RESERVED));
    window.close();
    assert_eq!(handed_over(&mut window).open(), 41);
}

#[test]
fn it_takes_nothing_new_at_three_quarters() {
    let mut window = Window::new(0);
    let mut offset = 1;
    while !window.is_full() {
        window.end(offset);
        offset += 2;
        window.commit();
    }
    // Its next owner takes what it knew, or nothing would ever end.
    let mut next = handed_over(&mut window);
    next.commit();
    assert!(!next.is_full());
    for offset in 0..offset {
        next.see(offset);
    }
    assert!(next.is_full());
    let room = code::METADATA_MAX - window.commit().metadata.len();
    assert!((900..=1_024).contains(&room), "{room} bytes are left for what is in hand");
    // Far beyond it the commit still fits, and what it says is true.
    for _ in 0..4_000 {
        window.end(offset);
        window.note(offset + 1, tries(7));
        offset += 2;
    }
    let commit = window.commit();
    assert!(commit.metadata.len() <= code::METADATA_MAX);
    let read = Window::read(commit.offset, &commit.metadata);
    assert!((0..offset).all(|offset| window.has_ended(offset) || !read.has_ended(offset)));
    (0..offset).step_by(2).for_each(|offset| window.end(offset));
    window.commit();
    assert!(!window.is_full());
}

#[test]
fn many_that_run_at_once_are_one_run() {
    let mut window = Window::new(1_000_000);
    for offset in 0..1_000 {
        window.note(1_000_000 + offset, tries(1));
    }
    let metadata = window.commit().metadata;
    assert!(metadata.len() < 20, "{metadata}");
    assert_eq!(handed_over(&mut window), Window { coded: 0, next: 1_000_000, ..window });
}

#[derive(Debug, Clone)]
enum Step {
    See(i64),
    End(i64),
    Note(i64, Note),
    Forget(i64),
    Reserve,
}

fn note() -> impl Strategy<Value = Note> {
    let time = || proptest::option::of(prop_oneof![0..5_u64, 1_700_000_000_000..1_700_000_100_000_u64, any::<u64>()]);
    (prop_oneof![0..4_u32, 30..33_u32, any::<u32>()], prop_oneof![Just(0), any::<u32>()], time(), time()).prop_map(
        |(failed, outside, since, due)| Note {
            tries: Tries { failed, outside, outside_since: since.map(Timestamp) },
            due: due.map(Timestamp),
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let offset = || 0..120_i64;
    prop_oneof![
        offset().prop_map(Step::See),
        offset().prop_map(Step::End),
        (offset(), note()).prop_map(|(offset, note)| Step::Note(offset, note)),
        offset().prop_map(Step::Forget),
        Just(Step::Reserve),
    ]
}

proptest! {
    #[test]
    fn it_is_as_the_model_says_and_so_is_its_next_owner(steps in proptest::collection::vec(step(), 0..200), base in 0..1_000_000_i64) {
        let mut window = Window::new(base);
        let (mut ended, mut notes, mut next) = (BTreeSet::new(), BTreeMap::new(), 0);
        for step in steps {
            match step {
                Step::See(offset) => {
                    prop_assert_eq!(window.see(base + offset), !ended.contains(&offset) );
                    (next..offset).for_each(|gone| { ended.insert(gone); notes.remove(&gone); });
                    next = next.max(offset + 1);
                }
                Step::End(offset) => {
                    window.end(base + offset);
                    ended.insert(offset);
                    notes.remove(&offset);
                    next = next.max(offset + 1);
                }
                Step::Note(offset, note) => {
                    window.note(base + offset, Some(note));
                    if !ended.contains(&offset) {
                        notes.insert(offset, note);
                    }
                }
                Step::Forget(offset) => {
                    window.note(base + offset, None);
                    notes.remove(&offset);
                }
                Step::Reserve => drop(window.reserve()),
            }
        }
        let lowest = (0..).find(|offset| !ended.contains(offset)).unwrap_or(0);
        prop_assert_eq!(window.base(), base + lowest);
        let mut read = handed_over(&mut window);
        prop_assert!(window.commit().metadata.len() <= code::METADATA_MAX);
        let fits = window.coded < code::METADATA_MAX * 9 / 10;
        for offset in 0..130 {
            let (now, then) = (window.has_ended(base + offset), read.has_ended(base + offset));
            prop_assert_eq!(now, ended.contains(&offset));
            prop_assert!(now || !then);
            let (noted, kept) = (window.note_of(base + offset), read.note_of(base + offset));
            prop_assert_eq!(noted, notes.get(&offset).copied());
            prop_assert!(kept.is_none() || kept == noted);
            prop_assert!(!fits || (now == then && noted == kept));
        }
        prop_assert_eq!(read.commit().metadata, window.commit().metadata);
    }

    #[test]
    fn no_metadata_breaks_it(metadata in "(weir1\\.)?[A-Za-z0-9_-]{0,60}", base in any::<u32>()) {
        let window = Window::read(i64::from(base), &metadata);
        prop_assert_eq!(window.base(), i64::from(base));
    }
}
