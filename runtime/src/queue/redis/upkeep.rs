//! What a queue needs from time to time: its subscriptions after a new connection, delayed publishes that are due, trimming, and what
//! nobody asks for given back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::answer::score;
use super::publish::entry_id;
use super::scripts::{self, Asker};
use super::{Shared, lock};
use crate::clock::{self, Alarm, Timestamp};
use crate::queue::QueueError;

/// How often is looked for delayed publishes of other processes, and whether the server is there.
const LOOK: Duration = Duration::from_secs(1);

/// Delayed publishes of one call of the script, which holds up the server while it runs.
const MOVE_MAX: usize = 100;

/// How often what every group has passed is taken away, if something was acknowledged, and groups are tidied.
const TRIM: Duration = Duration::from_secs(10);

/// Entries that one call takes away, which holds up the server while it runs: some milliseconds.
const TRIM_MAX: usize = 10_000;

/// Such calls of one round: a hundred thousand events a second and more are kept up with.
const TRIM_CALLS: usize = 200;

/// How long a consumer that holds nothing was not seen before it is taken away. One that comes back is made again by the server.
const IDLE: Duration = Duration::from_secs(3_600);

/// How long what was read may wait for a pull, before it is given back: whoever pulls now and then comes again sooner.
const UNWANTED: Duration = Duration::from_secs(2);

/// Works until the task is dropped.
pub(super) async fn work(shared: Arc<Shared>) {
    let mut trimmed = Instant::now();
    let mut next = Alarm::new(None, LOOK);
    loop {
        tokio::select! {
            () = next.rung() => {}
            () = shared.delayed.notified() => {}
        }
        // What fails is tried again at the next look, and `health` says that the server is away.
        let done = round(&shared, &mut trimmed).await;
        *lock(&shared.trouble) = done.as_ref().err().map(ToString::to_string);
        next = Alarm::new(done.unwrap_or_default(), LOOK);
    }
}

/// What is due next, as far as it is known.
async fn round(shared: &Shared, trimmed: &mut Instant) -> Result<Option<Timestamp>, QueueError> {
    give_back(shared).await?;
    shared.ensure().await?;
    let next = move_due(shared).await?;
    if trimmed.elapsed() >= TRIM {
        *trimmed = Instant::now();
        tidy(shared).await?;
    }
    Ok(next)
}

/// Trims the stream, and tidies the groups that are read here.
pub(super) async fn tidy(shared: &Shared) -> Result<(), QueueError> {
    if shared.maxlen.is_none() && shared.to_trim.swap(false, Ordering::Relaxed) {
        for _ in 0..TRIM_CALLS {
            let mut call = scripts::TRIM.prepare_invoke();
            call.key(&shared.keys.stream).arg(TRIM_MAX);
            let removed: u64 = shared.explained(shared.redis.script(&call).await).await?;
            if removed == 0 {
                break;
            }
        }
    }
    for subscription in shared.subscriptions().into_iter().filter(|subscription| subscription.reading.load(Ordering::Relaxed)) {
        let after = lock(&subscription.swept).clone();
        let asker = Asker { fenced: false, ..subscription.asker(shared) };
        let mut call = asker.call(&scripts::SWEEP);
        call.arg(clock::millis(IDLE)).arg(clock::millis(shared.lease)).arg(clock::now().0).arg(after);
        let swept = shared.explained(shared.redis.script(&call).await).await?;
        *lock(&subscription.swept) = swept;
    }
    Ok(())
}

/// Adds what is due to the stream; when the next is due.
async fn move_due(shared: &Shared) -> Result<Option<Timestamp>, QueueError> {
    let mut call = scripts::MOVE.prepare_invoke();
    call.key(&shared.keys.delayed).key(&shared.keys.stream);
    call.arg(clock::now().0).arg(MOVE_MAX).arg(shared.maxlen.map(|maxlen| maxlen.to_string()).unwrap_or_default());
    call.arg(&*entry_id());
    let due: String = shared.explained(shared.redis.script(&call).await).await?;
    Ok(score(&due))
}

/// Gives back what was read for pulls that went away: others may have room.
async fn give_back(shared: &Shared) -> Result<(), QueueError> {
    for subscription in shared.subscriptions() {
        let (unwanted, back) = {
            let mut hold = subscription.hold();
            let unwanted = hold.unwanted(Instant::now(), UNWANTED);
            let back = hold.take_back(&unwanted);
            (unwanted, back)
        };
        if !back.is_empty()
            && let Err(error) = subscription.settle(shared, &back).await
        {
            subscription.hold().abandon(&unwanted);
            return Err(error);
        }
    }
    Ok(())
}
