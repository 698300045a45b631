//! `wasi:http/outgoing-handler` without a grant: linked, because runtimes import it by themselves, and denied at the call.

use http::{Request, Response};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::sandbox::log::GuestLog;

/// Denies every request; the first one is said in the event's log.
pub(crate) struct Denied {
    log: GuestLog,
    said: bool,
}

impl Denied {
    pub(crate) fn new(log: &GuestLog) -> Self {
        Self { log: log.clone(), said: false }
    }
}

type Finished = Box<dyn Future<Output = Result<(), Error>> + Send>;

/// Most bytes of one write to a request's body. Two writes wait in the host's memory for a sender that never comes, for each handle.
const BODY_WRITE_MAX: usize = 4 * 1024;

impl WasiHttpHooks for Denied {
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_WRITE_MAX
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        _options: Option<RequestOptions>,
        _finished: Finished,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Finished), Error>> + Send> {
        if !std::mem::replace(&mut self.said, true) {
            let host = request.uri().authority().map_or("?", http::uri::Authority::as_str);
            let host: String = host.chars().take(100).collect();
            self.log.note(&format!("weir: denied: wasi:http request to {host} (grant `http`, which is not in this version yet)"));
        }
        Box::new(async { Err(Error::HttpRequestDenied) })
    }
}
