//! Buckets in the store: the face over `embedded/buckets.rs` and `keyvalue/redis.rs`.

use super::{Backend, Store, StoreError};
use crate::keyvalue::{Bucket, BucketError, Buckets, Page, Size, Values, Write, Written};
use crate::queue::BoxFuture;

impl From<StoreError> for BucketError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl Store {
    fn buckets(&self) -> &dyn Buckets {
        match &self.backend {
            Backend::Embedded(store) => store,
            #[cfg(feature = "redis")]
            Backend::Redis(store) => store.buckets(),
        }
    }
}

impl Buckets for Store {
    fn read<'a>(&'a self, bucket: &'a Bucket, keys: &'a [String]) -> BoxFuture<'a, Result<Values, BucketError>> {
        self.buckets().read(bucket, keys)
    }

    fn write<'a>(&'a self, bucket: &'a Bucket, write: Write) -> BoxFuture<'a, Result<Written, BucketError>> {
        self.buckets().write(bucket, write)
    }

    fn list<'a>(&'a self, bucket: &'a Bucket, after: u64) -> BoxFuture<'a, Result<Page, BucketError>> {
        self.buckets().list(bucket, after)
    }

    fn size<'a>(&'a self, bucket: &'a Bucket) -> BoxFuture<'a, Result<Size, BucketError>> {
        self.buckets().size(bucket)
    }
}
