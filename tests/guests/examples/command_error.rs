//! Answers with an error.
fn main() -> Result<(), String> {
    Err("no such order".to_owned())
}
