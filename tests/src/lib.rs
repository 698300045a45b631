//! What the tests of Weir share: real servers, started and stopped by the test that needs them.

#[expect(clippy::expect_used, clippy::panic, reason = "a test that can't have its server fails there and then")]
pub mod brokers;
#[expect(clippy::expect_used, reason = "a test that can't set its clock fails there and then")]
pub mod clock;
pub mod guests;
#[expect(clippy::expect_used, clippy::panic, reason = "a test that can't have its server fails there and then")]
pub mod redis;
pub mod server;
pub mod smtp;
pub mod web;
