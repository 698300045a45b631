//! How many events one read may bring, so that it takes no more memory than it should, whatever the size of events. Pure.

/// Bytes of events that one read may bring: what is in hand is bounded by the handler's concurrency, and this is what comes at once.
const READ_BYTES: usize = 32 << 20;

/// Events of the first read, of which nothing is known: they fit when each is as large as Weir itself takes by default (`max-event`).
const FIRST: usize = 32;

/// By the largest event of what was read last. A server answers by number and not by bytes, so a read is bounded by what is known of
/// those before: growing events shrink the next one at once, shrinking ones let it grow to twice at most.
#[derive(Debug)]
pub(super) struct Gauge {
    event_bytes: usize,
}

impl Default for Gauge {
    fn default() -> Self {
        Self { event_bytes: READ_BYTES / FIRST }
    }
}

impl Gauge {
    /// How many of so many events to read; at least one.
    pub(super) fn count(&self, wanted: usize) -> usize {
        wanted.min((READ_BYTES / self.event_bytes.max(1)).max(1))
    }

    pub(super) fn weigh(&mut self, largest: usize) {
        self.event_bytes = largest.max(self.event_bytes / 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_grows_with_small_events_and_shrinks_with_large_ones() {
        let mut gauge = Gauge::default();
        assert_eq!((gauge.count(0), gauge.count(5), gauge.count(1_000)), (0, 5, FIRST));
        let mut counts = Vec::new();
        for largest in [500, 500, 500, 500, 500, 1 << 20, 8 << 20, 100 << 20, 500] {
            gauge.weigh(largest);
            counts.push(gauge.count(1_000));
        }
        assert_eq!(counts, [64, 128, 256, 512, 1_000, 32, 4, 1, 1]);
    }

    #[test]
    fn events_of_no_size_are_read_as_many_as_wanted() {
        let mut gauge = Gauge::default();
        (0..100).for_each(|_| gauge.weigh(0));
        assert_eq!(gauge.count(7), 7);
    }
}
