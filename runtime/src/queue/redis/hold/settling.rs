//! What a batch of settlements asks of the server. Pure.

use std::time::{Duration, Instant};

use super::Hold;
use super::lease::Lease;
use crate::queue::{Position, Settle, Settlement, Tries};

/// What has to be done for a batch of settlements.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Plan {
    /// Acks whose lease is young: nobody else can have them.
    pub(in super::super) acks: Vec<Position>,
    /// Those of `acks` whose tries may stand on the server.
    pub(in super::super) kept: Vec<Position>,
    /// What has to be looked at first.
    pub(in super::super) checked: Vec<Checked>,
    /// What had lapsed.
    pub(in super::super) late: Vec<Position>,
    /// The leases that it settles.
    leases: Vec<(Position, u64)>,
}

/// A settlement of a lease that may not be ours any more, or that changes more than an ack does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Checked {
    pub(in super::super) position: Position,
    pub(in super::super) settle: Settle,
    /// What is kept of its tries; none: what stands there.
    pub(in super::super) tries: Option<Tries>,
}

impl Hold {
    /// Begins to settle; `young` is the age up to which a lease is certainly ours.
    pub(in super::super) fn begin_settle(&mut self, batch: &[Settlement], now: Instant, young: Duration) -> Plan {
        let mut plan = Plan::default();
        let is_young = |lease: &Lease| !lease.is_old(now, young);
        let is_plain = |Settlement { position, settle }: &Settlement| {
            *settle == Settle::Ack && self.leases.get(position).is_none_or(is_young)
        };
        // In order, all by one way: two of them, of which one may fail, would end a later event before an earlier one.
        let checks_all = self.in_order && !batch.iter().all(is_plain);
        for Settlement { position, settle } in batch {
            let Some(lease) = self.leases.get_mut(position) else {
                // Its tries are kept: it comes again, and may have a dead letter.
                if self.late.contains_key(position) {
                    plan.late.push(*position);
                }
                continue;
            };
            if std::mem::replace(&mut lease.settling, true) {
                continue;
            }
            (lease.asked, lease.ends) = (true, *settle == Settle::Ack);
            plan.leases.push((*position, lease.number));
            if !checks_all && *settle == Settle::Ack && is_young(lease) {
                plan.acks.push(*position);
                if lease.kept {
                    plan.kept.push(*position);
                }
            } else {
                plan.checked.push(Checked { position: *position, settle: *settle, tries: lease.keeps(*settle) });
            }
        }
        plan
    }

    /// The settlements stand; or, with `acks_only`, the acks, while it is not known of the others.
    pub(in super::super) fn settled(&mut self, plan: &Plan, acks_only: bool) {
        for (position, number) in &plan.leases {
            let is_it = self.leases.get(position).is_some_and(|lease| lease.number == *number);
            if is_it && (!acks_only || plan.acks.contains(position)) {
                self.leases.remove(position);
            }
        }
    }

    /// It is not known whether it stands: what is still ours stays so.
    pub(in super::super) fn unsettled(&mut self, plan: &Plan) {
        for (position, number) in &plan.leases {
            if let Some(lease) = self.leases.get_mut(position).filter(|lease| lease.number == *number) {
                lease.settling = false;
            }
        }
    }
}
