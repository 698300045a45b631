//! The little HTTP that NSQ needs: what `nsqlookupd` knows, and what an `nsqd` counts. One request, one connection.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::connection::Address;

/// Longest wait for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// Longest answer: a topic with some thousand channels, a cluster with some thousand servers.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Asks, and reads the answer: its status and its body.
pub(in crate::queue::nsq) async fn ask(method: Method, address: &Address, path: &str) -> Result<(StatusCode, Bytes), String> {
    match timeout(ANSWER_MAX, asked(method, address, path)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(format!("http://{address}: {error}")),
        Err(_) => Err(format!("http://{address} does not answer")),
    }
}

async fn asked(method: Method, address: &Address, path: &str) -> Result<(StatusCode, Bytes), String> {
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let request = Request::builder().method(method).uri(path).header(HOST, address.to_string()).header(CONTENT_LENGTH, 0);
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|error| error.to_string())?;
    Ok((status, body.to_bytes()))
}
