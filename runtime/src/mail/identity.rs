//! What makes two mails the same (delivery.md §9): event, handler, and the guest's key, else the recipients and how many mails to the
//! same recipients came before in this run. Knows nothing of what was sent: that is the ledger's.

use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::Message;
use crate::event::Event;
use crate::store::MailIdentity;

/// Most mails of one run that are told apart by number; the sandbox's `requests` (at most 1,000 by its ceiling) ends a run before.
const NUMBERED_MAX: usize = 10_000;

/// The mails of one run of a handler on one event. Cheap to clone: clones count together.
#[derive(Debug, Clone)]
pub struct MailRun {
    source: String,
    id: String,
    // Shared with the sends under way, which note here that they failed. Held for one look.
    sent: Arc<Mutex<HashMap<RecipientSet, Vec<Numbered>>>>,
}

type RecipientSet = [u8; 32];

/// A mail without a key: its content, and whether it certainly has not been handed over.
#[derive(Debug)]
struct Numbered {
    content: [u8; 32],
    failed: bool,
}

/// The number that a mail without a key got in its run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number {
    set: RecipientSet,
    at: usize,
}

impl MailRun {
    /// A run that has sent nothing yet.
    #[must_use]
    pub fn new(event: &Event) -> Self {
        Self { source: event.source.clone(), id: event.id.clone(), sent: Arc::default() }
    }

    /// Counts a mail without a key. One that equals a failed one in content takes its number again: a guest that repeats a call must not
    /// make a second mail of it.
    pub(super) fn number(&self, recipients: &BTreeSet<String>, message: &Message) -> Number {
        let set = hash(recipients.iter().map(String::as_bytes));
        let content = content_hash(message);
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let before = sent.entry(set).or_default();
        let again = before.iter().position(|numbered| numbered.failed && numbered.content == content);
        let at = again.unwrap_or(before.len());
        if let Some(numbered) = before.get_mut(at) {
            numbered.failed = false;
        } else if before.len() < NUMBERED_MAX {
            before.push(Numbered { content, failed: false });
        }
        Number { set, at }
    }

    /// Notes that the call for this mail failed.
    pub(super) fn failed(&self, number: Number) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(numbered) = sent.get_mut(&number.set).and_then(|before| before.get_mut(number.at)) {
            numbered.failed = true;
        }
    }

    /// The identity of a mail: `number` is only asked for when there is no key.
    pub(super) fn identity(&self, handler: &str, key: Option<&str>, number: Option<Number>) -> MailIdentity {
        let event = [self.source.as_bytes(), self.id.as_bytes(), handler.as_bytes()];
        match (key, number) {
            (Some(key), _) => hash(event.into_iter().chain([b"key".as_slice(), key.as_bytes()])),
            (None, Some(Number { set, at })) => {
                hash(event.into_iter().chain([b"recipients".as_slice(), set.as_slice(), at.to_string().as_bytes()]))
            }
            (None, None) => hash(event),
        }
    }
}

/// SHA-256 of parts that can't run into each other.
fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// SHA-256 of all that a message holds.
fn content_hash(message: &Message) -> [u8; 32] {
    struct Sha(Sha256);
    impl Hasher for Sha {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }

        fn finish(&self) -> u64 {
            0 // Not asked for: the digest itself is taken below.
        }
    }
    let mut hasher = Sha(Sha256::new());
    message.hash(&mut hasher);
    hasher.0.finalize().into()
}

/// The Message-ID that belongs to an identity: nothing of the event can be read from it.
pub(super) fn message_id(identity: &MailIdentity, domain: &str) -> String {
    let mut name = hex::encode(identity);
    name.truncate(32);
    format!("<{name}@{domain}>")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(id: &str) -> MailRun {
        MailRun::new(&Event { id: id.to_owned(), source: "/s".to_owned(), ..Event::default() })
    }

    fn mail(to: &str, subject: &str, key: Option<&str>) -> Message {
        Message { to: vec![to.to_owned()], subject: subject.to_owned(), key: key.map(str::to_owned), ..Message::default() }
    }

    fn send(run: &MailRun, message: &Message) -> (MailIdentity, Option<Number>) {
        let recipients = message.to.iter().cloned().collect();
        let number = message.key.is_none().then(|| run.number(&recipients, message));
        (run.identity("h", message.key.as_deref(), number), number)
    }

    #[test]
    fn the_same_mails_in_another_attempt_are_the_same() {
        let mails = [mail("a", "1", None), mail("a", "2", None), mail("b", "1", None), mail("a", "1", Some("k"))];
        let attempt = || {
            let run = run("e");
            mails.iter().map(|mail| send(&run, mail).0).collect::<Vec<_>>()
        };
        let first = attempt();
        assert_eq!(first, attempt());
        assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), mails.len(), "all differ");
    }

    #[test]
    fn another_path_does_not_take_somebody_elses_identity() {
        let (first, retry) = (run("e"), run("e"));
        let to_a = send(&first, &mail("a", "1", None)).0;
        assert_ne!(to_a, send(&retry, &mail("b", "1", None)).0);
        assert_eq!(to_a, send(&retry, &mail("a", "1", None)).0, "wherever it stands in the run");
    }

    #[test]
    fn events_handlers_and_keys_are_told_apart() {
        let one = run("e").identity("h", Some("k"), None);
        assert_ne!(one, run("f").identity("h", Some("k"), None));
        assert_ne!(one, run("e").identity("i", Some("k"), None));
        assert_ne!(one, run("e").identity("h", Some("l"), None));
        assert_ne!(run("ea").identity("b", Some(""), None), run("e").identity("ab", Some(""), None));
        assert_eq!(one, run("e").identity("h", Some("k"), None));
    }

    #[test]
    fn a_repeated_call_after_a_failure_keeps_its_number() {
        let run = run("e");
        let (first, number) = send(&run, &mail("a", "1", None));
        run.failed(number.unwrap());
        let (other, _) = send(&run, &mail("a", "2", None));
        assert_ne!(first, other, "another text is another mail");
        let (again, _) = send(&run, &mail("a", "1", None));
        assert_eq!(first, again);
        let (third, _) = send(&run, &mail("a", "1", None));
        assert!(third != first && third != other, "the same text twice, both fine, is two mails");
    }

    #[test]
    fn a_message_id_is_the_hash_at_the_senders_domain() {
        assert_eq!(message_id(&[0xab; 32], "example.com"), format!("<{}@example.com>", "ab".repeat(16)));
    }
}
