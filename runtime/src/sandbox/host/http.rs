//! `wasi:http/outgoing-handler`: linked always, because runtimes import it by themselves. Without a grant every request is denied; with one
//! it is counted here and made by the handler's client (`outgoing.rs`), and what came of it is noted for the outcome.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use http::{HeaderName, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host as _;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::{Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks, WasiHttpView as _};

use super::email::{OverRequests, call_bound};
use crate::outcome::Limit;
use crate::outgoing::body::{Gone, Written};
use crate::outgoing::{Bounds, Client, Failure, Outside, Target};
use crate::sandbox::log::GuestLog;
use crate::sandbox::state::State;

/// The version under which wasmtime-wasi-http links it; the linker's semver rule does the rest.
const VERSION: &str = "0.2.12";

/// Most bytes of one write to a request's body. Two writes wait in the host's memory for a sender that never comes, for each handle.
const BODY_WRITE_MAX: usize = 4 * 1024;

/// Statuses by which the other side says that it can't now (delivery.md §1).
const AWAY: [StatusCode; 4] =
    [StatusCode::TOO_MANY_REQUESTS, StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];

type Handled = (Result<Resource<HostFutureIncomingResponse>, ErrorCode>,);

/// Puts a function that counts in the place of the one that is linked: what is over the limit traps.
pub(crate) fn add(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut instance = linker.instance(&format!("wasi:http/outgoing-handler@{VERSION}"))?;
    instance.func_wrap(
        "handle",
        |store: StoreContextMut<'_, State>,
         (request, options): (Resource<HostOutgoingRequest>, Option<Resource<RequestOptions>>)| {
            handle(store, request, options)
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

fn handle(
    mut store: StoreContextMut<'_, State>,
    request: Resource<HostOutgoingRequest>,
    options: Option<Resource<RequestOptions>>,
) -> wasmtime::Result<Handled> {
    let state = store.data_mut();
    let most = state.limits.requests;
    // Without a grant nothing leaves, however often it is asked for.
    if state.setup.http.is_some() {
        if state.requests >= most {
            state.over.get_or_insert(Limit { name: "requests", value: u64::from(most) });
            return Err(OverRequests.into());
        }
        state.requests += 1;
    }
    match state.http().handle(request, options) {
        Ok(response) => Ok((Ok(response),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}

/// What requests of one run came to, written by tasks that the run does not wait for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Noted(Arc<Mutex<Notes>>);

#[derive(Debug, Default)]
struct Notes {
    outside: Option<String>,
    over: Option<Limit>,
}

impl Noted {
    // Poisoning can't happen: nothing under the lock panics.
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first outside failure.
    pub(crate) fn outside(&self) -> Option<String> {
        self.notes().outside.clone()
    }

    /// The limit on responses, if one passed it: the run traps.
    pub(crate) fn over(&self) -> Option<Limit> {
        self.notes().over
    }

    /// Notes a failure and answers what the guest is told of it.
    fn failed(&self, failure: Failure) -> Error {
        match &failure {
            Failure::Outside(..) => drop(self.notes().outside.get_or_insert_with(|| format!("http: {failure}"))),
            Failure::ResponseTooLarge(value) => drop(self.notes().over.get_or_insert(Limit { name: "response", value: *value })),
            _ => {}
        }
        told(failure)
    }

    fn answered(&self, status: StatusCode, target: &Target) {
        if AWAY.contains(&status) {
            self.notes().outside.get_or_insert_with(|| format!("http: `{}` answered {}", target.origin, status.as_u16()));
        }
    }
}

/// A failure in the words of WASI.
fn told(failure: Failure) -> Error {
    match failure {
        Failure::Denied(_) => Error::HttpRequestDenied,
        Failure::Prohibited(_) => Error::DestinationIpProhibited,
        Failure::Invalid(text) => Error::InternalError(Some(text)),
        Failure::RequestTooLarge => Error::HttpRequestBodySize(Some(crate::outgoing::body::REQUEST_MAX)),
        Failure::ResponseTooLarge(bound) => Error::HttpResponseBodySize(Some(bound)),
        Failure::Outside(Outside::Lookup, text) => Error::DnsError { rcode: Some(text), info_code: None },
        Failure::Outside(Outside::Connect, _) => Error::ConnectionRefused,
        Failure::Outside(Outside::Tls, _) => Error::TlsProtocolError,
        Failure::Outside(Outside::TimeOut, _) => Error::HttpResponseTimeout,
        Failure::Outside(Outside::Broken, _) => Error::ConnectionTerminated,
    }
}

/// The requests of one run.
pub(crate) struct Requests {
    client: Option<Arc<Client>>,
    /// False while a version is probed: nothing leaves then.
    live: bool,
    deadline: Instant,
    response: u64,
    log: GuestLog,
    noted: Noted,
    /// What was denied has been said: once is enough, however often it is tried.
    said: Arc<Mutex<bool>>,
    /// Set with the end of the run.
    gone: Gone,
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.gone.set();
    }
}

impl Requests {
    pub(crate) fn new(state: &State) -> Self {
        Self {
            client: state.setup.http.clone(),
            live: !state.is_probed(),
            deadline: state.deadline,
            response: state.setup.limits.response,
            log: state.log.clone(),
            noted: state.noted.clone(),
            said: Arc::default(),
            gone: Gone::default(),
        }
    }

    fn admit(&self, request: &http::request::Parts) -> Result<(Arc<Client>, Target), Failure> {
        let denied = |text: &str| Failure::Denied(text.to_owned());
        let Some(client) = &self.client else {
            let method = &request.method;
            let origin = request.uri.authority().map_or("HOST", http::uri::Authority::host);
            let text =
                format!("grant `http` is missing, such as http = [{{ url = \"https://{origin}/*\", methods = [\"{method}\"] }}]");
            return Err(Failure::Denied(text.chars().take(SAID_CHARS).collect()));
        };
        if !self.live {
            return Err(denied("no request leaves while a new version is probed"));
        }
        Ok((Arc::clone(client), client.admit(request)?))
    }

    fn bounds(&self, options: Option<RequestOptions>) -> Bounds {
        let (now, options) = (Instant::now(), options.unwrap_or_default());
        Bounds {
            until: (now + call_bound(self.deadline, now)).into(),
            connect: options.connect_timeout,
            first_byte: options.first_byte_timeout,
            between_bytes: options.between_bytes_timeout,
            response: self.response,
        }
    }
}

/// Most characters of what is said of one denied request.
const SAID_CHARS: usize = 300;

/// Says the first denied request in the event's log. Of its address only what is before the path: a path may be a secret.
fn say(log: &GuestLog, said: &Mutex<bool>, (what, failure): (&str, &Failure)) {
    if let Failure::Denied(why) | Failure::Prohibited(why) = failure
        && !std::mem::replace(&mut *said.lock().unwrap_or_else(PoisonError::into_inner), true)
    {
        log.note(&format!("weir: denied: wasi:http {what} ({why})"));
    }
}

type Finished = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Box<dyn Future<Output = Result<(Response<WasiBody>, Finished), Error>> + Send>;

impl WasiHttpHooks for Requests {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(|name: &HeaderName| Client::is_forbidden(name))
    }

    fn set_host_header(&mut self) -> bool {
        false
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_WRITE_MAX
    }

    fn send_request(&mut self, request: Request<WasiBody>, options: Option<RequestOptions>, _finished: Finished) -> Sent {
        let (head, body) = request.into_parts();
        let authority = head.uri.authority().map_or("?", http::uri::Authority::as_str);
        // Without userinfo before it is cut: half a secret is masked nowhere.
        let host: String = authority.rsplit('@').next().unwrap_or_default().chars().take(100).collect();
        let what = format!("{} request to {host}", head.method);
        let (log, said, noted) = (self.log.clone(), Arc::clone(&self.said), self.noted.clone());
        let (client, target) = match self.admit(&head) {
            Ok(admitted) => admitted,
            Err(failure) => {
                say(&log, &said, (&what, &failure));
                return Box::new(async move { Err(noted.failed(failure)) });
            }
        };
        let bounds = self.bounds(options);
        let body = body.map_err(|error| Failure::Invalid(format!("the request's body broke off: {error}"))).boxed_unsync();
        let body = Written::new(body, self.gone.clone()).boxed_unsync();
        Box::new(async move {
            let sent = client.send(target.clone(), Request::from_parts(head, body), bounds).await;
            let response = sent.map_err(|failure| {
                say(&log, &said, (&what, &failure));
                noted.failed(failure)
            })?;
            noted.answered(response.status(), &target);
            let response = response.map(|body| body.map_err(move |failure| noted.failed(failure)).boxed_unsync());
            let finished: Finished = Box::new(async { Ok(()) });
            Ok((response, finished))
        })
    }
}

/// A response over the limit `response`: it traps, so that a handler that ignores errors is not taken for done.
#[derive(Debug, thiserror::Error)]
#[error("took in more of a response than its limit `response`")]
pub(crate) struct OverResponse;
