//! The end of the stream, waited for on a connection of its own. What was asked for is taken to its end, whoever waits for it or not:
//! entries that the server gives us are leased from that moment.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::redis::{Cmd, Value, cmd};

use crate::redis::{Dedicated, Redis, RedisProblem};

type Running = Pin<Box<dyn Future<Output = (Dedicated, Result<Value, RedisProblem>)> + Send>>;

/// A blocking command that runs, or a connection that waits for one.
#[derive(Default)]
pub(super) struct Tail {
    idle: Option<Dedicated>,
    running: Option<Running>,
    /// The server's number of the connection, to end what blocks on it early.
    client: Option<i64>,
    /// When the running command was sent: what it answers is leased no earlier.
    pub(super) sent: Option<Instant>,
}

impl Tail {
    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Sends a command that blocks for at most `blocks`.
    pub(super) async fn start(&mut self, redis: &Arc<Redis>, command: Cmd, blocks: Duration) -> Result<(), RedisProblem> {
        let mut dedicated = match self.idle.take() {
            Some(dedicated) => dedicated,
            None => {
                let mut dedicated = redis.dedicated(blocks).await?;
                // Without the permission to ask for it, closing waits for what blocks.
                self.client = dedicated.query(redis, cmd("CLIENT").arg("ID")).await.ok();
                dedicated
            }
        };
        self.sent = Some(Instant::now());
        let redis = Arc::clone(redis);
        self.running = Some(Box::pin(async move {
            let answer = dedicated.query(&redis, &command).await;
            (dedicated, answer)
        }));
        Ok(())
    }

    /// Waits for the running command; for ever when there is none. Cancel-safe.
    pub(super) async fn finished(&mut self) -> Result<Value, RedisProblem> {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        let (dedicated, answer) = running.await;
        self.running = None;
        if answer.is_ok() {
            self.idle = Some(dedicated);
        }
        answer
    }

    /// Ends what blocks, and answers what it still brought.
    pub(super) async fn end(&mut self, redis: &Redis) -> Option<Value> {
        self.running.as_ref()?;
        if let Some(client) = self.client {
            let unblock: Result<Value, _> = redis.query(cmd("CLIENT").arg("UNBLOCK").arg(client)).await;
            // Where that is not allowed, it blocks a moment longer.
            drop(unblock);
        }
        self.finished().await.ok()
    }

    /// Lets go of the connection after a problem.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}
