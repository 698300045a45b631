//! Answers with the length of the data and the sum of its bytes.
weir_guests::handler!(|event, _| {
    let data = event.data.unwrap_or_default();
    let sum = data.iter().fold(0u64, |sum, byte| sum + u64::from(*byte));
    weir_guests::reject(format!("{} bytes, sum {sum}", data.len()))
});
