//! The keys of one stream. Those that Weir makes carry the stream's hash tag, so that in a cluster they stand where the stream does. Pure.

/// What Weir keeps beside a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keys {
    /// The stream.
    pub(super) stream: String,
    /// Delayed publishes: a sorted set by due time.
    pub(super) delayed: String,
    /// Dead letters: a stream.
    pub(super) dead: String,
    /// Stands while nothing of the stream has ended.
    pub(super) first: String,
    /// What all keys of waiting retries begin with.
    pub(super) retries: String,
    tagged: String,
}

/// What Weir keeps for one group of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GroupKeys {
    /// What waits for another try, or was given back: a sorted set by due time.
    pub(super) retry: String,
    /// Tries by entry: a hash.
    pub(super) tries: String,
    /// Who may read a group that keeps its order: a text.
    pub(super) reader: String,
}

impl Keys {
    pub(super) fn of(stream: &str) -> Self {
        let tagged = tagged(stream);
        Self {
            stream: stream.to_owned(),
            delayed: format!("{tagged}.delayed"),
            dead: format!("{tagged}.dead"),
            first: format!("{tagged}.first"),
            retries: format!("{tagged}.retry."),
            tagged,
        }
    }

    pub(super) fn group(&self, group: &str) -> GroupKeys {
        GroupKeys {
            retry: format!("{}{group}", self.retries),
            tries: format!("{}.tries.{group}", self.tagged),
            reader: format!("{}.reader.{group}", self.tagged),
        }
    }
}

/// `{k}`, or the key itself when it has a hash tag of its own: from the first `{` to the next `}`, with something between.
pub(crate) fn tagged(key: &str) -> String {
    let own = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).is_some_and(|(tag, _)| !tag.is_empty());
    if own { key.to_owned() } else { format!("{{{key}}}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_keys_carry_the_hash_tag() {
        for (key, expected) in
            [("orders", "{orders}"), ("shop:{42}:orders", "shop:{42}:orders"), ("a{}b", "{a{}b}"), ("a{b", "{a{b}"), ("", "{}")]
        {
            assert_eq!(tagged(key), expected, "{key}");
        }
        let keys = Keys::of("orders");
        assert_eq!(keys.delayed, "{orders}.delayed");
        assert_eq!(keys.group("weir-mail").retry, "{orders}.retry.weir-mail");
    }
}
