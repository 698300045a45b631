//! Says what it was given, and that each item is done.
use weir_guests::batch::Answer;

weir_guests::batch_handler!(|items| {
    for (index, item) in items.iter().enumerate() {
        let (event, delivery) = (&item.event, &item.delivery);
        println!(
            "{index} {} {:?} {} {} {:?} {} of {} {} {}",
            event.id,
            event.extensions,
            delivery.handler,
            delivery.queue,
            delivery.order_key,
            delivery.attempt,
            delivery.attempt + delivery.attempts_left,
            delivery.time_left,
            delivery.idempotency_key,
        );
    }
    Ok((0..).zip(&items).map(|(index, _)| Answer { index, verdict: Ok(()) }).collect())
});
