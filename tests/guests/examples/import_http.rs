//! Makes an HTTP request and says what it came to.
use wasip2::http::{outgoing_handler, types};

weir_guests::handler!(|_, _| {
    let address = weir_guests::config::get("address");
    for _ in 0..2 {
        let request = types::OutgoingRequest::new(types::Fields::new());
        request.set_scheme(Some(&types::Scheme::Http)).unwrap();
        request.set_authority(Some(&address)).unwrap();
        request.set_path_with_query(Some("/")).unwrap();
        match outgoing_handler::handle(request, None) {
            Err(error) => println!("refused: {error:?}"),
            Ok(response) => {
                response.subscribe().block();
                println!("answered: {:?}", response.get().map(|answer| answer.map(|answer| answer.map(drop))));
            }
        }
    }
    Ok(())
});
