//! Requests over `wasi:http`. The bindings are the `wasip2` crate's, which brings the interfaces that these rest on.

use std::time::Duration;

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
};
use wasip2::io::streams::StreamError;

use crate::http::{Error, Request, Response, Url};

/// Bytes of one write: what a stream takes at most in a blocking one.
const WRITE: usize = 4096;

/// Bytes of one read.
const READ: u64 = 64 * 1024;

pub(crate) fn request(request: Request) -> Result<Response, Error> {
    let Request { method, url, mut headers, body, timeout, wanted } = request;
    let url = Url::parse(&url)?;
    // With its length the body goes as it is; without, in chunks, which not everybody takes.
    if !body.is_empty() || matches!(method.as_str(), "POST" | "PUT" | "PATCH") {
        headers.push(("content-length".to_owned(), body.len().to_string()));
    }
    let headers: Vec<(String, Vec<u8>)> = headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
    let headers = Fields::from_list(&headers).map_err(|error| Error::Invalid(format!("the headers can't be sent: {error:?}")))?;
    let request = OutgoingRequest::new(headers);
    let invalid = |what: &str| Error::Invalid(format!("the {what} can't be sent"));
    request.set_method(&named(&method)).map_err(|()| invalid("method"))?;
    request.set_scheme(Some(if url.tls { &Scheme::Https } else { &Scheme::Http })).map_err(|()| invalid("scheme"))?;
    request.set_authority(Some(url.authority)).map_err(|()| invalid("host"))?;
    request.set_path_with_query(Some(&url.path)).map_err(|()| invalid("path"))?;
    let outgoing = request.body().map_err(|()| invalid("body"))?;
    // Sent first, written then: the server keeps little of a body that nobody takes.
    let future = handle(request, timeout.map(options)).map_err(told)?;
    write(outgoing, &body);
    receive(&answered(&future)?, wanted)
}

fn named(method: &str) -> Method {
    match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

fn options(timeout: Duration) -> RequestOptions {
    let options = RequestOptions::new();
    let nanos = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
    // A host that can't do it has bounds of its own.
    let _ = options.set_connect_timeout(Some(nanos));
    let _ = options.set_first_byte_timeout(Some(nanos));
    let _ = options.set_between_bytes_timeout(Some(nanos));
    options
}

/// Writes the body. What goes wrong here is told better by the answer that does not come.
fn write(outgoing: OutgoingBody, body: &[u8]) {
    if let Ok(stream) = outgoing.write() {
        let _ = body.chunks(WRITE).try_for_each(|piece| stream.blocking_write_and_flush(piece));
    }
    let _ = OutgoingBody::finish(outgoing, None);
}

fn answered(future: &FutureIncomingResponse) -> Result<IncomingResponse, Error> {
    future.subscribe().block();
    match future.get() {
        Some(Ok(answer)) => answer.map_err(told),
        _ => Err(Error::Unavailable("the request has no answer".to_owned())),
    }
}

fn receive(response: &IncomingResponse, wanted: Option<usize>) -> Result<Response, Error> {
    let headers = response.headers().entries().into_iter();
    let headers =
        headers.map(|(name, value)| (name.to_ascii_lowercase(), String::from_utf8_lossy(&value).into_owned())).collect();
    let mut answer = Response { status: response.status(), headers, body: Vec::new() };
    let wanted = wanted.unwrap_or(usize::MAX);
    let Ok(body) = response.consume() else { return Ok(answer) };
    let Ok(stream) = body.stream() else { return Ok(answer) };
    while answer.body.len() < wanted {
        match stream.blocking_read(READ) {
            Ok(piece) => answer.body.extend_from_slice(&piece),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(Error::Unavailable(format!("the answer broke off: {}", error.to_debug_string())));
            }
        }
    }
    answer.body.truncate(wanted);
    Ok(answer)
}

fn told(code: ErrorCode) -> Error {
    match code {
        ErrorCode::HttpRequestDenied => Error::Denied("the request is not granted (the log says what is missing)".to_owned()),
        ErrorCode::DestinationIpProhibited => Error::Denied("the name leads to an address that is not granted".to_owned()),
        ErrorCode::HttpRequestBodySize(_) => Error::Invalid("the body is too large".to_owned()),
        ErrorCode::InternalError(Some(text)) => Error::Invalid(text),
        ErrorCode::HttpRequestUriInvalid
        | ErrorCode::HttpRequestUriTooLong
        | ErrorCode::HttpRequestMethodInvalid
        | ErrorCode::HttpProtocolError
        | ErrorCode::HttpRequestHeaderSize(_)
        | ErrorCode::HttpRequestHeaderSectionSize(_) => Error::Invalid(format!("the request can't be sent: {code:?}")),
        ErrorCode::DnsError(payload) => {
            Error::Unavailable(payload.rcode.unwrap_or_else(|| "the name can't be looked up".to_owned()))
        }
        ErrorCode::ConnectionRefused => Error::Unavailable("no connection".to_owned()),
        ErrorCode::TlsProtocolError | ErrorCode::TlsCertificateError => {
            Error::Unavailable("no TLS that can be trusted".to_owned())
        }
        ErrorCode::HttpResponseTimeout => Error::Unavailable("no answer in time".to_owned()),
        other => Error::Unavailable(format!("no answer: {other:?}")),
    }
}
