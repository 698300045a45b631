//! Buckets in memory, over others that are only read, or over nothing: for trials, whose writes are to be seen by who tries and by nobody
//! else, and for tests, which begin with empty buckets.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::Mutex;

use super::plan::{Plan, plan};
use super::{ANSWER_MAX, BATCH_MAX, Bucket, BucketError, Buckets, Page, Size, Values, Write, Written};
use crate::queue::BoxFuture;

/// Numbers of keys that came here begin above any that stands below: 2^52, which still is exact where numbers are floating.
const OWN_FROM: u64 = 1 << 52;

/// See the module. What it holds is bounded like any bucket.
#[derive(Debug, Default)]
pub struct Overlay {
    below: Option<Arc<dyn Buckets>>,
    // By path. Tokio's, because it is held while what stands below is asked; whoever runs here shares it.
    layers: Mutex<HashMap<String, Layer>>,
}

/// What was changed of one bucket.
#[derive(Debug, Default)]
struct Layer {
    entries: HashMap<String, Entry>,
    /// Keys that came here, by their number.
    order: BTreeMap<u64, String>,
    came: u64,
    size: Size,
}

#[derive(Debug)]
enum Entry {
    /// Stands where it stands below.
    Changed(Vec<u8>),
    /// Is gone, whatever is below.
    Gone,
    /// Came here, with this number, whatever is below.
    Own(u64, Vec<u8>),
}

impl Entry {
    fn value(&self) -> Option<&Vec<u8>> {
        match self {
            Self::Changed(value) | Self::Own(_, value) => Some(value),
            Self::Gone => None,
        }
    }
}

impl Overlay {
    /// Empty buckets in memory.
    #[must_use]
    pub fn over_nothing() -> Self {
        Self::default()
    }

    /// What is written stays here; what was not is read below.
    #[must_use]
    pub fn over(below: Arc<dyn Buckets>) -> Self {
        Self { below: Some(below), ..Self::default() }
    }

    /// Forgets all that was written.
    pub async fn forget(&self) {
        self.layers.lock().await.clear();
    }

    async fn value_below(&self, bucket: &Bucket, key: &str) -> Result<Option<Vec<u8>>, BucketError> {
        let Some(below) = &self.below else { return Ok(None) };
        Ok(below.read(bucket, std::slice::from_ref(&key.to_owned())).await?.into_iter().next().flatten())
    }

    /// What was changed of a bucket, begun with its size below.
    async fn layer<'l>(&self, layers: &'l mut HashMap<String, Layer>, bucket: &Bucket) -> Result<&'l mut Layer, BucketError> {
        let path = bucket.path();
        if !layers.contains_key(&path) {
            let size = match &self.below {
                Some(below) => below.size(bucket).await?,
                None => Size::default(),
            };
            layers.insert(path.clone(), Layer { size, ..Layer::default() });
        }
        Ok(layers.entry(path).or_default())
    }

    async fn write_now(&self, bucket: &Bucket, write: Write) -> Result<Written, BucketError> {
        let mut layers = self.layers.lock().await;
        let layer = self.layer(&mut layers, bucket).await?;
        // One at a time: together they may be more than one call answers with.
        let mut below = HashMap::new();
        for key in keys_of(&write) {
            if !layer.entries.contains_key(key) && !below.contains_key(key) {
                below.insert(key.to_owned(), self.value_below(bucket, key).await?);
            }
        }
        let current = |key: &str| match layer.entries.get(key) {
            Some(entry) => Ok::<_, BucketError>(entry.value().cloned()),
            None => Ok(below.get(key).cloned().flatten()),
        };
        let Plan { changes, written, size } = plan(bucket, layer.size, &write, current)??;
        for (key, value) in changes {
            layer.change(key, value, &below);
        }
        layer.size = size;
        Ok(written)
    }
}

impl Layer {
    fn change(&mut self, key: String, value: Option<Vec<u8>>, below: &HashMap<String, Option<Vec<u8>>>) {
        let is_below = below.get(&key).is_some_and(Option::is_some);
        let entry = match (self.entries.get(&key), value) {
            // Not remembered: what never was would take room that no bound counts.
            (None, None) if !is_below => return,
            (Some(Entry::Own(number, _)), None) => {
                self.order.remove(number);
                Entry::Gone
            }
            (_, None) => Entry::Gone,
            (Some(Entry::Own(number, _)), Some(value)) => Entry::Own(*number, value),
            (Some(Entry::Changed(_)), Some(value)) => Entry::Changed(value),
            (None, Some(value)) if is_below => Entry::Changed(value),
            (Some(Entry::Gone) | None, Some(value)) => {
                self.came += 1;
                let number = OWN_FROM + self.came;
                self.order.insert(number, key.clone());
                Entry::Own(number, value)
            }
        };
        self.entries.insert(key, entry);
    }

    /// At most so many of those that came here.
    fn own_page(&self, after: u64, room: usize) -> Page {
        let mut rest = self.order.range(after.saturating_add(1)..);
        let page: Vec<(u64, String)> = rest.by_ref().take(room).map(|(number, key)| (*number, key.clone())).collect();
        let last = page.last().map_or(after, |(number, _)| *number);
        let next = rest.next().map(|_| last);
        Page { keys: page.into_iter().map(|(_, key)| key).collect(), next }
    }
}

fn keys_of(write: &Write) -> Vec<&str> {
    match write {
        Write::Put(entries) => entries.iter().map(|(key, _)| key.as_str()).collect(),
        Write::Increment { key, .. } | Write::Swap { key, .. } => vec![key],
    }
}

impl Buckets for Overlay {
    fn read<'a>(&'a self, bucket: &'a Bucket, keys: &'a [String]) -> BoxFuture<'a, Result<Values, BucketError>> {
        Box::pin(async move {
            let layers = self.layers.lock().await;
            let layer = layers.get(&bucket.path());
            let (mut values, mut bytes) = (Vec::with_capacity(keys.len()), 0);
            for key in keys {
                let value = match layer.and_then(|layer| layer.entries.get(key)) {
                    Some(entry) => entry.value().cloned(),
                    None => self.value_below(bucket, key).await?,
                };
                bytes += value.as_ref().map_or(0, Vec::len);
                if bytes > ANSWER_MAX {
                    return Err(super::too_much());
                }
                values.push(value);
            }
            Ok(values)
        })
    }

    fn write<'a>(&'a self, bucket: &'a Bucket, write: Write) -> BoxFuture<'a, Result<Written, BucketError>> {
        Box::pin(self.write_now(bucket, write))
    }

    fn list<'a>(&'a self, bucket: &'a Bucket, after: u64) -> BoxFuture<'a, Result<Page, BucketError>> {
        Box::pin(async move {
            let layers = self.layers.lock().await;
            let layer = layers.get(&bucket.path());
            let own = |after, room| layer.map(|layer| layer.own_page(after, room)).unwrap_or_default();
            let Some(below) = self.below.as_ref().filter(|_| after < OWN_FROM) else { return Ok(own(after, BATCH_MAX)) };
            let Page { mut keys, next } = below.list(bucket, after).await?;
            let stands_below = |key: &String| {
                let entry = layer.and_then(|layer| layer.entries.get(key));
                matches!(entry, None | Some(Entry::Changed(_)))
            };
            keys.retain(stands_below);
            if next.is_some() {
                return Ok(Page { keys, next });
            }
            let own = own(OWN_FROM, BATCH_MAX - keys.len());
            keys.extend(own.keys);
            Ok(Page { keys, next: own.next })
        })
    }

    fn size<'a>(&'a self, bucket: &'a Bucket) -> BoxFuture<'a, Result<Size, BucketError>> {
        Box::pin(async move {
            let mut layers = self.layers.lock().await;
            Ok(self.layer(&mut layers, bucket).await?.size)
        })
    }
}
