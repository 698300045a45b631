//! What is done to whom, by a seed: the configuration, the events, and the order of disasters.

use std::fmt;

use serde_json::{Value, json};
use weir_tests::guests;

/// The stream, and with it the queue's group of the one handler.
pub(crate) const STREAM: &str = "chaos";
/// The group.
pub(crate) const GROUP: &str = "weir-it";
/// Where handlers publish what they have done.
pub(crate) const RESULTS: &str = "results";
/// Tries of a handler that asks for more, and after a trap or limit.
pub(crate) const ATTEMPTS: u32 = 4;
pub(crate) const ATTEMPTS_TRAP: u32 = 2;
/// Milliseconds of a lease: a killed process holds up its events for so long.
pub(crate) const LEASE: u64 = 2_000;

/// Events unless `WEIR_TEST_EVENTS` says otherwise.
const EVENTS: usize = 50_000;
/// Keys that events are ordered by.
const KEYS: usize = 500;

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disaster {
    /// SIGKILL for a process, by its index; it is started again.
    Process(usize),
    /// SIGKILL for whichever process reads, where one reads at a time.
    Reader,
    /// SIGTERM for the server, started again.
    ServerStops,
    /// SIGKILL for the server, started again.
    ServerDies,
}

/// See the module.
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) ordered: bool,
    /// The events' order keys, in order of publishing.
    pub(crate) keys: Vec<usize>,
    /// Each with how many events are left when it happens.
    pub(crate) disasters: Vec<(usize, Disaster)>,
}

impl Plan {
    /// With the seed and size of the environment, else a new seed.
    pub(crate) fn from_environment(ordered: bool) -> Self {
        let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
        let seed = number("WEIR_TEST_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
        let count = number("WEIR_TEST_EVENTS").map_or(EVENTS, |count| usize::try_from(count).unwrap());
        let mut chance = fastrand::Rng::with_seed(seed);
        let keys = (0..count).map(|_| chance.usize(..KEYS)).collect();
        let process = |index| if ordered { Disaster::Reader } else { Disaster::Process(index) };
        let order =
            [process(0), process(1), Disaster::ServerStops, process(0), process(1), Disaster::ServerDies, process(0), process(1)];
        let step = count / (order.len() + 1);
        let at = |nth: usize, chance: &mut fastrand::Rng| (count - nth * step).saturating_sub(chance.usize(..=step / 2));
        let disasters = order.into_iter().zip(1..).map(|(what, nth)| (at(nth, &mut chance), what)).collect();
        Self { seed, ordered, keys, disasters }
    }

    pub(crate) fn count(&self) -> usize {
        self.keys.len()
    }

    /// How many processes are killed.
    pub(crate) fn kills(&self) -> usize {
        self.disasters.iter().filter(|(_, what)| matches!(what, Disaster::Process(_) | Disaster::Reader)).count()
    }

    /// The event at this place.
    pub(crate) fn event(&self, at: usize) -> Value {
        json!({
            "specversion": "1.0", "id": at.to_string(), "source": "/chaos", "type": "chaos",
            "subject": format!("key-{}", self.keys[at]), "data": self.seed,
        })
    }

    /// The `weir.toml` of a process.
    pub(crate) fn config(&self, name: &str, redis: &str) -> String {
        let order = if self.ordered { "order-by = \"subject\"\n" } else { "" };
        format!(
            "server.name = \"{name}\"\n\
             [queue.events]\nurl = \"{redis}?stream={STREAM}&lease={LEASE}ms\"\nstart = \"all\"\n\
             [queue.results]\nurl = \"{redis}?stream={RESULTS}\"\n\
             # Nobody answers there: publishing fails from outside.\n\
             [queue.away]\nurl = \"redis://127.0.0.1:1/0?stream=away\"\n\
             [handler.it]\ncomponent = \"{}\"\nqueue = \"events\"\nconcurrency = 32\n{order}\
             [handler.it.retry]\nattempts = {ATTEMPTS}\ntrap = {ATTEMPTS_TRAP}\nbackoff = \"20ms..100ms\"\n\
             [handler.it.limits]\nfuel = 500_000\nmemory = \"2MiB\"\ndeadline = \"250ms\"\noutput = \"1KiB\"\n\
             [handler.it.grants]\npublish = [\"results\", \"away\"]\n",
            guests::CHAOS_WAYS
        )
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let order = if self.ordered { " in order" } else { "" };
        write!(f, "{} events{order}: WEIR_TEST_SEED={}", self.count(), self.seed)
    }
}
