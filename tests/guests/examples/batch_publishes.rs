//! Publishes for its items: as many events as the number in an item's data, and then answers as the word behind it says. Says what it was
//! told of publishing for no item and for one that is not there.
use weir_guests::batch::{Answer, says};
use weir_guests::publisher::{Schedule, event, publish, publish_for, reply};
use weir_guests::{reject, retry};

weir_guests::batch_handler!(|items| {
    println!("{:?}", publish("events", &event("t", "{}"), Schedule::Now));
    println!("{:?}", publish_for(items.len() as u32, "events", &event("t", "{}"), Schedule::Now));
    println!("{:?}", reply(&event("t", "{}")));
    let answers = (0..).zip(&items).map(|(index, item)| {
        let data = says(item);
        let (number, then) = data.split_once(' ').unwrap();
        for _ in 0..number.parse::<u32>().unwrap() {
            publish_for(index, "events", &event("published", "{}"), Schedule::Now).unwrap();
        }
        let verdict = match then {
            "retry" => retry("later", None),
            "reject" => reject("no"),
            "trap" => panic!("no more"),
            _ => Ok(()),
        };
        Answer { index, verdict }
    });
    Ok(answers.collect())
});
