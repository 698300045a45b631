//! The guests of `tests/guests` by name: the path of each, and for each suite a macro that calls another with all its names. The host's
//! side of running them is in [`rig`].
//!
//! A suite's test file says `weir_tests::foreach_limit!(assert_test_exists);`, so that a guest without a test does not compile.

pub mod rig;

include!(concat!(env!("OUT_DIR"), "/guests.rs"));

/// For `foreach_*!`: compiles where a test function has the guest's name.
#[macro_export]
macro_rules! assert_test_exists {
    ($name:ident) => {
        const _: fn() = $name;
    };
}
