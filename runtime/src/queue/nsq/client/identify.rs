//! What both sides say of themselves when a connection begins. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::millis;

/// The longest that a message may be held, unless the server says otherwise.
pub(in crate::queue::nsq) const HOLD: Duration = Duration::from_secs(15 * 60);

/// Bounds on the interval of heartbeats: the server takes nothing below, and above a cut connection is found late.
const HEARTBEATS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// How long a server may keep back a message to send others with it: the least that servers allow by default. Their own default of 250 ms
/// is how long a lone event would wait.
const OUTPUT_BUFFER_MILLIS: u64 = 25;

/// What we ask for.
#[derive(Debug, Serialize)]
pub(in crate::queue::nsq) struct Identify<'a> {
    client_id: &'a str,
    hostname: &'a str,
    user_agent: &'static str,
    feature_negotiation: bool,
    heartbeat_interval: u64,
    output_buffer_timeout: u64,
    msg_timeout: u64,
    tls_v1: bool,
    snappy: bool,
    deflate: bool,
}

impl<'a> Identify<'a> {
    /// For a connection of this process, whose messages are leased for so long.
    pub(in crate::queue::nsq) fn new(process: &'a str, lease: Duration, tls: bool) -> Self {
        Self {
            client_id: process,
            hostname: process,
            user_agent: concat!("weir/", env!("CARGO_PKG_VERSION")),
            feature_negotiation: true,
            heartbeat_interval: millis(heartbeat(lease)),
            output_buffer_timeout: OUTPUT_BUFFER_MILLIS,
            msg_timeout: millis(lease),
            tls_v1: tls,
            snappy: false,
            deflate: false,
        }
    }
}

/// What a server answers; older ones leave some of it out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(in crate::queue::nsq) struct Negotiated {
    /// The largest RDY.
    pub(in crate::queue::nsq) max_rdy_count: usize,
    /// The longest that a message can be held, by TOUCH: milliseconds.
    pub(in crate::queue::nsq) max_msg_timeout: u64,
    /// Whether the connection is secured from here on.
    pub(in crate::queue::nsq) tls_v1: bool,
    /// Whether a secret is asked for.
    pub(in crate::queue::nsq) auth_required: bool,
}

impl Default for Negotiated {
    fn default() -> Self {
        Self { max_rdy_count: 2_500, max_msg_timeout: millis(HOLD), tls_v1: false, auth_required: false }
    }
}

/// How often a server asks whether we are there: so that a connection that is cut silently is known to be before half a lease has passed.
pub(in crate::queue::nsq) fn heartbeat(lease: Duration) -> Duration {
    (lease / 4).clamp(HEARTBEATS.0, HEARTBEATS.1)
}

/// How long nothing may be heard of a server until its connection counts as cut.
pub(in crate::queue::nsq) fn silence(lease: Duration) -> Duration {
    let heartbeat = heartbeat(lease);
    (heartbeat + lease / 4).min(heartbeat * 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_known_before_the_lease_is_over() {
        for (lease, beats, silent) in
            [(2_000, 1_000, 1_500), (4_000, 1_000, 2_000), (30_000, 7_500, 15_000), (3_600_000, 30_000, 60_000)]
        {
            let lease = Duration::from_millis(lease);
            assert_eq!((millis(heartbeat(lease)), millis(silence(lease))), (beats, silent), "{lease:?}");
            assert!(silence(lease) < lease);
        }
    }

    #[test]
    fn both_sides_are_understood() {
        let asked = serde_json::to_value(Identify::new("p", Duration::from_secs(30), true)).unwrap();
        assert_eq!(
            (&asked["msg_timeout"], &asked["tls_v1"], &asked["feature_negotiation"]),
            (&30_000.into(), &true.into(), &true.into())
        );
        let answer = br#"{"max_rdy_count":2500,"version":"1.3.0","max_msg_timeout":2000,"msg_timeout":1000,"tls_v1":false,"deflate":false,"auth_required":true}"#;
        let found: Negotiated = serde_json::from_slice(answer).unwrap();
        assert_eq!(found, Negotiated { max_msg_timeout: 2_000, auth_required: true, ..Negotiated::default() });
        assert_eq!(serde_json::from_str::<Negotiated>("{}").unwrap().max_msg_timeout, 900_000);
    }
}
