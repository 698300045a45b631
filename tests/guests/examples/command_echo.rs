//! Writes what it read, and says something beside it.
fn main() {
    let mut event = String::new();
    std::io::Read::read_to_string(&mut std::io::stdin(), &mut event).unwrap();
    eprintln!("{} bytes", event.len());
    print!("{event}");
}
