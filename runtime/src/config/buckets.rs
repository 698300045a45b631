//! `[handler.*.grants] keyvalue`: the buckets of a handler. Nothing is connected to here, and no error repeats a password.

use std::ops::RangeInclusive;
use std::path::Path;

use super::BucketGrant;
use super::reader::Field;
use super::section::Section;
use super::values::{Form, NAME, is_name};
use crate::keyvalue::{BUCKET_BYTES, BUCKET_BYTES_MAX, ENTRY_BYTES, KEY_MAX, VALUE_MAX};
use crate::store::StoreUrl;

const KEYVALUE: Form = Form::new("a list of buckets", "such as `[{ bucket = \"digest\" }]`");
const BUCKET: Form =
    Form::new("the name of a bucket", "of lower-case letters, digits and `-`, a letter first, at most 40 in all");
const URL: Form =
    Form::new("the URL of a server for buckets", "such as `redis://127.0.0.1:6379/1`; without one they are in the store");

/// At least one entry of the largest size fits.
const MAX_SIZE: RangeInclusive<u64> = VALUE_MAX as u64 + KEY_MAX as u64 + ENTRY_BYTES..=BUCKET_BYTES_MAX;

pub(super) fn read(section: &mut Section<'_, '_>) -> Vec<BucketGrant> {
    let Some(field) = section.take("keyvalue") else { return Vec::new() };
    let pattern = section.below("keyvalue");
    let Some(items) = section.reader.list(&field, &KEYVALUE) else { return Vec::new() };
    if items.is_empty() {
        let note = "without a bucket nothing can be kept: take the grant out instead".to_owned();
        section.reader.refuse(&field, format!("`{}` is an empty list", field.key), KEYVALUE.expected(), Some(note));
    }
    let mut grants: Vec<BucketGrant> = Vec::new();
    for item in items {
        let whole = Field { key: item.key.clone(), name: item.node.place.clone(), node: item.node.clone() };
        let Some(grant) = section.descend(whole, pattern.clone(), bucket) else { continue };
        if grants.iter().any(|known| known.bucket == grant.bucket) {
            let message = format!("`{}` names bucket `{}` twice", item.key, grant.bucket);
            section.reader.refuse(&item, message, "each bucket once".to_owned(), None);
        } else {
            grants.push(grant);
        }
    }
    grants
}

fn bucket(section: &mut Section<'_, '_>) -> Option<BucketGrant> {
    let bucket = match section.take("bucket") {
        Some(field) => section.reader.parse(&field, &BUCKET, name),
        None => {
            section.missing("bucket", &NAME);
            None
        }
    };
    let url = match section.take("url") {
        Some(field) => {
            let base = section.reader.base(&field);
            Some(section.reader.parse(&field, &URL, |text| url(text, &base)))
        }
        None => None,
    };
    let max_size = section.size("max-size", MAX_SIZE).unwrap_or(BUCKET_BYTES);
    // Without a URL that was written, and is wrong, it would be another bucket.
    let url = match url {
        Some(url) => Some(url?),
        None => None,
    };
    Some(BucketGrant { bucket: bucket?, url, max_size })
}

fn name(text: &str) -> Result<String, String> {
    if is_name(text) { Ok(text.to_owned()) } else { Err(String::new()) }
}

fn url(text: &str, base: &Path) -> Result<StoreUrl, String> {
    match StoreUrl::parse(text, base)? {
        StoreUrl::Disk => Err("buckets on disk are in the store: leave `url` out".to_owned()),
        #[cfg(feature = "redis")]
        url @ StoreUrl::Redis(_) => Ok(url),
    }
}
