//! Random histories against a model that is nothing but a table of who has what: `disk:` with reopening, `memory:` without.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use proptest::prelude::*;

use super::adapter;
use crate::clock::Timestamp;
use crate::event::Event;
use crate::queue::conformance::Place;
use crate::queue::memory::MemoryQueue;
use crate::queue::{Position, Publish, Queue, Settle, Settlement, Start, Tries};

const MAX: u64 = 1024 * 1024;
const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone)]
enum Step {
    Publish(usize),
    Pull { name: usize, max: usize },
    Settle { name: usize, pick: Vec<(usize, u8)> },
    Note { name: usize, pick: usize },
    Subscribe { name: usize, all: bool },
    Unsubscribe(usize),
    Reopen { kill: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    let pick = prop::collection::vec((0..20_usize, 0..6_u8), 1..6);
    prop_oneof![
        6 => (1..5_usize).prop_map(Step::Publish),
        6 => (name.clone(), 1..6_usize).prop_map(|(name, max)| Step::Pull { name, max }),
        8 => (name.clone(), pick).prop_map(|(name, pick)| Step::Settle { name, pick }),
        4 => (name.clone(), 0..20_usize).prop_map(|(name, pick)| Step::Note { name, pick }),
        3 => (name.clone(), any::<bool>()).prop_map(|(name, all)| Step::Subscribe { name, all }),
        1 => name.prop_map(Step::Unsubscribe),
        2 => any::<bool>().prop_map(|kill| Step::Reopen { kill }),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    Ready(u32),
    /// With what went before, and what was noted, which holds once the process is killed.
    Leased(u32, Position, Option<u32>),
    Waits,
}

/// Event number → where it is, for each subscription; ended ones are not there.
#[derive(Debug, Default)]
struct Model {
    published: u64,
    waiting: Vec<u64>,
    first: bool,
    readings: BTreeMap<&'static str, BTreeMap<u64, Where>>,
}

impl Model {
    fn held(&self) -> Vec<u64> {
        let mut held: Vec<u64> =
            self.readings.values().flat_map(|reading| reading.keys().copied()).chain(self.waiting.clone()).collect();
        held.sort_unstable();
        held.dedup();
        held
    }

    fn publish(&mut self, count: usize) {
        for number in self.published..self.published + count as u64 {
            if self.readings.is_empty() {
                self.waiting.push(number);
            }
            for reading in self.readings.values_mut() {
                reading.insert(number, Where::Ready(0));
            }
        }
        self.published += count as u64;
    }

    fn subscribe(&mut self, name: &'static str, all: bool) {
        if self.readings.contains_key(name) {
            return;
        }
        if self.readings.is_empty() {
            self.first = !self.waiting.is_empty();
        }
        let begins_with = if all || self.first || self.readings.is_empty() { self.held() } else { Vec::new() };
        self.waiting.clear();
        self.readings.insert(name, begins_with.into_iter().map(|number| (number, Where::Ready(0))).collect());
    }

    fn unsubscribe(&mut self, name: &'static str) {
        self.readings.remove(name);
    }

    fn available(&self, name: &str) -> Vec<(u64, u32)> {
        let reading = self.readings[name].iter();
        reading
            .filter_map(|(number, place)| if let Where::Ready(failed) = place { Some((*number, *failed)) } else { None })
            .collect()
    }

    fn settle(&mut self, name: &str, pick: &[(usize, u8)]) -> Vec<Settlement> {
        let Some(reading) = self.readings.get_mut(name) else { return Vec::new() };
        let mut batch = Vec::new();
        for (at, how) in pick {
            let leased: Vec<_> = reading.iter().filter(|(_, place)| matches!(place, Where::Leased(..))).collect();
            let Some((number, Where::Leased(failed, position, _))) = leased.get(*at).map(|(number, place)| (**number, **place))
            else {
                continue;
            };
            let tries = Tries { failed: failed + 1, ..Tries::default() };
            let settle = match how {
                0 => Settle::Return,
                1 => Settle::Retry { due: Timestamp(0), tries },
                2 => Settle::Retry { due: Timestamp(u64::MAX / 4), tries },
                _ => Settle::Ack,
            };
            match how {
                0 => reading.insert(number, Where::Ready(failed)),
                1 => reading.insert(number, Where::Ready(failed + 1)),
                2 => reading.insert(number, Where::Waits),
                _ => {
                    self.first = false;
                    reading.remove(&number)
                }
            };
            batch.push(Settlement { position, settle });
        }
        batch
    }

    /// A note of one more try than the last one; what is noted is given to the queue.
    fn note(&mut self, name: &str, pick: usize) -> Option<(Position, Tries)> {
        let mut leased = self.readings.get_mut(name)?.values_mut().filter(|place| matches!(place, Where::Leased(..)));
        let Some(Where::Leased(failed, position, noted)) = leased.nth(pick) else { return None };
        let tries = Tries { failed: noted.unwrap_or(*failed) + 1, ..Tries::default() };
        *noted = Some(tries.failed);
        Some((*position, tries))
    }

    fn reopen(&mut self, killed: bool) {
        for place in self.readings.values_mut().flat_map(BTreeMap::values_mut) {
            if let Where::Leased(failed, _, noted) = place {
                *place = Where::Ready(noted.filter(|_| killed).unwrap_or(*failed));
            }
        }
    }
}

fn event(number: u64) -> Publish {
    let event = Event { id: number.to_string(), source: "/s".to_owned(), kind: "t".to_owned(), ..Event::default() };
    Publish { event: Arc::new(event), due: None }
}

async fn follow(mut queue: Arc<dyn Queue>, place: Option<Box<dyn Place>>, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Publish(count) => {
                queue.publish((model.published..model.published + count as u64).map(event).collect()).await.unwrap();
                model.publish(count);
            }
            Step::Pull { name, max } => pull(&*queue, &mut model, NAMES[name], max).await?,
            Step::Settle { name, pick } => drop(queue.settle(NAMES[name], model.settle(NAMES[name], &pick)).await.unwrap()),
            Step::Note { name, pick } => {
                if let Some((position, tries)) = model.note(NAMES[name], pick) {
                    queue.note(NAMES[name], position, tries);
                }
            }
            Step::Subscribe { name, all } => {
                queue.subscribe(NAMES[name], if all { Start::All } else { Start::New }).await.unwrap();
                model.subscribe(NAMES[name], all);
            }
            Step::Unsubscribe(name) => {
                queue.unsubscribe(NAMES[name]).await.unwrap();
                model.unsubscribe(NAMES[name]);
            }
            Step::Reopen { kill } => {
                if let Some(place) = &place {
                    if !kill {
                        queue.close().await;
                    }
                    drop(queue);
                    queue = place.open().await.unwrap();
                    model.reopen(kill);
                }
            }
        }
        let depth = queue.depth().await.unwrap();
        prop_assert_eq!(depth.events, Some(model.held().len() as u64));
        for subscription in depth.subscriptions {
            let reading = &model.readings[subscription.name.as_str()];
            prop_assert_eq!(subscription.events, Some(reading.len() as u64));
            let leased = reading.values().filter(|place| matches!(place, Where::Leased(..))).count();
            prop_assert_eq!(subscription.in_flight, Some(leased as u64));
        }
    }
    queue.close().await;
    Ok(())
}

async fn pull(queue: &dyn Queue, model: &mut Model, name: &'static str, max: usize) -> Result<(), TestCaseError> {
    if !model.readings.contains_key(name) {
        prop_assert!(queue.pull(name, NonZeroUsize::MIN).await.is_err());
        return Ok(());
    }
    let expected: Vec<_> = model.available(name).into_iter().take(max).collect();
    let mut pull = queue.pull(name, NonZeroUsize::new(max).unwrap());
    if expected.is_empty() {
        let polled = std::future::poll_fn(|context| std::task::Poll::Ready(pull.as_mut().poll(context))).await;
        prop_assert!(polled.is_pending(), "{:?} came, expected nothing", polled);
        return Ok(());
    }
    let came = pull.await.unwrap();
    let got: Vec<_> = came.iter().map(|delivery| (delivery.event.id.parse().unwrap(), delivery.tries.failed)).collect();
    prop_assert_eq!(got, expected);
    let reading = model.readings.get_mut(name).unwrap();
    for delivery in came {
        reading.insert(delivery.event.id.parse().unwrap(), Where::Leased(delivery.tries.failed, delivery.position, None));
    }
    Ok(())
}

fn run(test: impl Future<Output = Result<(), TestCaseError>>) -> Result<(), TestCaseError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn disk_does_as_the_model(steps in prop::collection::vec(step(), 1..60)) {
        run(async {
            let place = adapter(MAX);
            let queue = place.open().await.unwrap();
            follow(queue, Some(place), steps).await
        })?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_does_as_the_model(steps in prop::collection::vec(step(), 1..100)) {
        run(follow(MemoryQueue::new("model", MAX), None, steps))?;
    }
}
