//! How much of a subscription is held here, for brokers that send more than they were asked for. Pure.
//!
//! The receive maximum is all that has to bound what a broker sends. Mosquitto 2.0.11 sends as many messages again for each
//! acknowledgement. Beyond the window they are held while they are small; then whatever comes is let go unread, and the connection is made
//! anew once there is room: the broker then sends all of it again.

/// Bytes that are held beyond the window; packet ids bound the number.
const BEYOND_BYTES_MAX: u64 = 64 << 20;

/// What an event takes here beside its own bytes.
const OVERHEAD_BYTES: u64 = 512;

/// What is held.
#[derive(Debug, Default)]
pub(super) struct Room {
    events: u64,
    bytes: u64,
    /// Something was let go over this connection: what comes after it is let go too, or it would be acknowledged before.
    over: bool,
}

impl Room {
    /// A connection begins: whatever was let go comes again.
    pub(super) fn begin(&mut self) {
        self.over = false;
    }

    /// Whether there is room for what comes without being asked for.
    pub(super) fn has(&self, window: u16) -> bool {
        self.events < u64::from(window)
    }

    /// Whether what comes is let go.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// An event is held.
    pub(super) fn take(&mut self, bytes: u64, window: u16) {
        self.events += 1;
        self.bytes += bytes + OVERHEAD_BYTES;
        self.over |= self.events > u64::from(window) && self.bytes >= BEYOND_BYTES_MAX;
    }

    /// One is held no longer.
    pub(super) fn give(&mut self, bytes: u64) {
        self.events = self.events.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes + OVERHEAD_BYTES);
    }

    /// Whether something was let go and there is room for it now.
    pub(super) fn is_there_again(&self, window: u16) -> bool {
        self.over && (self.events <= u64::from(window) || self.bytes <= BEYOND_BYTES_MAX / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_always_held_whatever_its_bytes() {
        let mut room = Room::default();
        (0..10).for_each(|_| room.take(BEYOND_BYTES_MAX, 10));
        assert!(!room.is_over() && !room.has(10));
        room.take(1, 10);
        assert!(room.is_over() && !room.is_there_again(10));
        room.give(1);
        assert!(room.is_there_again(10));
        room.begin();
        assert!(!room.is_over() && !room.is_there_again(10));
    }

    #[test]
    fn small_ones_are_held_beyond_it() {
        let mut room = Room::default();
        (0..65_535).for_each(|_| room.take(400, 10));
        assert!(!room.is_over());
        (0..65_535).for_each(|_| room.take(400, 10));
        assert!(room.is_over());
        (0..100_000).for_each(|_| room.give(400));
        assert!(room.is_there_again(10));
    }
}
