//! Writes every field of what it is given, one a line.
weir_guests::handler!(|event, delivery| {
    println!("id={:?}\nsource={:?}\ntype={:?}", event.id, event.source, event.type_);
    println!("subject={:?}\ntime={:?}", event.subject, event.time);
    println!("datacontenttype={:?}\ndataschema={:?}", event.datacontenttype, event.dataschema);
    println!("extensions={:?}\ndata={:?}", event.extensions, event.data);
    println!("handler={:?}\nqueue={:?}\norder-key={:?}", delivery.handler, delivery.queue, delivery.order_key);
    println!("attempt={}\nattempts-left={}", delivery.attempt, delivery.attempts_left);
    println!("first-seen={}\ntime-left={}", delivery.first_seen, delivery.time_left);
    println!("idempotency-key={}\nwants-reply={}", delivery.idempotency_key, delivery.wants_reply);
    Ok(())
});
