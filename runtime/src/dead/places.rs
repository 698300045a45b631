//! All places of dead letters that one server has, as one: the brokers that hold those of their own queues, and the store for the rest.
//!
//! A letter is looked for in every place, whatever queue it is of: a queue may have been moved to a broker after it was written.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;

use super::{DeadCounts, DeadFilter, DeadLetter, DeadLetters, DeadPage};
use crate::queue::{BoxFuture, Queue};
use crate::store::StoreError;

/// See the module.
pub struct DeadPlaces {
    store: Arc<dyn DeadLetters>,
    // By queue.
    brokers: BTreeMap<String, Arc<dyn DeadLetters>>,
}

impl DeadPlaces {
    /// The store, and the places of those queues that have one on their broker.
    #[must_use]
    pub fn new(store: Arc<dyn DeadLetters>, brokers: BTreeMap<String, Arc<dyn DeadLetters>>) -> Self {
        Self { store, brokers }
    }

    /// The store, and the places of those of these queues that have one on their broker.
    #[must_use]
    pub fn of_queues<'q>(store: Arc<dyn DeadLetters>, queues: impl IntoIterator<Item = (&'q str, &'q dyn Queue)>) -> Self {
        let own = |(name, queue): (&str, &dyn Queue)| Some((name.to_owned(), queue.dead_letters()?));
        Self::new(store, queues.into_iter().filter_map(own).collect())
    }

    /// Where the dead letters of a queue are put.
    #[must_use]
    pub fn of(&self, queue: &str) -> &Arc<dyn DeadLetters> {
        self.brokers.get(queue).unwrap_or(&self.store)
    }

    fn all(&self) -> impl Iterator<Item = &dyn DeadLetters> {
        std::iter::once(&*self.store).chain(self.brokers.values().map(|place| &**place))
    }
}

/// What was found, or why it can't be told that there is nothing.
fn found<T>(
    answers: impl IntoIterator<Item = Result<T, StoreError>>,
    is_found: impl Fn(&T) -> bool,
) -> Result<Option<T>, StoreError> {
    let mut failed = None;
    for answer in answers {
        match answer {
            Ok(answer) if is_found(&answer) => return Ok(Some(answer)),
            Ok(_) => {}
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(None), Err)
}

impl DeadLetters for DeadPlaces {
    fn put<'a>(&'a self, letters: &'a [&'a DeadLetter]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut queues: BTreeMap<&str, Vec<&DeadLetter>> = BTreeMap::new();
            for letter in letters {
                queues.entry(&letter.queue).or_default().push(letter);
            }
            for (queue, letters) in queues {
                self.of(queue).put(&letters).await?;
            }
            Ok(())
        })
    }

    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<DeadLetter>, StoreError>> {
        Box::pin(async move {
            let answers = join_all(self.all().map(|place| place.get(id))).await;
            Ok(found(answers, Option::is_some)?.flatten())
        })
    }

    /// A place that can't be asked is told in [`DeadPage::missing`].
    fn list(&self, filter: DeadFilter) -> BoxFuture<'_, Result<DeadPage, StoreError>> {
        Box::pin(async move {
            let answers = join_all(self.all().map(|place| place.list(filter.clone()))).await;
            let (mut pages, mut failed) = (Vec::new(), Vec::new());
            for answer in answers {
                match answer {
                    Ok(page) => pages.push(page),
                    Err(error) => failed.push(error),
                }
            }
            if pages.is_empty()
                && let Some(error) = failed.pop()
            {
                return Err(error);
            }
            let mut page = DeadPage::merge(pages, filter.page());
            page.missing.extend(failed.iter().map(ToString::to_string));
            Ok(page)
        })
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            // Of a queue that was moved there may be two.
            let answers = join_all(self.all().map(|place| place.remove(id))).await;
            Ok(found(answers, |removed| *removed)?.is_some())
        })
    }

    /// Only where they are put now: what was put elsewhere is of another delivery.
    fn forget<'a>(&'a self, queue: &'a str, ids: &'a [String]) -> BoxFuture<'a, Result<(), StoreError>> {
        self.of(queue).forget(queue, ids)
    }

    /// What can't be asked now is missing.
    fn counts(&self) -> BoxFuture<'_, Result<DeadCounts, StoreError>> {
        Box::pin(async move {
            let mut whole = DeadCounts::default();
            for counts in join_all(self.all().map(DeadLetters::counts)).await.into_iter().flatten() {
                for (queue, count) in counts.queues {
                    let sum = whole.queues.entry(queue).or_default();
                    sum.held += count.held;
                    sum.bytes += count.bytes;
                    sum.dropped += count.dropped;
                }
            }
            Ok(whole)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::store::tests::{letter, recent};

    /// Two stores, one of them as the place of `events`.
    fn places() -> ([tempfile::TempDir; 2], [Arc<Store>; 2], DeadPlaces) {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let stores = [0, 1].map(|at: usize| Store::open(folders[at].path()).unwrap());
        let places = DeadPlaces::new(stores[0].clone(), BTreeMap::from([("events".to_owned(), stores[1].clone() as _)]));
        (folders, stores, places)
    }

    #[tokio::test]
    async fn each_queue_has_its_place_and_all_are_one_list() {
        let (_folders, stores, places) = places();
        let (mut other, broker) = (letter("a", recent(20)), letter("b", recent(10)));
        other.queue = "other".to_owned();
        places.put(&[&other, &broker]).await.unwrap();
        assert!(stores[0].get_dead("a").await.unwrap().is_some() && stores[0].get_dead("b").await.unwrap().is_none());
        assert!(stores[1].get_dead("b").await.unwrap().is_some());
        let page = places.list(DeadFilter::default()).await.unwrap();
        assert_eq!(page.letters.iter().map(|letter| letter.id.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(places.counts().await.unwrap().queues.len(), 2);
        for id in ["a", "b"] {
            assert_eq!(places.get(id).await.unwrap().unwrap().id, id);
            assert!(places.remove(id).await.unwrap());
            assert!(!places.remove(id).await.unwrap());
            assert!(places.get(id).await.unwrap().is_none());
        }
    }

    #[test]
    fn nothing_is_only_said_when_all_have_answered() {
        let away = || Err(StoreError::Unavailable("away".to_owned()));
        assert_eq!(found([Ok(false), Ok(true), away()], |found| *found), Ok(Some(true)));
        assert_eq!(found([away(), Ok(true)], |found| *found), Ok(Some(true)));
        assert_eq!(found([Ok(false), Ok(false)], |found| *found), Ok(None));
        assert!(found([Ok(false), away()], |found| *found).is_err());
    }
}
