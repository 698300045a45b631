//! Requests over `wasi:http`, without care: what a guest may do wrong can be done with it.

use wasip2::http::types::{ErrorCode, Fields, FutureIncomingResponse, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme};
use wasip2::http::outgoing_handler;
use wasip2::io::streams::StreamError;

/// What came of a request: the status and the body, or the body's error.
pub type Came = Result<(u16, Result<Vec<u8>, String>), ErrorCode>;

/// Sends a request to `http://host/path` and reads the whole answer.
pub fn ask(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Came {
    let response = begin(method, url, headers, body)?;
    let status = response.status();
    let body = response.consume().unwrap();
    let stream = body.stream().unwrap();
    let mut read = Vec::new();
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(piece) => read.extend(piece),
            Err(StreamError::Closed) => break Ok((status, Ok(read))),
            Err(StreamError::LastOperationFailed(error)) => break Ok((status, Err(error.to_debug_string()))),
        }
    }
}

/// Sends a request and waits for the beginning of the answer.
pub fn begin(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<IncomingResponse, ErrorCode> {
    let (outgoing, future) = open(method, url, headers)?;
    {
        let stream = outgoing.write().unwrap();
        let _ = body.chunks(4096).try_for_each(|piece| stream.blocking_write_and_flush(piece));
    }
    let _ = OutgoingBody::finish(outgoing, None);
    future.subscribe().block();
    future.get().unwrap().unwrap()
}

/// Sends the head of a request: its body is still to be written.
pub fn open(method: &str, url: &str, headers: &[(&str, &str)]) -> Result<(OutgoingBody, FutureIncomingResponse), ErrorCode> {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let list: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    let request = OutgoingRequest::new(Fields::from_list(&list).unwrap());
    request.set_method(&if method == "GET" { Method::Get } else { Method::Other(method.to_owned()) }).unwrap();
    request.set_scheme(Some(&if scheme == "https" { Scheme::Https } else { Scheme::Http })).unwrap();
    request.set_authority(Some(authority)).unwrap();
    request.set_path_with_query(Some(path)).unwrap();
    let outgoing = request.body().unwrap();
    let future = outgoing_handler::handle(request, None)?;
    Ok((outgoing, future))
}
