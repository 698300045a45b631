//! Publishes events of all kinds to two queues and answers ok.
use weir_guests::publisher::{Event, Schedule, event, extended, publish};

weir_guests::handler!(|received, _| {
    let now = |queue: &str, event: &Event| publish(queue, event, Schedule::Now).unwrap();
    let whole = Event {
        id: "mine".to_owned(),
        source: "/own".to_owned(),
        subject: Some("ann".to_owned()),
        time: Some("2026-11-21T10:00:00Z".to_owned()),
        datacontenttype: Some("text/plain".to_owned()),
        dataschema: Some("https://example.com/schema".to_owned()),
        ..event("whole", "héllo")
    };
    now("events", &extended(extended(whole, "tenant", "a"), "partitionkey", "ann"));
    now("mails", &event("small", "1"));
    now("events", &event("small", "1"));
    now("events", &event("small", "1"));
    now("events", &Event { data: None, ..event("empty", "") });
    // A copy of what it was given, under a name of its own.
    now("events", &Event { id: String::new(), type_: "copy".to_owned(), ..received });
    Ok(())
});
