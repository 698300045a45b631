//! What the tests of Weir share: real servers, started and stopped by the test that needs them.

pub mod guests;
pub mod redis;
pub mod server;
pub mod smtp;
