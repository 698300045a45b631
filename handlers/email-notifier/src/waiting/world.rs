//! What a run reaches: the bucket, mail, timers, the clock. A trait, because the tests of this module stop a run between any two calls,
//! and let others run there, which no server does on demand.

use jiff::Timestamp;
use weir_sdk::email::Message;
use weir_sdk::prelude::*;

/// Most times that a change of one key is tried again because somebody else changed it meanwhile. Each time somebody got on, and the
/// handler's concurrency bounds how many there are; with a list of a thousand it takes half the fuel that an event has by default.
const SWAPS_MAX: usize = 200;

/// See the module.
pub(crate) trait World {
    /// What time it is.
    fn now(&self) -> Timestamp;
    /// The values of these keys, in their order.
    fn get(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>>;
    /// Writes a key.
    fn set(&self, key: &str, value: &[u8]) -> Result;
    /// Writes a key if its value is still `before`; whether it was.
    fn swap(&self, key: &str, before: Option<&[u8]>, after: &[u8]) -> Result<bool>;
    /// Deletes keys; missing ones too.
    fn delete(&self, keys: &[String]) -> Result;
    /// Hands a mail over.
    fn send(&self, rule: &str, message: Message) -> Result;
    /// Publishes a timer to this handler; it leaves when the run has answered ok.
    fn publish(&self, id: String, timer: &super::Timer, due: Timestamp) -> Result;
}

/// The value of one key.
pub(crate) fn get(world: &dyn World, key: &str) -> Result<Option<Vec<u8>>> {
    Ok(world.get(&[key.to_owned()])?.pop().flatten())
}

/// Changes the value of a key, whoever else changes it. `change` gives the new value, or none to leave it, and an answer; it is called
/// again with what another one wrote.
pub(crate) fn update<T>(
    world: &dyn World,
    key: &str,
    mut change: impl FnMut(Option<&[u8]>) -> Result<(Option<Vec<u8>>, T)>,
) -> Result<T> {
    for _ in 0..SWAPS_MAX {
        let before = get(world, key)?;
        let (after, answer) = change(before.as_deref())?;
        let Some(after) = after else { return Ok(answer) };
        if world.swap(key, before.as_deref(), &after)? {
            return Ok(answer);
        }
    }
    Err(retry(format!("the bucket's key `{key}` was changed by others {SWAPS_MAX} times in a row")))
}
