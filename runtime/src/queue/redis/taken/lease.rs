//! The heartbeat of a list or sorted set: renews what is held, tells what lapsed, writes notes, gives back what nobody asks for.

use std::sync::Arc;
use std::time::Instant;

use super::scripts;
use super::shared::{CALL_MAX, Shared, Token, id_of, positions};
use crate::queue::{Position, QueueError, Settle, Settlement};

/// Looks a lease, the only thing that can tell how old a lease is. It is renewed at a quarter of its time or soon after, so at the latest
/// at a third.
const TICKS: u32 = 12;

/// Beats until the task is dropped.
pub(super) async fn beat(shared: Arc<Shared>) {
    let mut unwanted_before = false;
    loop {
        let whole = tokio::select! {
            () = tokio::time::sleep(shared.lease / TICKS) => true,
            () = shared.noted.notified() => false,
        };
        // What fails is tried again with the next beat. A server that does not answer must not keep us from telling in time what lapses.
        let tended = tokio::time::timeout(shared.lease / TICKS * 2, tend(&shared, whole)).await;
        shared.say_trouble(tended.ok().and_then(Result::err).map(|error| error.to_string()));
        let (now, young) = (Instant::now(), shared.young());
        shared.inbox.lapse(|held| now.duration_since(held.renewed) > young);
        if whole {
            // Whoever pulls now and then comes again sooner.
            unwanted_before = give_back(&shared, unwanted_before).await;
        }
    }
}

async fn tend(shared: &Shared, whole: bool) -> Result<(), QueueError> {
    shared.ensure().await?;
    let renewed = if whole { renew(shared).await } else { Ok(()) };
    renewed.and(write_notes(shared).await)
}

async fn renew(shared: &Shared) -> Result<(), QueueError> {
    let (now, age) = (Instant::now(), shared.lease / 4);
    let old: Vec<Position> = {
        let hold = shared.inbox.hold();
        hold.iter().filter(|(_, held)| now.duration_since(held.renewed) >= age).map(|(position, _)| position).collect()
    };
    if old.is_empty() && shared.is_ordered() {
        // That we read is renewed too.
        let _: Vec<Vec<u8>> = shared.explained(shared.redis.script(&shared.call(&scripts::RENEW)).await).await?;
    }
    for some in old.chunks(CALL_MAX) {
        let asked = Instant::now();
        let mut call = shared.call(&scripts::RENEW);
        for position in some {
            call.arg(id_of(*position));
        }
        let gone: Vec<Vec<u8>> = shared.explained(shared.redis.script(&call).await).await?;
        let gone = positions(&gone);
        {
            let mut hold = shared.inbox.hold();
            for position in some.iter().filter(|position| !gone.contains(position)) {
                if let Some(held) = hold.get_mut(*position) {
                    held.renewed = asked;
                }
            }
        }
        if !gone.is_empty() {
            // What came again meanwhile is ours after all.
            shared.inbox.lapse(|held| held.renewed <= asked && gone.contains(&held.token.position));
        }
    }
    Ok(())
}

async fn write_notes(shared: &Shared) -> Result<(), QueueError> {
    let notes: Vec<Token> = {
        let hold = shared.inbox.hold();
        hold.iter().map(|(_, held)| held.token).filter(|token| token.known != token.told).collect()
    };
    for some in notes.chunks(CALL_MAX) {
        let mut call = shared.call(&scripts::NOTE);
        for token in some {
            call.arg(id_of(token.position)).arg(token.known);
        }
        let () = shared.explained(shared.redis.script(&call).await).await?;
        let mut hold = shared.inbox.hold();
        for token in some {
            if let Some(held) = hold.get_mut(token.position) {
                held.token.told = token.known;
            }
        }
    }
    Ok(())
}

/// Gives back what was taken for pulls that went away: others may have room. Whether there is such now.
async fn give_back(shared: &Shared, before: bool) -> bool {
    let unwanted = shared.inbox.hold().unwanted(before);
    if !before || unwanted.is_empty() {
        return !unwanted.is_empty();
    }
    let back: Vec<Settlement> = unwanted.into_iter().map(|position| Settlement { position, settle: Settle::Return }).collect();
    // What can't be given back now lapses.
    let _ = shared.settle(&back).await;
    false
}
