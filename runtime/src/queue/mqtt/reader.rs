//! The connection of a subscription: it subscribes, and takes in what comes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnAck, Filter, RetainForwardRule};
use rumqttc::v5::{AsyncClient, Incoming};

use super::link::Role;
use super::problem::{self, Problem, SENT_AGAIN};
use super::shared::Shared;
use super::subscription::Subscription;

/// Requests beside acknowledgements that may wait for the client: subscribing, what is retained, the good-bye.
pub(super) const REQUESTS_MAX: usize = 8;

/// The task's side of a subscription.
pub(super) struct Reader {
    shared: Arc<Shared>,
    subscription: Arc<Subscription>,
    subscribed: bool,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, subscription: Arc<Subscription>) -> Self {
        Self { shared, subscription, subscribed: false }
    }

    /// Subscribes. Whatever was subscribed before is there already, and taken as it is.
    fn subscribe(&self, client: &AsyncClient, session_present: bool) -> Result<(), Problem> {
        let busy = |error: &dyn std::fmt::Display| Problem::Away(format!("subscribing failed: {error}"));
        let filter = |path: &str, retained| Filter { retain_forward_rule: retained, ..Filter::new(path, QoS::AtLeastOnce) };
        // Some brokers would send what is retained to a shared subscription too, others never do: it is asked for apart.
        let shared = filter(&self.subscription.shared_filter, RetainForwardRule::Never);
        client.try_subscribe_many([shared]).map_err(|error| busy(&error))?;
        if self.shared.url.take_retained && !session_present {
            let all = filter(&self.shared.url.filter, RetainForwardRule::OnEverySubscribe);
            client.try_subscribe_many([all]).map_err(|error| busy(&error))?;
            client.try_unsubscribe(&*self.shared.url.filter).map_err(|error| busy(&error))?;
        }
        Ok(())
    }
}

impl Role for Reader {
    fn connected(&mut self, client: AsyncClient, connack: &ConnAck) -> Result<bool, Problem> {
        self.subscribed = false;
        if let Some(problem) = problem::of_abilities(connack, self.shared.url.has_wildcards()) {
            return Err(problem);
        }
        if !connack.session_present && !self.subscription.made.load(Ordering::Relaxed) {
            let unknown = crate::queue::not_subscribed(&self.shared.name, &self.subscription.name);
            return Err(Problem::Refused(unknown.to_string()));
        }
        let granted = connack.properties.as_ref().and_then(|properties| properties.session_expiry_interval);
        if let Some(granted) = granted.filter(|granted| u64::from(*granted) < self.shared.url.session.as_secs()) {
            let (queue, seconds) = (&*self.shared.name, granted);
            tracing::warn!(queue, seconds, "the broker keeps what waits for a process that is away for less than `session` says");
        }
        self.subscription.begin(client.clone(), connack.session_present);
        self.subscribe(&client, connack.session_present)?;
        Ok(false)
    }

    fn came(&mut self, packet: Incoming) -> Result<bool, Problem> {
        match packet {
            Incoming::Publish(message) => {
                let skip_retained = !self.shared.url.take_retained;
                let taken = self.subscription.take_in(&self.shared.wrapping, &message, skip_retained);
                taken.map_err(|error| Problem::Away(error.to_string()))?;
                Ok(false)
            }
            Incoming::SubAck(suback) => {
                // They are answered in order; the second one is about what is retained.
                let filter = if self.subscribed { &self.shared.url.filter } else { &self.subscription.shared_filter };
                let refused = suback.return_codes.iter().find_map(|code| problem::of_subscription(*code, filter));
                match refused {
                    Some(problem) => Err(problem),
                    None => Ok(!std::mem::replace(&mut self.subscribed, true)),
                }
            }
            // Also for what had no acknowledgement.
            _ if self.subscription.has_room_again() => Err(Problem::Away(SENT_AGAIN.to_owned())),
            _ => Ok(false),
        }
    }

    fn left(&mut self, packet: &Outgoing) -> Result<(), Problem> {
        if let Outgoing::PubAck(_) = packet {
            self.subscription.ack_left();
            if self.subscription.has_room_again() {
                return Err(Problem::Away(SENT_AGAIN.to_owned()));
            }
        }
        Ok(())
    }

    fn lost(&mut self, problem: &Problem) {
        self.subscription.lose();
        if !self.subscription.inbox.ended.is_cancelled() {
            self.subscription.inbox.fail(problem.clone().into());
        }
    }
}
