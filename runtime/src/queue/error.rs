//! Why a queue could not do as asked: what its callers tell apart.

/// Why a queue could not do as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// No room until something is taken out: HTTP 429.
    #[error("queue is full: {held} of {bound} bytes held{} (the bound is its `max-size`)", blocker.as_ref().map(|name| format!(", most for `{name}`")).unwrap_or_default())]
    Full {
        /// Bytes that wait.
        held: u64,
        /// The bound, `max-size`.
        bound: u64,
        /// The subscription that holds most of it, if one stands out (an orphan, for example).
        blocker: Option<String>,
    },
    /// No room in the store for what has to wait there: HTTP 429.
    #[error("{0}")]
    NoRoom(String),
    /// An event, or a batch, that is larger than this queue could ever hold: HTTP 413.
    #[error("{size} bytes at once are more than this queue holds at all ({bound} bytes)")]
    TooLarge {
        /// The batch's size in bytes.
        size: u64,
        /// The bound in bytes.
        bound: u64,
    },
    /// Away, or its disk is full or broken: HTTP 503, an outside failure.
    #[error("{0}")]
    Unavailable(String),
    /// Another process owns the folder.
    #[error("{0}")]
    Owned(String),
    /// [`Queue::close`] was called.
    #[error("queue is closed: this server is stopping")]
    Closed,
    /// The URL or what it names can't be used as it is.
    #[error("{0}")]
    Invalid(String),
    /// This adapter does not do that.
    #[error("this queue has no `{0}`")]
    Unsupported(&'static str),
}
