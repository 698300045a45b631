//! Dead letters wherever they are kept: the store's and those of each queue whose broker keeps its own, as one list. What an id names is
//! looked for in every place, so that a letter is found whatever place its queue had when it was given up.

use std::sync::Arc;

use super::{DeadCount, DeadCounts, DeadFilter, DeadLetter, DeadLetters, DeadPage};
use crate::queue::Queue;
use crate::store::{Store, StoreError};

/// All places of dead letters that a configuration names.
pub struct AllDead {
    places: Vec<Place>,
}

struct Place {
    /// The queue whose letters alone are here; none: any queue's.
    queue: Option<String>,
    letters: Arc<dyn DeadLetters>,
}

impl AllDead {
    /// The store, if there is one, and the places of these queues.
    #[must_use]
    pub fn new<'q>(store: Option<Arc<Store>>, queues: impl IntoIterator<Item = (&'q str, &'q dyn Queue)>) -> Self {
        let store = store.map(|store| Place { queue: None, letters: store });
        let own = |(name, queue): (&str, &dyn Queue)| Some(Place { queue: Some(name.to_owned()), letters: queue.dead_letters()? });
        Self { places: store.into_iter().chain(queues.into_iter().filter_map(own)).collect() }
    }

    /// One page of the letters that match, newest first. Memory is bounded by a page of each place.
    ///
    /// # Errors
    /// When a place that may hold some can't be read: a list that lacks some would be taken for the whole.
    pub async fn list(&self, filter: DeadFilter) -> Result<DeadPage, StoreError> {
        let asked = |place: &&Place| match (&place.queue, &filter.queue) {
            (Some(own), Some(wanted)) => own == wanted,
            _ => true,
        };
        let mut pages = Vec::with_capacity(self.places.len());
        for place in self.places.iter().filter(asked) {
            pages.push(place.letters.list(filter.clone()).await?);
        }
        Ok(DeadPage::merge(pages, filter.page()))
    }

    /// The letter with this id.
    ///
    /// # Errors
    /// When it is in no place that could be read, and one could not; or it can't be read itself.
    pub async fn get(&self, id: &str) -> Result<Option<DeadLetter>, StoreError> {
        let mut failed = None;
        for place in &self.places {
            match place.letters.get(id).await {
                Ok(Some(letter)) => return Ok(Some(letter)),
                Ok(None) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// Removes the letter with this id, readable or not; whether there was one.
    ///
    /// # Errors
    /// When a place that may hold it could not be asked.
    pub async fn remove(&self, id: &str) -> Result<bool, StoreError> {
        let mut removed = false;
        for place in &self.places {
            removed |= place.letters.remove(id).await?;
        }
        Ok(removed)
    }

    /// How many letters each queue has, over all places.
    ///
    /// # Errors
    /// When a place can't be asked.
    pub async fn counts(&self) -> Result<DeadCounts, StoreError> {
        let mut all = DeadCounts::default();
        for place in &self.places {
            for (queue, count) in place.letters.counts().await?.queues {
                let DeadCount { held, bytes, dropped } = all.queues.entry(queue).or_default();
                *held += count.held;
                *bytes += count.bytes;
                *dropped += count.dropped;
            }
        }
        Ok(all)
    }
}
