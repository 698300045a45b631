//! From an origin to a connection: the name is looked up once, every address is judged, and one that was judged is connected to.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::address;
use super::target::{Host, Origin};
use super::{Failure, Outside};

/// Most addresses of one name that are tried; names of large services have four to eight.
const ADDRESSES_MAX: usize = 16;

/// Longest wait for one address while there are others.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection, secured or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Whom TLS trusts: read with the first request that needs it, once a process.
#[derive(Debug, Default)]
pub(crate) struct Roots {
    further: Vec<CertificateDer<'static>>,
    /// Once it could be made; a failure is not kept, as the next request may find the files.
    config: OnceLock<Arc<ClientConfig>>,
}

impl Roots {
    pub(super) fn with(pem: &[u8]) -> Self {
        Self { further: CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect(), config: OnceLock::new() }
    }

    /// Reads files: for a thread on which that is no harm.
    fn config(&self) -> Result<Arc<ClientConfig>, String> {
        if let Some(made) = self.config.get() {
            return Ok(Arc::clone(made));
        }
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        roots.add_parsable_certificates(self.further.iter().cloned());
        if roots.is_empty() {
            let why = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
            return Err(format!("this machine trusts no root certificate{why}"));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::clone(self.config.get_or_init(|| Arc::new(config))))
    }
}

/// Connects; whoever calls bounds the time.
pub(super) async fn connect(
    origin: &Origin,
    roots: &Arc<Roots>,
    lookups: &Arc<Semaphore>,
) -> Result<Pin<Box<dyn Stream>>, Failure> {
    let addresses = resolve(&origin.host, lookups).await?;
    address::check(&origin.host, &addresses).map_err(|(address, range)| {
        Failure::Prohibited(format!(
            "`{}` leads to {address}, which is {range} (a grant for a name of the world's does not reach it)",
            origin.host
        ))
    })?;
    let stream = reach(origin, &addresses).await?;
    // A small request does not wait for the answer to the last one.
    let _ = stream.set_nodelay(true);
    if !origin.tls {
        return Ok(Box::pin(stream));
    }
    let outside = |error: &dyn std::fmt::Display| Failure::Outside(Outside::Tls, format!("no TLS with `{origin}`: {error}"));
    let roots = Arc::clone(roots);
    let config = tokio::task::spawn_blocking(move || roots.config()).await.map_err(|error| outside(&error))?;
    let connector = TlsConnector::from(config.map_err(|error| outside(&error))?);
    let name = match &origin.host {
        Host::Name(name) => ServerName::try_from(name.clone()).map_err(|error| Failure::Invalid(error.to_string()))?,
        Host::Address(address) => ServerName::from(*address),
    };
    let stream = connector.connect(name, stream).await.map_err(|error| outside(&error))?;
    Ok(Box::pin(stream))
}

/// All addresses of a host. The system's resolver can't be stopped: how many wait for it is bounded, whoever still wants the answer.
async fn resolve(host: &Host, lookups: &Arc<Semaphore>) -> Result<Vec<IpAddr>, Failure> {
    let name = match host {
        Host::Address(address) => return Ok(vec![*address]),
        Host::Name(name) => name.clone(),
    };
    let outside =
        |error: &dyn std::fmt::Display| Failure::Outside(Outside::Lookup, format!("`{host}` can't be looked up: {error}"));
    let permit = Arc::clone(lookups).acquire_owned().await.map_err(|error| outside(&error))?;
    let found = tokio::task::spawn_blocking(move || {
        let found = (name.as_str(), 0).to_socket_addrs().map(|found| found.map(|found| found.ip()).collect::<Vec<_>>());
        drop(permit);
        found
    });
    let mut found: Vec<IpAddr> = found.await.map_err(|error| outside(&error))?.map_err(|error| outside(&error))?;
    found.dedup();
    let found = interleaved(found);
    if found.is_empty() {
        return Err(outside(&"it has no address"));
    }
    Ok(found)
}

/// The two families in turn, beginning with the resolver's first: where one of them leads nowhere, the second address is of the other
/// (RFC 8305 §4).
fn interleaved(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let first_is_v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (first, other): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut other) = (first.into_iter(), other.into_iter());
    let mut all = Vec::new();
    while first.len() + other.len() > 0 {
        all.extend(first.next());
        all.extend(other.next());
    }
    all
}

/// Tries the addresses one after another.
async fn reach(origin: &Origin, addresses: &[IpAddr]) -> Result<TcpStream, Failure> {
    let mut last = String::new();
    for (at, address) in addresses.iter().take(ADDRESSES_MAX).enumerate() {
        let connecting = TcpStream::connect(SocketAddr::new(*address, origin.port));
        let is_last = at + 1 == addresses.len().min(ADDRESSES_MAX);
        let connected = if is_last { Ok(connecting.await) } else { timeout(ADDRESS_TIMEOUT, connecting).await };
        match connected {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => last = "not in time".to_owned(),
        }
    }
    Err(Failure::Outside(Outside::Connect, format!("no connection to `{origin}`: {last}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        for (found, tried) in [
            ("", ""),
            ("192.0.2.1 192.0.2.2", "192.0.2.1 192.0.2.2"),
            ("2001:db8::1 2001:db8::2 192.0.2.1", "2001:db8::1 192.0.2.1 2001:db8::2"),
            ("192.0.2.1 2001:db8::1 2001:db8::2", "192.0.2.1 2001:db8::1 2001:db8::2"),
        ] {
            let addresses = |text: &str| text.split_whitespace().map(|address| address.parse().unwrap()).collect::<Vec<_>>();
            assert_eq!(interleaved(addresses(found)), addresses(tried));
        }
    }
}
