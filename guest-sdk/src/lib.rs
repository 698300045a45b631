//! Write handlers for [Weir](https://github.com/weir-events/weir): a handler is one function that takes an event.
//!
//! ```
//! use weir_sdk::prelude::*;
//!
//! weir_sdk::handler!(hello);
//!
//! fn hello(event: Event) {
//!     log::info!("hello, {}", event.kind);
//! }
//! ```
//!
//! `weir build` compiles that to a component, `weir.toml` names the file, and every event of its queue comes by in an instance of its
//! own. [`handler!`] is the only ceremony; the function's signature says the rest:
//!
//! * **What it takes**: [`Event<T>`], where `T` is any type that serde can read from the event's data, and if you like a second
//!   argument, [`Delivery`]: which attempt this is, how much time is left. [`Bytes`] takes the data as it came, `()` ignores it.
//! * **What it answers**: nothing, or a [`Result`]. `Ok(())` is done. [`retry`] and [`retry_after`] ask for another attempt,
//!   [`reject`] gives the event up at once, with a reason that people read in the dead letter.
//!
//! # Typed data
//!
//! ```
//! use weir_sdk::prelude::*;
//!
//! #[derive(serde::Deserialize)]
//! struct Order {
//!     order_id: String,
//!     total: f64,
//! }
//!
//! weir_sdk::handler!(on_order);
//!
//! fn on_order(event: Event<Order>) -> Result {
//!     if event.data.total < 0.0 {
//!         return Err(reject(format!("order `{}` has a negative total", event.data.order_id)));
//!     }
//!     Ok(())
//! }
//! ```
//!
//! **Data that does not fit the type is rejected before your function is called**, with the path in the reason: ``data: `total`:
//! invalid type: string "much", expected f64``. It would not fit at the next attempt either. An event without data is read as JSON
//! `null`, so that `Event<Option<T>>` takes both.
//!
//! # Errors and `?`
//!
//! Every `std::error::Error` becomes a [`Failure`] with `?`. Errors that will come again are rejects, everything else is a retry:
//!
//! | error | becomes |
//! |---|---|
//! | [`email::Error::Unavailable`], [`http::Error::Unavailable`], [`keyvalue::Error::Other`] | retry |
//! | the other errors of mail and HTTP, [`keyvalue::Error::Denied`], [`publish::Error`], [`config::Missing`], `serde_json::Error`, errors of parsing a number or UTF-8 | reject |
//! | any other `std::error::Error` | retry |
//!
//! Where that is not what you mean, say so: [`OrReject`] and [`OrRetry`] turn any `Result` or `Option` into one or the other.
//!
//! ```
//! use weir_sdk::prelude::*;
//!
//! fn amount(text: &str) -> Result<u32> {
//!     text.parse::<u32>().or_reject("`amount` is not a number")
//! }
//!
//! assert_eq!(amount("5"), Ok(5));
//! assert_eq!(amount("x"), Err(reject("`amount` is not a number: invalid digit found in string")));
//! ```
//!
//! # Mail, events, HTTP, buckets, configuration, logs
//!
//! [`email`] sends through the relay that `weir.toml` grants, [`publish`] emits events to queues that it grants, [`http`] makes requests
//! that it grants, [`keyvalue`] keeps what a later event needs, [`config`] reads `[handler.NAME.config]`, [`log`] writes to the server's
//! log. Only what you call becomes an import of the component: a handler that sends no mail needs no mail grant.
//!
//! # Batches
//!
//! [`batch_handler!`] takes a function of many events instead, each answered by itself: see [`batch`].
//!
//! # Tests
//!
//! The same function runs in `cargo test`, with mail, published events, requests, buckets and logs captured: see [`testing`].
//!
//! ```
//! use weir_sdk::prelude::*;
//! use weir_sdk::testing;
//!
//! fn welcome(event: Event<String>) -> Result {
//!     email::to(event.data).subject("Welcome").text("Good to have you.").send()?;
//!     Ok(())
//! }
//!
//! let run = testing::Host::new().run(welcome, testing::event("user.registered", "ann@example.com"));
//! assert_eq!(run.result, Ok(()));
//! assert_eq!(run.mails[0].to, ["ann@example.com"]);
//! ```

pub mod batch;
pub mod config;
mod data;
pub mod email;
mod event;
mod export;
mod failure;
mod host;
pub mod http;
pub mod keyvalue;
pub mod log;
pub mod publish;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use batch::{Answers, Item};
pub use data::{Bytes, EventData};
pub use event::{Delivery, Event};
pub use export::{Handler, IntoResult};
pub use failure::{Failure, OrReject, OrRetry, Result, reject, retry, retry_after};

/// What most handlers need: `use weir_sdk::prelude::*;`.
pub mod prelude {
    pub use crate::{
        Answers, Bytes, Delivery, Event, Failure, Item, OrReject, OrRetry, Result, config, email, http, keyvalue, log, publish,
        reject, retry, retry_after,
    };
}

#[doc(hidden)]
pub mod __private {
    //! For [`crate::handler!`] and [`crate::batch_handler!`] only.
    pub use crate::batch::check_batch;
    pub use crate::export::{check, check_self_test};
    #[cfg(target_family = "wasm")]
    pub use crate::host::wasm::{batch, handler, self_test};
}
