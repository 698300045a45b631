//! Panics three functions down, with a message of its own.
weir_guests::handler!(|event, _| {
    total(&event.id);
    Ok(())
});

#[inline(never)]
fn total(id: &str) {
    price_of(id, None);
}

#[inline(never)]
fn price_of(id: &str, price: Option<u32>) -> u32 {
    price.unwrap_or_else(|| panic!("order `{id}` has no price"))
}
