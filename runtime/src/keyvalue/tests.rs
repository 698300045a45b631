//! What every place of buckets has to keep.
