//! Tries to set headers that are not a guest's to set.
use wasip2::http::types::Fields;

weir_guests::handler!(|_, _| {
    for name in ["Host", "Connection", "Transfer-Encoding", "TE", "Trailer", "Upgrade", "Proxy-Authorization", "Keep-Alive", "x-fine"] {
        let fields = Fields::new();
        println!("{name}: {:?}", fields.append(name, b"x").map_err(|error| format!("{error:?}")));
    }
    Ok(())
});
