//! Begins as many HTTP requests as the test says, writes into the body of each what the host takes, and says how much that was.
use wasip2::http::types::{Fields, OutgoingRequest};

weir_guests::handler!(|_, _| {
    let many = weir_guests::config::get("many").parse().unwrap();
    let (mut taken, mut all) = (0, Vec::new());
    let chunk = vec![1; 1 << 20];
    for _ in 0..many {
        let request = OutgoingRequest::new(Fields::new());
        let body = request.body().unwrap();
        let stream = body.write().unwrap();
        while let Ok(room @ 1..) = stream.check_write() {
            let room = usize::try_from(room).unwrap().min(chunk.len());
            if stream.write(&chunk[..room]).is_err() {
                break;
            }
            taken += room;
        }
        all.push((stream, body, request));
    }
    weir_guests::reject(taken.to_string())
});
