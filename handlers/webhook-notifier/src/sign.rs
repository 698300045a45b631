//! Signatures as Standard Webhooks describes them: HMAC-SHA256 over id, time and body, once for each key.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// Bytes of the shortest key: a shorter one can be tried out.
const KEY_BYTES_MIN: usize = 16;

/// Most keys at once: the new one and the old, and some to spare. Each is a signature of 48 bytes in every request.
const KEYS_MAX: usize = 5;

/// What a key in base64 begins with.
const PREFIX: &str = "whsec_";

/// The keys that a message is signed with.
pub(crate) struct Keys(Vec<Vec<u8>>);

impl Keys {
    /// Reads keys with white space between them: `whsec_` and base64, or any other text as it is.
    ///
    /// # Errors
    /// Which one is wrong; never the key.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let keys = text.split_whitespace().enumerate().map(|(at, key)| {
            let number = at + 1;
            let bytes = match key.strip_prefix(PREFIX) {
                None => key.as_bytes().to_vec(),
                Some(encoded) => decode(encoded).ok_or_else(|| format!("key {number} is no base64 after `{PREFIX}`"))?,
            };
            if bytes.len() < KEY_BYTES_MIN {
                return Err(format!("key {number} has {} bytes, expected at least {KEY_BYTES_MIN} of chance", bytes.len()));
            }
            Ok(bytes)
        });
        let keys: Vec<_> = keys.collect::<Result<_, String>>()?;
        match keys.len() {
            0 => Err("holds no key".to_owned()),
            1..=KEYS_MAX => Ok(Keys(keys)),
            many => Err(format!("holds {many} keys, expected at most {KEYS_MAX} (take out those that nobody verifies any more)")),
        }
    }

    /// The three headers of a message.
    pub(crate) fn headers(&self, id: &str, seconds: u64, body: &[u8]) -> [(&'static str, String); 3] {
        let signatures: Vec<String> = self.0.iter().filter_map(|key| signature(key, (id, seconds), body)).collect();
        [("webhook-id", id.to_owned()), ("webhook-timestamp", seconds.to_string()), ("webhook-signature", signatures.join(" "))]
    }
}

fn decode(encoded: &str) -> Option<Vec<u8>> {
    STANDARD.decode(encoded).or_else(|_| STANDARD_NO_PAD.decode(encoded)).ok()
}

/// None can't be: a key of HMAC may have any length.
fn signature(key: &[u8], (id, seconds): (&str, u64), body: &[u8]) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(format!("{id}.{seconds}.").as_bytes());
    mac.update(body);
    Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

/// The same for every attempt at an event by a rule, another for everything else: receivers know by it what they have had.
pub(crate) fn message_id(idempotency_key: &str, rule: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(idempotency_key.as_bytes());
    hash.update([0]);
    hash.update(rule.as_bytes());
    let hex: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("msg_{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification() {
        // The test vector that the reference libraries of Standard Webhooks share.
        let keys = Keys::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let [id, time, signature] = keys.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!((id.1.as_str(), time.1.as_str()), ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330"));
        assert_eq!(signature.1, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn keys_are_read() {
        let count = |text: &str| Keys::parse(text).map(|keys| keys.0.len());
        assert_eq!(count("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), Ok(1));
        assert_eq!(count(" 0123456789abcdef\n whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw "), Ok(2));
        for (text, expected) in [
            ("", "holds no key"),
            ("short", "key 1 has 5 bytes, expected at least 16 of chance"),
            ("0123456789abcdef whsec_!", "key 2 is no base64 after `whsec_`"),
            ("0123456789abcdef whsec_AAAA", "key 2 has 3 bytes, expected at least 16 of chance"),
        ] {
            assert_eq!(count(text), Err(expected.to_owned()));
        }
        assert!(count(&"0123456789abcdef ".repeat(6)).is_err_and(|error| error.contains("at most 5")));
        let both = Keys::parse("0123456789abcdef fedcba9876543210").unwrap().headers("m", 1, b"x");
        assert_eq!(both[2].1.split(' ').filter(|signature| signature.starts_with("v1,")).count(), 2);
    }

    #[test]
    fn a_message_is_known_by_event_and_rule() {
        assert_eq!(message_id("k", "a"), message_id("k", "a"));
        assert_ne!(message_id("k", "a"), message_id("k", "b"));
        assert_ne!(message_id("k", "a"), message_id("l", "a"));
        assert_eq!(message_id("k", "a").len(), 36);
    }
}
