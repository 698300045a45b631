//! Deliveries on their way into another queue: batches whose bytes are bounded, in order.

use super::Delivery;

/// Bytes of one publish, but for a single event that is larger: brokers bound what comes at once.
const BATCH_BYTES: usize = 1 << 20;

/// Splits what was pulled.
pub(crate) fn split(pulled: Vec<Delivery>) -> Vec<Vec<Delivery>> {
    let (mut batches, mut bytes) = (Vec::<Vec<Delivery>>::new(), 0);
    for delivery in pulled {
        let size = delivery.event.size();
        match batches.last_mut() {
            Some(batch) if bytes + size <= BATCH_BYTES => {
                bytes += size;
                batch.push(delivery);
            }
            _ => {
                bytes = size;
                batches.push(vec![delivery]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::clock::Timestamp;
    use crate::event::Event;
    use crate::queue::{Position, Tries};

    #[test]
    fn a_batch_is_bounded_and_holds_at_least_one() {
        let delivery = |kib: usize| {
            let event = Event { data: Some(Bytes::from(vec![b'1'; kib << 10])), ..Event::default() };
            Delivery { event: Arc::new(event), position: Position(0), tries: Tries::default(), first_seen: Timestamp(0) }
        };
        for (pulled, expected) in
            [(&[][..], &[][..]), (&[1, 1, 1], &[3]), (&[512, 512, 1], &[2, 1]), (&[5_000, 1, 5_000], &[1, 1, 1])]
        {
            let sizes: Vec<usize> = split(pulled.iter().map(|kib| delivery(*kib)).collect()).iter().map(Vec::len).collect();
            assert_eq!(sizes, expected, "{pulled:?}");
        }
    }
}
