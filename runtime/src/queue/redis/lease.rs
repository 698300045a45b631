//! The heartbeat of a queue: renews what is held, tells what lapsed, keeps the lead of ordered groups, writes notes.

use std::sync::Arc;
use std::time::Instant;

use super::Shared;
use super::answer::{id, pack, positions};
use super::scripts::{self, Asker};
use super::subscription::Subscription;
use crate::clock;
use crate::queue::QueueError;

/// Leases of one call of the script, which holds up the server while it runs: about a millisecond.
const RENEW_MAX: usize = 500;

/// Looks a lease, the only thing that can tell how old a lease is. It is renewed at a quarter of its time or soon after, so at the latest
/// at a third.
const TICKS: u32 = 12;

/// Beats until the task is dropped.
pub(super) async fn beat(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(shared.lease / TICKS) => {}
            () = shared.noted.notified() => {}
        }
        for subscription in shared.subscriptions() {
            // What fails is tried again with the next beat; whoever asks for something else says that the server is away. A server that
            // does not answer must not keep us from telling in time what lapses.
            let _ = tokio::time::timeout(shared.lease / TICKS * 2, tend(&shared, &subscription)).await;
            lapse(&shared);
        }
        lapse(&shared);
    }
}

/// Tells what could not be renewed in time.
fn lapse(shared: &Shared) {
    for subscription in shared.subscriptions() {
        let lapsed = subscription.hold().lapse_old(Instant::now(), shared.young());
        if lapsed {
            subscription.lapsing.notify_waiters();
        }
    }
}

async fn tend(shared: &Shared, subscription: &Subscription) -> Result<(), QueueError> {
    let led = keep_lead(shared, subscription).await;
    let renewed = renew(shared, subscription).await;
    let noted = write_notes(shared, subscription).await;
    led.and(renewed).and(noted)
}

/// Renews what is due, and gives back what was stopped when it could not be.
async fn renew(shared: &Shared, subscription: &Subscription) -> Result<(), QueueError> {
    let age = shared.lease / 4;
    let old = subscription.hold().to_renew(Instant::now(), age);
    let asker = Asker { fenced: false, ..subscription.asker(shared) };
    for some in old.chunks(RENEW_MAX) {
        let asked = Instant::now();
        let mut call = asker.call(&scripts::RENEW);
        for position in some {
            call.arg(id(*position));
        }
        let gone: Vec<Vec<u8>> = shared.explained(shared.redis.script(&call).await).await?;
        let gone = positions(&gone);
        subscription.hold().renewed(some, &gone, asked);
        if !gone.is_empty() {
            subscription.lapsing.notify_waiters();
        }
    }
    let stopped = subscription.hold().take_stopped(Instant::now(), shared.lease);
    if !stopped.is_empty() {
        subscription.check(shared, &stopped).await?;
    }
    Ok(())
}

async fn write_notes(shared: &Shared, subscription: &Subscription) -> Result<(), QueueError> {
    let notes = {
        let mut hold = subscription.hold();
        hold.note_unbegun(Instant::now(), shared.lease / TICKS);
        hold.notes()
    };
    let asker = Asker { fenced: false, ..subscription.asker(shared) };
    for some in notes.chunks(RENEW_MAX) {
        let mut call = asker.call(&scripts::NOTE);
        for (position, tries) in some {
            call.arg(id(*position)).arg(tries.failed).arg(pack(*tries));
        }
        // What fails, or is not answered in time, is written with the next beat.
        let () = shared.explained(shared.redis.script(&call).await).await?;
        subscription.hold().wrote(some);
    }
    Ok(())
}

/// Stays the one reader of an ordered group, or finds out that it is not.
async fn keep_lead(shared: &Shared, subscription: &Subscription) -> Result<(), QueueError> {
    let Some(since) = subscription.hold().leads_since else { return Ok(()) };
    let age = since.elapsed();
    if age >= shared.young() {
        shared.lost_lead(subscription);
        return Ok(());
    }
    if age < shared.lease / 4 {
        return Ok(());
    }
    let asked = Instant::now();
    let mut call = subscription.asker(shared).call(&scripts::LEAD);
    call.arg(clock::millis(shared.lease));
    let answer: String = shared.explained(shared.redis.script(&call).await).await?;
    match answer.as_str() {
        "kept" => subscription.hold().leads_since = Some(asked),
        // Even when nobody else had it meanwhile: another may have been the reader and have left.
        _ => shared.lost_lead(subscription),
    }
    Ok(())
}
