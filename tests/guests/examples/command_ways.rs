//! Does what its event says: words on stderr (`subject`), a last line on stdout (`dataschema`), the exit code (`datacontenttype`).
#[path = "../src/program.rs"]
mod program;

fn main() {
    let event = program::event();
    let field = |name| program::field(&event, name);
    println!("began");
    if let Some(words) = field("subject") {
        eprintln!("at first\n{words}");
    }
    match field("dataschema") {
        Some("reject") => println!(r#"{{"weir":{{"reject":"no such account"}}}}"#),
        Some("retry") => println!(r#"{{"weir":{{"retry":{{"reason":"later","after":"90s"}}}}}}"#),
        Some("misspelt") => println!(r#"{{"weir":{{"rety":{{}}}}}}"#),
        _ => println!("ended"),
    }
    if let Some(code) = field("datacontenttype") {
        program::exit(code.parse().unwrap());
    }
}
