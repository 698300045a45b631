//! What a broker says no with, in words: whether it is worth asking again, and what to do. Pure.

use rumqttc::v5::mqttbytes::Error;
use rumqttc::v5::mqttbytes::v5::{ConnAck, ConnectReturnCode, DisconnectReasonCode, PubAckReason, SubscribeReasonCode};
use rumqttc::v5::{ConnectionError, StateError};

use crate::queue::QueueError;

/// Why a connection can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// It may come by itself.
    Away(String),
    /// Somebody has to change something.
    Refused(String),
}

impl Problem {
    /// Behind the URL of its queue.
    pub(super) fn of(self, url: &impl std::fmt::Display) -> Self {
        match self {
            Self::Away(text) => Self::Away(format!("`{url}`: {text}")),
            Self::Refused(text) => Self::Refused(format!("`{url}`: {text}")),
        }
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Self::Away(text) | Self::Refused(text) => text,
        }
    }
}

impl From<Problem> for QueueError {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Away(text) => Self::Unavailable(text),
            Problem::Refused(text) => Self::Invalid(text),
        }
    }
}

/// Why a connection ended or was not made.
pub(super) fn of_connection(error: &ConnectionError) -> Problem {
    match error {
        ConnectionError::ConnectionRefused(code) => of_connect(*code),
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, reason_string }) => {
            of_disconnect(*reason_code, reason_string.as_deref())
        }
        ConnectionError::MqttState(StateError::AwaitPingResp) => Problem::Away("the broker does not answer".to_owned()),
        ConnectionError::MqttState(StateError::ConnectionAborted) => Problem::Away("the broker closed the connection".to_owned()),
        ConnectionError::MqttState(StateError::Deserialization(Error::Io(error))) => {
            Problem::Away(format!("no connection: {error}"))
        }
        ConnectionError::MqttState(StateError::Deserialization(error)) => {
            Problem::Away(format!("what answers can't be understood: {error} [is it an MQTT 5 broker?]"))
        }
        ConnectionError::NotConnAck(_) => Problem::Refused("what answers is no MQTT broker".to_owned()),
        ConnectionError::Timeout(_) => Problem::Away("the broker does not answer in time".to_owned()),
        ConnectionError::Tls(error) => Problem::Away(format!("no TLS: {error}")),
        ConnectionError::Io(error) => Problem::Away(format!("no connection: {error}")),
        other => Problem::Away(other.to_string()),
    }
}

fn of_connect(code: ConnectReturnCode) -> Problem {
    use ConnectReturnCode as Code;
    let text = match code {
        Code::BadUserNamePassword => "the broker refuses user and password [check the login in the URL]",
        Code::NotAuthorized => {
            "the broker does not let us in: not authorised [check the login in the URL, or allow this client there]"
        }
        Code::Banned => "the broker has banned this client",
        Code::BadAuthenticationMethod => "the broker wants another kind of login than user and password",
        Code::UnsupportedProtocolVersion | Code::RefusedProtocolVersion => {
            "the broker does not speak MQTT 5 [Mosquitto from 1.6, RabbitMQ from 3.13 do]"
        }
        Code::ClientIdentifierNotValid | Code::BadClientId => {
            "the broker refuses our client id [it has to take letters, digits, `-` and `.`, more than 23 of them]"
        }
        other => return Problem::Away(format!("the broker refuses the connection: {other:?}")),
    };
    Problem::Refused(text.to_owned())
}

fn of_disconnect(code: DisconnectReasonCode, said: Option<&str>) -> Problem {
    let said = said.map(|said| format!(" ({})", said.escape_debug())).unwrap_or_default();
    match code {
        DisconnectReasonCode::NotAuthorized => {
            Problem::Refused(format!("the broker ended the connection: not authorised{said} [allow this client there]"))
        }
        DisconnectReasonCode::SessionTakenOver => Problem::Away(format!("another process took our session over{said} {TAKEN}")),
        DisconnectReasonCode::ServerShuttingDown => Problem::Away("the broker is stopping".to_owned()),
        other => Problem::Away(format!("the broker ended the connection: {other:?}{said}")),
    }
}

/// The connection is made anew to get what found no room.
pub(super) const SENT_AGAIN: &str = "the broker sent more than it was asked for, and has to send it again";

/// What to do when two processes have one name.
pub(super) const TAKEN: &str = "[processes that share a queue need a `[server] name` each]";

/// What a broker can't do that we need; none: it fits.
pub(super) fn of_abilities(connack: &ConnAck, wildcards: bool) -> Option<Problem> {
    let properties = connack.properties.as_ref()?;
    let lacks = if properties.max_qos == Some(0) {
        "does not acknowledge messages (its maximum QoS is 0)"
    } else if properties.shared_subscription_available == Some(0) {
        "has no shared subscriptions"
    } else if wildcards && properties.wildcard_subscription_available == Some(0) {
        "has no subscriptions with wildcards"
    } else {
        return None;
    };
    Some(Problem::Refused(format!("the broker {lacks} [allow them there]")))
}

/// What a subscription was refused for; none: it was made.
pub(super) fn of_subscription(code: SubscribeReasonCode, filter: &str) -> Option<Problem> {
    use SubscribeReasonCode as Code;
    let text = match code {
        Code::Success(rumqttc::v5::mqttbytes::QoS::AtMostOnce) => {
            format!("the broker grants only QoS 0 to `{filter}`: messages would be lost [allow QoS 1 there]")
        }
        Code::Success(_) => return None,
        Code::NotAuthorized => format!("we may not subscribe to `{filter}` [allow this login to read it]"),
        Code::SharedSubscriptionsNotSupported => "the broker has no shared subscriptions [allow them there]".to_owned(),
        Code::WildcardSubscriptionsNotSupported => {
            "the broker has no subscriptions with wildcards [name one topic, or allow them there]".to_owned()
        }
        Code::TopicFilterInvalid => format!("the broker does not know filters such as `{filter}`"),
        other => return Some(Problem::Away(format!("subscribing to `{filter}` failed: {other:?}"))),
    };
    Some(Problem::Refused(text))
}

/// What a publish was refused for; none: the broker has it.
pub(super) fn of_publish(reason: PubAckReason, topic: &str, drop_unread: bool) -> Option<Problem> {
    let text = match reason {
        PubAckReason::Success => return None,
        PubAckReason::NoMatchingSubscribers if drop_unread => return None,
        PubAckReason::NoMatchingSubscribers => {
            let nobody = "the broker dropped the message, nobody subscribes to";
            return Some(Problem::Away(format!("{nobody} `{topic}` [start what reads it first, or add `unread=drop`]")));
        }
        PubAckReason::NotAuthorized => format!("we may not publish to `{topic}` [allow this login to write it]"),
        PubAckReason::TopicNameInvalid => format!("the broker does not take `{topic}` as a topic"),
        PubAckReason::QuotaExceeded => return Some(Problem::Away("the broker is full (quota exceeded)".to_owned())),
        other => return Some(Problem::Away(format!("the broker did not take the message: {other:?}"))),
    };
    Some(Problem::Refused(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_has_to_change_is_told_from_what_may_come() {
        let refused = |code| matches!(of_connect(code), Problem::Refused(_));
        for (code, expected) in [
            (ConnectReturnCode::BadUserNamePassword, true),
            (ConnectReturnCode::NotAuthorized, true),
            (ConnectReturnCode::UnsupportedProtocolVersion, true),
            (ConnectReturnCode::ServerBusy, false),
            (ConnectReturnCode::ServerUnavailable, false),
        ] {
            assert_eq!(refused(code), expected, "{code:?}");
        }
        let publish = |reason, drop_unread| of_publish(reason, "a", drop_unread);
        assert_eq!(publish(PubAckReason::NoMatchingSubscribers, true), None);
        assert!(matches!(publish(PubAckReason::NoMatchingSubscribers, false), Some(Problem::Away(_))));
        assert!(matches!(publish(PubAckReason::NotAuthorized, true), Some(Problem::Refused(_))));
    }

    #[test]
    fn what_a_broker_lacks_is_named() {
        let mut connack = ConnAck { session_present: false, code: ConnectReturnCode::Success, properties: None };
        assert_eq!(of_abilities(&connack, true), None);
        let lacking = rumqttc::v5::mqttbytes::v5::ConnAckProperties {
            wildcard_subscription_available: Some(0),
            session_expiry_interval: None,
            receive_max: None,
            max_qos: None,
            retain_available: None,
            max_packet_size: None,
            assigned_client_identifier: None,
            topic_alias_max: None,
            reason_string: None,
            user_properties: Vec::new(),
            subscription_identifiers_available: None,
            shared_subscription_available: None,
            server_keep_alive: None,
            response_information: None,
            server_reference: None,
            authentication_method: None,
            authentication_data: None,
        };
        connack.properties = Some(lacking);
        assert_eq!(of_abilities(&connack, false), None);
        assert!(of_abilities(&connack, true).is_some_and(|problem| problem.text().contains("wildcards")));
    }
}
