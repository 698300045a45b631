//! Publishing: one command for an event, a transaction for a batch. Nothing is repeated: after a lost connection it is not known
//! whether a batch was taken.

use std::borrow::Cow;

use ::redis::{Cmd, Pipeline, cmd};

use super::Shared;
use crate::clock;
use crate::event::json;
use crate::queue::{Publish, QueueError};

impl Shared {
    /// Adds a batch, all or none; answers when the server has it.
    pub(super) async fn publish(&self, batch: &[Publish]) -> Result<(), QueueError> {
        if self.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        self.ensure().await?;
        let now = clock::now();
        let answer = match batch {
            [] => Ok(()),
            [one] => self.redis.query(&self.command(one, now)).await,
            many => {
                let mut commands = Pipeline::with_capacity(many.len());
                commands.atomic();
                for one in many {
                    commands.add_command(self.command(one, now)).ignore();
                }
                self.redis.pipeline(&commands).await
            }
        };
        self.explained(answer).await?;
        if batch.iter().any(|publish| publish.due.is_some_and(|due| due > now)) {
            self.delayed.notify_one();
        }
        Ok(())
    }

    fn command(&self, publish: &Publish, now: clock::Timestamp) -> Cmd {
        let event = json::write(&publish.event);
        match publish.due.filter(|due| *due > now) {
            Some(due) => {
                // Two equal events are two; equal times keep their order.
                let mut member = clock::id().as_bytes().to_vec();
                member.extend_from_slice(&event);
                let mut add = cmd("ZADD");
                add.arg(&self.keys.delayed).arg(due.0).arg(member);
                add
            }
            None => {
                let mut add = Cmd::with_capacity(8, event.len() + 64);
                add.arg("XADD").arg(&self.keys.stream);
                if let Some(maxlen) = self.maxlen {
                    add.arg("MAXLEN").arg("~").arg(maxlen);
                }
                add.arg(&*entry_id()).arg("event").arg(event);
                add
            }
        }
    }
}

/// The id that an entry gets. Its time is the server's, as the age of an event is; a test's clock stands for that too.
pub(super) fn entry_id() -> Cow<'static, str> {
    clock::given().map_or(Cow::Borrowed("*"), |time| format!("{}-*", time.0).into())
}
