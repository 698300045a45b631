//! Calls itself for ever.
fn deeper(depth: &mut u64) -> u64 {
    *depth += 1;
    let mut here = *depth;
    std::hint::black_box(&mut here);
    deeper(depth) + here
}

fn main() {
    println!("{}", deeper(&mut 0));
}
