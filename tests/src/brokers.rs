//! Real brokers, each a process of its own on free ports, with its data in a temporary folder, stopped by its process id.
//!
//! `tests/servers/get-*.sh` install them (`make tools`). A broker that is not on this machine leaves the tests about it ignored, by
//! name (`tests/build.rs` looks); in CI it is a failure.

pub mod kafka;
pub mod mosquitto;
pub mod nats;
pub mod nsq;
pub mod process;
pub mod rabbitmq;
pub mod server;
pub mod stall;

use std::path::PathBuf;

/// The folder that outlives test runs, where the brokers are that no distribution has.
fn cache() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let in_home = || variable("HOME").map(|home| home.join(".cache"));
    let cache = variable("WEIR_CACHE").or_else(|| variable("XDG_CACHE_HOME").or_else(in_home).map(|cache| cache.join("weir")));
    cache.expect("one of WEIR_CACHE, XDG_CACHE_HOME and HOME is set")
}
