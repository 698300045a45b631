//! What the client is told before it connects: address, login, TLS, and what is asked of the broker.

use std::path::Path;
use std::sync::Arc;

use rumqttc::v5::MqttOptions;
use rumqttc::v5::mqttbytes::v5::ConnectProperties;
use rumqttc::{NetworkOptions, TlsConfiguration, Transport};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::url::MqttUrl;
use crate::queue::QueueError;

/// Longest wait for a connection to be accepted, in seconds.
const CONNECT_SECS_MAX: u64 = 3;

/// How connections to one broker are made.
pub(super) struct Broker {
    url: MqttUrl,
    tls: Option<Arc<ClientConfig>>,
}

/// What the broker keeps for a client that is away.
#[derive(Debug, Clone, Copy)]
pub(super) struct Session {
    /// The most messages that it sends without an acknowledgement.
    pub(super) receive_max: u16,
}

impl Broker {
    /// Reads certificates; nothing is connected yet.
    ///
    /// # Errors
    /// Certificates that can't be read.
    pub(super) async fn new(url: &MqttUrl) -> Result<Self, QueueError> {
        let tls = match url.tls {
            false => None,
            true => {
                let url = url.clone();
                let read = tokio::task::spawn_blocking(move || tls(&url).map_err(|error| format!("`{url}`: {error}")));
                let read = read.await.map_err(|error| QueueError::Unavailable(error.to_string()))?;
                Some(Arc::new(read.map_err(QueueError::Invalid)?))
            }
        };
        Ok(Self { url: url.clone(), tls })
    }

    /// For a client with this id; without a session everything ends with its connection.
    pub(super) fn options(&self, client_id: &str, session: Option<Session>, inflight_max: u16) -> MqttOptions {
        let Self { url, tls } = self;
        let mut options = MqttOptions::new(client_id, url.address(), url.port);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        network.set_connection_timeout(CONNECT_SECS_MAX);
        options.set_network_options(network).set_connection_timeout(CONNECT_SECS_MAX).set_keep_alive(url.keep_alive);
        if let Some(tls) = tls {
            options.set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::clone(tls))));
        }
        if let Some((user, password)) = &url.login {
            options.set_credentials(user.as_str(), password.0.as_str());
        }
        let expiry = session.map(|_| u32::try_from(url.session.as_secs()).unwrap_or(u32::MAX));
        options.set_connect_properties(ConnectProperties {
            session_expiry_interval: expiry,
            receive_maximum: session.map(|session| session.receive_max),
            max_packet_size: Some(url.max_packet_bytes),
            ..ConnectProperties::new()
        });
        // The client has a place for each message in flight: sixteen bits of them are megabytes.
        options.set_clean_start(session.is_none()).set_manual_acks(true).set_outgoing_inflight_upper_limit(inflight_max);
        options
    }
}

/// Reads files: for a thread on which that is no harm.
fn tls(url: &MqttUrl) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match &url.authority {
        Some(file) => {
            roots.add_parsable_certificates(certificates(file)?);
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err("no certificate to trust was found [name one with `ca=`]".to_owned());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let config = config.with_root_certificates(roots);
    match &url.identity {
        None => Ok(config.with_no_client_auth()),
        Some((cert, key)) => {
            let read = PrivateKeyDer::from_pem_file(key);
            let key = read.map_err(|error| format!("the key {} can't be read: {error}", key.display()))?;
            let chain = certificates(cert)?;
            config.with_client_auth_cert(chain, key).map_err(|error| format!("certificate {}: {error}", cert.display()))
        }
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("the certificates {} can't be read: {error}", file.display());
    let read = CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))?;
    read.collect::<Result<_, _>>().map_err(|error| wrong(&error))
}
