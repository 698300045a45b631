//! Whom TLS trusts, and who we say we are: files that are read for each connection, so that new ones are taken when they are there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// With the certificates of `ca` in place of the system's, and our own of `identity`. Reads files: for a thread on which that is no harm.
pub(super) fn config(ca: Option<&Path>, identity: Option<&(PathBuf, PathBuf)>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(file) => roots.add_parsable_certificates(certificates(file)?),
        None => roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
    };
    if roots.is_empty() {
        let place = ca.map_or("this machine".to_owned(), |file| format!("`{}`", file.display()));
        return Err(format!("{place} has no root certificate [`ca=FILE` names some]"));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let config = config.with_root_certificates(roots);
    let config = match identity {
        None => config.with_no_client_auth(),
        Some((cert, key)) => {
            let private =
                PrivateKeyDer::from_pem_file(key).map_err(|error| format!("can't read `{}`: {error}", key.display()))?;
            let own = config.with_client_auth_cert(certificates(cert)?, private);
            own.map_err(|error| format!("`{}` and `{}` can't be used: {error}", cert.display(), key.display()))?
        }
    };
    Ok(Arc::new(config))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("can't read `{}`: {error}", file.display());
    let read = CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))?;
    read.collect::<Result<_, _>>().map_err(|error| wrong(&error))
}
