//! Lanes keep their order through whatever happens to their events, and nothing is lost or counted twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::event::Event;
use crate::queue::Tries;

fn item(number: u128, lane: Option<&str>) -> Item {
    let event = Event { id: number.to_string(), ..Event::default() };
    let position = Position(number);
    let delivery = Delivery { event: Arc::new(event), position, tries: Tries::default(), first_seen: Timestamp(0) };
    Item::new(delivery, lane.map(Into::into))
}

fn number(item: &Item) -> u128 {
    item.delivery.position.0
}

#[test]
fn a_lane_waits_for_its_first_and_others_do_not() {
    let mut lanes = Lanes::default();
    for (number, lane) in [(1, Some("a")), (2, Some("a")), (3, Some("b")), (4, None), (5, None)] {
        lanes.arrive(item(number, lane));
    }
    assert_eq!((lanes.waiting(), lanes.parked()), (4, 1));
    let first = lanes.take().unwrap();
    assert_eq!(number(&first), 1);
    assert_eq!(lanes.longest().map(|(lane, count)| (lane.to_string(), count)), Some(("a".to_owned(), 1)));
    // It fails: the lane waits with it.
    lanes.park(first, Timestamp(10));
    lanes.release_due(Timestamp(9));
    assert_eq!([0; 3].map(|_| number(&lanes.take().unwrap())), [3, 4, 5]);
    assert!(lanes.take().is_none() && lanes.next_due() == Some(Timestamp(10)));
    lanes.release_due(Timestamp(10));
    let again = lanes.take().unwrap();
    lanes.leave(again.lane.as_ref());
    assert_eq!((number(&again), lanes.take().map(|item| number(&item)), lanes.parked()), (1, Some(2), 0));
}

#[test]
fn what_is_drained_comes_in_the_order_of_the_queue() {
    let mut lanes = Lanes::default();
    let may_run = (1..6).map(|number| lanes.arrive(item(number, (number % 2 == 0).then_some("a"))));
    assert_eq!(may_run.collect::<Vec<_>>(), [true, true, true, false, true]);
    let first = lanes.take().unwrap();
    lanes.park(first, Timestamp(7));
    let drained: Vec<_> = lanes.drain().iter().map(|(item, due)| (number(item), *due)).collect();
    assert_eq!(drained, [(1, Some(Timestamp(7))), (2, None), (3, None), (4, None), (5, None)]);
    assert_eq!((lanes.waiting(), lanes.parked(), lanes.parked_bytes()), (0, 0, 0));
    lanes.arrive(item(6, Some("a")));
    assert_eq!(lanes.waiting(), 1, "its lane is free again");
}

#[derive(Debug, Clone)]
enum Step {
    Arrive(Option<u8>),
    Take,
    /// Of those that run, by place: ends, or waits so long.
    End(usize),
    Park(usize, u64),
    Pass(u64),
    Lose(Vec<u128>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::option::weighted(0.8, 0..4_u8).prop_map(Step::Arrive),
        6 => Just(Step::Take),
        4 => (0..4_usize).prop_map(Step::End),
        3 => (0..4_usize, 0..20_u64).prop_map(|(at, wait)| Step::Park(at, wait)),
        2 => (0..20_u64).prop_map(Step::Pass),
        1 => prop::collection::vec(0..60_u128, 0..6).prop_map(Step::Lose),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn order_is_kept_under_failures(steps in prop::collection::vec(step(), 1..150)) {
        let (mut lanes, mut running, mut now, mut next) = (Lanes::default(), Vec::new(), Timestamp(0), 0_u128);
        // Each lane's events that have not ended, in order of arrival; those without a lane have one of their own.
        let mut expected: BTreeMap<String, Vec<u128>> = BTreeMap::new();
        let name = |item: &Item| item.lane.as_ref().map_or_else(|| format!("#{}", number(item)), ToString::to_string);
        for step in steps {
            match step {
                Step::Arrive(lane) => {
                    let item = item(next, lane.map(|lane| lane.to_string()).as_deref());
                    expected.entry(name(&item)).or_default().push(next);
                    next += 1;
                    lanes.arrive(item);
                }
                Step::Take => if let Some(item) = lanes.take() {
                    prop_assert_eq!(expected[&name(&item)].first(), Some(&number(&item)), "the first of its lane that has not ended runs");
                    prop_assert!(running.iter().all(|other| name(other) != name(&item)), "one of a lane at a time");
                    running.push(item);
                },
                Step::End(at) if at < running.len() => {
                    let item = running.swap_remove(at);
                    expected.get_mut(&name(&item)).unwrap().remove(0);
                    lanes.leave(item.lane.as_ref());
                }
                Step::Park(at, wait) if at < running.len() => lanes.park(running.swap_remove(at), Timestamp(now.0 + wait)),
                Step::Pass(time) => {
                    now.0 += time;
                    lanes.release_due(now);
                    prop_assert!(lanes.next_due().is_none_or(|due| due > now));
                }
                Step::Lose(numbers) => {
                    let lost: HashSet<_> = numbers.iter().copied().filter(|number| *number < next).map(Position).collect();
                    let held = |number: &u128| !running.iter().any(|item| item.delivery.position.0 == *number);
                    let before: usize = expected.values().map(Vec::len).sum();
                    for lane in expected.values_mut() {
                        lane.retain(|number| !(lost.contains(&Position(*number)) && held(number)));
                    }
                    let after: usize = expected.values().map(Vec::len).sum();
                    prop_assert_eq!(lanes.lose(&lost), before - after);
                }
                Step::End(_) | Step::Park(..) => {}
            }
            let left: usize = expected.values().map(Vec::len).sum();
            prop_assert_eq!(lanes.waiting() + lanes.parked() + running.len(), left, "nothing is lost or counted twice");
            let stuck = expected.values().filter(|lane| !lane.is_empty()).count();
            let can = lanes.waiting() + running.len() + lanes.timed.len();
            prop_assert_eq!(can, stuck, "each lane that holds something has its first in hand");
        }
        let mut drained: Vec<u128> = lanes.drain().iter().map(|(item, _)| number(item)).collect();
        drained.extend(running.iter().map(number));
        drained.sort_unstable();
        let mut left: Vec<u128> = expected.into_values().flatten().collect();
        left.sort_unstable();
        prop_assert_eq!(drained, left);
    }
}
