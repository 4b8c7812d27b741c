//! Certificates and keys from PEM files, for every side that speaks TLS: rustls with ring, nothing else.

use crate::config::TlsFiles;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that is not PEM, or cannot be read.
    #[error("cannot read `{}`", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// The reason.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// A file without a certificate.
    #[error("`{}` holds no certificate", path.display())]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// rustls would not.
    #[error("cannot use the certificates in `{}`", path.display())]
    Rustls {
        /// Which.
        path: PathBuf,
        /// The reason.
        #[source]
        source: rustls::Error,
    },
    /// The machine has no certificate authorities.
    #[error("the machine has no certificate authorities: install ca-certificates, or set `broker.ca`")]
    NoAuthorities,
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::Pem { path: path.to_owned(), source };
    let found = CertificateDer::pem_file_iter(path).map_err(failed)?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(failed)?;
    if found.is_empty() { Err(TlsError::Empty { path: path.to_owned() }) } else { Ok(found) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|source| TlsError::Pem { path: path.to_owned(), source })
}

/// The side that listens.
///
/// # Errors
/// When a file cannot be read, or the key does not belong to the certificate.
pub fn server(files: &TlsFiles, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates(&files.cert)?;
    let key = private_key(&files.key)?;
    let refused = |source| TlsError::Rustls { path: files.cert.clone(), source };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(refused)?;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

/// The side that connects, believing only the authorities in a file.
///
/// # Errors
/// When the file cannot be read or holds no authority.
pub fn client(authorities: &Path, own: Option<&TlsFiles>) -> Result<Arc<ClientConfig>, TlsError> {
    let refused = |source| TlsError::Rustls { path: authorities.to_owned(), source };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authorities)? {
        roots.add(certificate).map_err(refused)?;
    }
    client_believing(roots, own)
}

/// The side that connects, believing the authorities of the machine.
///
/// # Errors
/// When it has none.
pub fn client_with_system_authorities(own: Option<&TlsFiles>) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    let (added, _odd) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        return Err(TlsError::NoAuthorities);
    }
    client_believing(roots, own)
}

/// With a certificate of its own where the other side asks for one.
fn client_believing(roots: RootCertStore, own: Option<&TlsFiles>) -> Result<Arc<ClientConfig>, TlsError> {
    let path = own.map_or_else(|| PathBuf::from("the system's store"), |own| own.cert.clone());
    let refused = |source| TlsError::Rustls { path: path.clone(), source };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(refused)?.with_root_certificates(roots);
    Ok(Arc::new(match own {
        Some(own) => {
            builder.with_client_auth_cert(certificates(&own.cert)?, private_key(&own.key)?).map_err(refused)?
        }
        None => builder.with_no_client_auth(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_certificate_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cert.pem");
        fieldpost_shared::durable::write_atomic(dir.path(), "cert.pem", b"not PEM").unwrap();
        let files = TlsFiles { cert: path.clone(), key: path.clone() };
        assert!(matches!(server(&files, &[]), Err(TlsError::Empty { .. })));
        let files = TlsFiles { cert: dir.path().join("none.pem"), key: path };
        assert!(server(&files, &[]).unwrap_err().to_string().contains("none.pem"));
    }
}
