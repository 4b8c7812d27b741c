//! TLS towards the broker: a given CA, and that alone.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// A CA that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The PEM text is malformed.
    #[error("the CA file is not PEM")]
    Pem(#[source] rustls::pki_types::pem::Error),
    /// A certificate is malformed.
    #[error("a certificate of the CA file is not valid")]
    Certificate(#[source] rustls::Error),
    /// No certificate in it.
    #[error("the CA file holds no certificate")]
    Empty,
}

/// A client that believes the certificates of `ca_pem`.
///
/// # Errors
/// When they are malformed or none.
pub fn client_config(ca_pem: &[u8]) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem) {
        roots.add(certificate.map_err(TlsError::Pem)?).map_err(TlsError::Certificate)?;
    }
    if roots.is_empty() {
        return Err(TlsError::Empty);
    }
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}
