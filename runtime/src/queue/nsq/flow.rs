//! How many messages each server may send: RDY. Pure.
//!
//! A server sends until RDY messages of a connection are unsettled. So RDY is what a connection holds, and its share of what pulls ask for:
//! nothing comes that nobody waits for, whatever is settled meanwhile.

/// One connection: what it holds, and the largest RDY that its server takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Feed {
    pub(super) in_flight: usize,
    pub(super) max: usize,
}

/// RDY of each connection. `wanted` is what pulls wait for, `room` how many more may be held at all. Each connection is given at least one
/// where there is room, as nobody knows which of them has messages; where there is none, `turn` moves it on.
pub(super) fn ready(wanted: usize, room: usize, feeds: &[Feed], turn: usize) -> Vec<usize> {
    let count = feeds.len().max(1);
    let total = if wanted == 0 { 0 } else { wanted.max(count).min(room) };
    let (each, rest) = (total / count, total % count);
    let share = |at: usize| each + usize::from((at + turn) % count < rest);
    feeds.iter().enumerate().map(|(at, feed)| feed.in_flight.saturating_add(share(at)).min(feed.max)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rdy_is_what_is_held_and_a_share_of_what_is_wanted() {
        let feeds = |held: &[usize]| held.iter().map(|held| Feed { in_flight: *held, max: 2_500 }).collect::<Vec<_>>();
        let any = usize::MAX;
        for (wanted, room, held, turn, expected) in [
            (0, any, &[0][..], 0, &[0][..]),
            (0, any, &[3], 0, &[3]),
            (5, any, &[3], 0, &[8]),
            (5, 2, &[3], 0, &[5]),
            (10, any, &[0, 4, 0], 0, &[4, 7, 3]),
            (1, any, &[0, 0, 0], 0, &[1, 1, 1]),
            (1, 1, &[0, 0, 0], 0, &[1, 0, 0]),
            (1, 1, &[0, 0, 0], 1, &[0, 0, 1]),
            (1, 1, &[0, 0, 0], 2, &[0, 1, 0]),
            (9, 0, &[1, 2], 0, &[1, 2]),
            (5_000, any, &[0], 0, &[2_500]),
            (5, any, &[], 0, &[]),
        ] {
            assert_eq!(ready(wanted, room, &feeds(held), turn), expected, "{wanted} {room} {held:?} {turn}");
        }
    }
}
