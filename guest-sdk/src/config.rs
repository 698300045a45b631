//! What `[handler.NAME.config]` in weir.toml holds, through `wasi:config`. Read anew for every event: a changed file is in the next one.

use std::fmt;

/// The value of a key; none when it is not set, or when the server could not tell.
#[must_use]
pub fn get(key: &str) -> Option<String> {
    crate::host::config_get(key)
}

/// The value of a key that the handler can't do without.
///
/// ```
/// use weir_sdk::{prelude::*, testing};
///
/// fn greet(_: Event<()>) -> Result {
///     log::info!("{}", config::require("greeting")?);
///     Ok(())
/// }
///
/// let run = testing::Host::new().config("greeting", "good morning").run(greet, testing::event("x", ()));
/// assert_eq!(run.logs[0].message, "good morning");
///
/// let run = testing::Host::new().run(greet, testing::event("x", ()));
/// assert_eq!(run.result, Err(reject("config key `greeting` is not set (add it to the handler's `config` in weir.toml)")));
/// ```
///
/// # Errors
/// When it is not set; `?` makes that a [`reject`](crate::reject).
pub fn require(key: &str) -> Result<String, Missing> {
    get(key).ok_or_else(|| Missing::new(key))
}

/// A key that is not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    key: String,
}

impl Missing {
    pub(crate) fn new(key: &str) -> Self {
        Missing { key: key.to_owned() }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "config key `{}` is not set (add it to the handler's `config` in weir.toml)", self.key)
    }
}

impl std::error::Error for Missing {}
