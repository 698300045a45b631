//! Weir takes events off a queue and gives each one to a WebAssembly handler in a sandbox.
//!
//! The modules below stand in the order in which an event meets them.

pub mod clock;
pub mod dead;
pub mod dispatcher;
pub mod event;
pub mod filter;
pub mod handler;
pub mod keyvalue;
pub mod mail;
pub mod outbox;
pub mod outcome;
pub mod outgoing;
pub mod queue;
#[cfg(feature = "redis")]
pub mod redis;
pub mod sandbox;
pub mod source;
pub mod store;
pub mod verdict;

pub mod admin;
pub mod app;
pub mod bench;
pub mod cases;
pub mod cli;
pub mod config;
pub mod stats;
pub mod trial;
