//! Takes 8 MiB of memory from the host, looks at every byte of it and says how many are not zero.
weir_guests::handler!(|_, _| {
    const PAGES: usize = 128;
    let before = core::arch::wasm32::memory_grow::<0>(PAGES);
    assert_ne!(before, usize::MAX, "no memory");
    // SAFETY: just grown, and nobody else's.
    let fresh = unsafe { std::slice::from_raw_parts((before << 16) as *const u64, PAGES << 13) };
    let found = fresh.iter().filter(|word| **word != 0).count();
    weir_guests::reject(format!("{found} words are not zero"))
});
