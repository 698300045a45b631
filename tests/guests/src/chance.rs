//! How a run of the guest `chaos_ways` ends: drawn from its event, its attempt and a seed, so that a test knows it without asking. The
//! tests include this file too. Pure.

/// How a run ends. Each but the first is drawn for [`PERCENT`] of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Done,
    Retry,
    Reject,
    Trap,
    Fuel,
    Memory,
    Deadline,
    Output,
    /// Fails from outside, or is done: the guest draws anew at each run, for a failure from outside costs no attempt.
    Host,
}

/// Runs in a hundred that fail in each way.
const PERCENT: u64 = 5;

const FAILING: [Way; 8] = [Way::Retry, Way::Reject, Way::Trap, Way::Fuel, Way::Memory, Way::Deadline, Way::Output, Way::Host];

/// Draws.
pub fn way(id: &str, attempt: u32, seed: u64) -> Way {
    usize::try_from(drawn(id, attempt, seed) % 100 / PERCENT).ok().and_then(|at| FAILING.get(at)).copied().unwrap_or(Way::Done)
}

/// A number that follows from an event, its attempt and a seed.
pub fn drawn(id: &str, attempt: u32, seed: u64) -> u64 {
    id.bytes().fold(mixed(seed ^ u64::from(attempt) << 32), |state, byte| mixed(state ^ u64::from(byte)))
}

/// The finalizer of SplitMix64.
fn mixed(state: u64) -> u64 {
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}
