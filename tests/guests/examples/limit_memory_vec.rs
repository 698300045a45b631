//! Fills a list until there is no memory.
weir_guests::handler!(|_, _| {
    let mut all: Vec<Vec<u8>> = Vec::new();
    loop {
        all.push(vec![1; 1 << 20]);
    }
});
