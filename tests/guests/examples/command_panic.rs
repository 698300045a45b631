//! Panics.
fn main() {
    panic!("order has no price");
}
