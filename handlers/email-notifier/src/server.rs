//! The server, as what waits sees it: the real [`World`].

use std::cell::OnceCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use weir_sdk::email::{Error, Message};
use weir_sdk::keyvalue::{self, Bucket};
use weir_sdk::prelude::*;
use weir_sdk::publish;

use crate::waiting::Timer;
use crate::waiting::world::World;

/// The bucket that the grant has to name.
const BUCKET: &str = "digest";

/// See the module. The bucket is opened when something waits, or may.
#[derive(Debug, Default)]
pub(crate) struct Server(OnceCell<Bucket>);

impl Server {
    fn bucket(&self) -> Result<&Bucket> {
        if let Some(bucket) = self.0.get() {
            return Ok(bucket);
        }
        let bucket = keyvalue::open(BUCKET)?;
        Ok(self.0.get_or_init(|| bucket))
    }
}

/// The server's time, in milliseconds; one before 1970 is 1970.
pub(crate) fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millisecond(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)).unwrap_or(Timestamp::MAX)
}

impl World for Server {
    fn now(&self) -> Timestamp {
        timestamp(SystemTime::now())
    }

    fn get(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
        match keys {
            [key] => Ok(vec![self.bucket()?.get(key)?]),
            keys => Ok(self.bucket()?.get_many(keys)?),
        }
    }

    fn set(&self, key: &str, value: &[u8]) -> Result {
        Ok(self.bucket()?.set(key, value)?)
    }

    fn swap(&self, key: &str, before: Option<&[u8]>, after: &[u8]) -> Result<bool> {
        Ok(self.bucket()?.swap(key, before, after)?)
    }

    fn delete(&self, keys: &[String]) -> Result {
        match keys {
            [] => Ok(()),
            [key] => Ok(self.bucket()?.delete(key)?),
            keys => Ok(self.bucket()?.delete_many(keys)?),
        }
    }

    fn send(&self, rule: &str, message: Message) -> Result {
        let id = message.send().map_err(|error| {
            let what = match &error {
                Error::Denied(_) => "the mail is not granted",
                Error::Invalid(_) => "not a valid mail",
                Error::Rejected(_) => "the relay refused the mail",
                Error::Unavailable(_) => "the relay can't take the mail now",
            };
            Failure::from(error).context(format!("rule `{rule}`: {what}"))
        })?;
        log::info!("rule `{rule}`: sent {id}");
        Ok(())
    }

    fn publish(&self, id: String, timer: &Timer, due: Timestamp) -> Result {
        let due = UNIX_EPOCH + Duration::from_millis(u64::try_from(due.as_millisecond()).unwrap_or(0));
        publish::event(crate::TIMER).id(id).data(timer)?.at(due).to_self()?;
        Ok(())
    }
}
