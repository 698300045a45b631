//! How deliveries of a subscription end: FIN and REQ, by the connection that each came by.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;

use super::client::command;
use super::line::Feed;
use super::shared::Shared;
use super::subscription::{Subscription, Token};
use super::tries::{Note, behind, to_note};
use crate::clock;
use crate::queue::{Position, Settle, Settlement};

impl Subscription {
    /// Settles what is still ours; answers what comes too late.
    pub(super) async fn settle(&self, shared: &Shared, batch: &[Settlement]) -> Vec<Position> {
        let plan = self.inbox.hold().plan(batch, Instant::now(), Some(shared.young()));
        self.send(shared, plan.sent).await;
        plan.late
    }

    /// Sends settlements. The servers do not confirm them: what is lost with its connection comes again, and is known then.
    async fn send(&self, shared: &Shared, sent: Vec<(Settlement, Token)>) {
        let now = clock::now();
        let mut notes = Vec::new();
        for (settlement, token) in &sent {
            let (tries, due) = match settlement.settle {
                Settle::Ack => continue,
                Settle::Return => (behind(token.delivered, token.noted), None),
                Settle::Retry { due, tries } => (tries, Some(due).filter(|due| *due > now)),
            };
            if let Some(note) = to_note(token.delivered, tries, token.noted) {
                notes.push((token.position, Note { due, ..note }));
            }
            self.memory().note(token.position, Note { delivered: token.delivered, tries, due });
        }
        shared.write_notes(self, &notes).await;
        let mut written = Vec::new();
        for (feed, commands) in self.commands(shared, &sent) {
            if let Some(number) = feed.wire.put(|out| out.unsplit(commands)) {
                written.push((feed, number));
            }
        }
        for (feed, number) in written {
            // What can't be written is lost with its connection.
            let _ = feed.wire.written(number).await;
        }
        let acked = sent.iter().filter(|(settlement, token)| settlement.settle == Settle::Ack && token.delivered > 1);
        let acked: Vec<Position> = acked.map(|(_, token)| token.position).collect();
        shared.remove_notes(self, &acked).await;
    }

    /// The commands of each connection; what they settle is ours no longer, and their servers are told to send no more in its place.
    fn commands(&self, shared: &Shared, sent: &[(Settlement, Token)]) -> Vec<(Arc<Feed>, BytesMut)> {
        let mut commands: Vec<(Arc<Feed>, BytesMut)> = Vec::new();
        {
            let (mut hold, mut memory) = (self.inbox.hold(), self.memory());
            for (Settlement { position, settle }, _) in sent {
                // Settled twice at once, or come again by another connection meanwhile.
                let Some(token) = hold.get_mut(*position).map(|held| held.token.clone()) else { continue };
                hold.settled(*position);
                if *settle == Settle::Ack {
                    memory.ack(*position);
                }
                if !token.feed.wire.is_open() {
                    continue;
                }
                token.feed.left(1);
                let known = commands.iter().position(|(feed, _)| Arc::ptr_eq(feed, &token.feed));
                let at = known.unwrap_or_else(|| {
                    commands.push((Arc::clone(&token.feed), BytesMut::new()));
                    commands.len() - 1
                });
                let Some((_, out)) = commands.get_mut(at) else { continue };
                match settle {
                    Settle::Ack => command::fin(out, token.id),
                    Settle::Return => command::req(out, token.id, 0),
                    Settle::Retry { due, .. } => command::req(out, token.id, shared.request_millis(due.since(clock::now()))),
                }
            }
        }
        self.steer();
        commands
    }

    /// Gives back what `which` names, without a try.
    pub(super) async fn give_back(&self, shared: &Shared, which: impl Fn(&Token) -> bool) {
        let back = |position| Settlement { position, settle: Settle::Return };
        let held: Vec<(Settlement, Token)> = {
            let hold = self.inbox.hold();
            hold.iter().filter(|(_, held)| which(&held.token)).map(|(at, held)| (back(at), held.token.clone())).collect()
        };
        if !held.is_empty() {
            // Whoever pulls now must not get it.
            let positions: Vec<Position> = held.iter().map(|(settlement, _)| settlement.position).collect();
            self.inbox.hold().withdraw(|token| positions.contains(&token.position));
            self.send(shared, held).await;
        }
    }
}
