//! Fills the fields of one HTTP request with as many KiB as the test says.
use wasip2::http::types::Fields;

weir_guests::handler!(|_, _| {
    let fields = Fields::new();
    for number in 0..weir_guests::config::get("many").parse::<u32>().unwrap() {
        fields.append(&format!("x-{number:04}"), &[b'x'; 1018]).unwrap();
    }
    Ok(())
});
