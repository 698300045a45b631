//! The keys of a list or a sorted set. Those that Weir makes carry its hash tag, so that in a cluster they stand where it does. Pure.

use crate::queue::redis::keys::tagged;

/// What Weir keeps beside a list or a sorted set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keys {
    /// The list or sorted set itself.
    pub(super) source: String,
    /// What is taken, or waits for its time: a hash of bodies by id.
    pub(super) taken: String,
    /// Who has it, and the tries behind it: a hash by id.
    pub(super) tries: String,
    /// Ids by when their lease ends: a sorted set.
    pub(super) leases: String,
    /// Ids by when they are due: a sorted set.
    pub(super) later: String,
    /// The number of the last id.
    pub(super) next: String,
    /// What is remembered of bodies that were given back: a hash.
    pub(super) known: String,
    /// What woke a process, for whoever takes next: a list.
    pub(super) woken: String,
    /// Who may read, where one process does at a time: a text.
    pub(super) reader: String,
    /// Dead letters: a stream.
    pub(super) dead: String,
}

impl Keys {
    pub(super) fn of(source: &str) -> Self {
        let tagged = tagged(source);
        let key = |name: &str| format!("{tagged}.{name}");
        Self {
            source: source.to_owned(),
            taken: key("taken"),
            tries: key("tries"),
            leases: key("leases"),
            later: key("later"),
            next: key("next"),
            known: key("known"),
            woken: key("woken"),
            reader: key("reader"),
            dead: key("dead"),
        }
    }

    /// Those that scripts get, in their order.
    pub(super) fn all(&self) -> [&str; 9] {
        let Self { source, taken, tries, leases, later, next, known, woken, reader, .. } = self;
        [source, taken, tries, leases, later, next, known, woken, reader]
    }

    /// Of which type each has to be.
    pub(super) fn types(&self, source: &'static str) -> [(&str, &'static str); 9] {
        let types = [source, "hash", "hash", "zset", "zset", "string", "hash", "list", "string"];
        let mut types = types.into_iter();
        self.all().map(|key| (key, types.next().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stand_beside_the_list() {
        let keys = Keys::of("orders");
        assert_eq!((keys.taken.as_str(), keys.dead.as_str()), ("{orders}.taken", "{orders}.dead"));
        assert_eq!(keys.types("list")[0], ("orders", "list"));
        assert_eq!(keys.types("list")[7], ("{orders}.woken", "list"));
    }
}
