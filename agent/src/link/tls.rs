//! TLS towards the broker: a given CA and that alone, or the authorities of this machine; and a certificate of our own
//! where the broker asks for one.

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::error::Error;

/// Certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The PEM text is malformed.
    #[error("the {0} is not PEM")]
    Pem(&'static str, #[source] rustls::pki_types::pem::Error),
    /// A certificate is malformed, or does not belong to its key.
    #[error("the {0} cannot be used")]
    Certificate(&'static str, #[source] rustls::Error),
    /// No certificate in it.
    #[error("the {0} holds no certificate")]
    Empty(&'static str),
    /// The machine believes nobody.
    #[error(
        "this machine has no certificate authorities: install ca-certificates, or set `ca_file` to the broker's CA"
    )]
    NoAuthorities,
}

/// Our own certificate chain and its key, PEM.
#[derive(Clone, Copy)]
pub struct OwnCertificate<'a> {
    /// The chain, ours first.
    pub chain_pem: &'a [u8],
    /// The private key.
    pub key_pem: &'a [u8],
}

impl std::fmt::Debug for OwnCertificate<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnCertificate").finish_non_exhaustive()
    }
}

/// A client that believes the authorities of `ca_pem`, or without it those of this machine.
///
/// # Errors
/// When certificates are malformed, or there are none.
pub fn client_config(ca_pem: Option<&[u8]>, own: Option<OwnCertificate<'_>>) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    match ca_pem {
        Some(pem) => {
            for certificate in certificates("CA file", pem)? {
                roots.add(certificate).map_err(|source| TlsError::Certificate("CA file", source))?;
            }
        }
        None => {
            // One authority that this machine keeps in an odd form is no reason to believe none.
            let (added, _odd) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if added == 0 {
                return Err(TlsError::NoAuthorities);
            }
        }
    }
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let Some(own) = own else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates("certificate file", own.chain_pem)?;
    let key = PrivateKeyDer::from_pem_slice(own.key_pem).map_err(|source| TlsError::Pem("key file", source))?;
    builder.with_client_auth_cert(chain, key).map_err(|source| TlsError::Certificate("certificate file", source))
}

fn certificates(file: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|source| TlsError::Pem(file, source))?;
    if found.is_empty() { Err(TlsError::Empty(file)) } else { Ok(found) }
}

/// What to do about a connection that failed, when certificates are why.
#[must_use]
pub fn hint(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    while let Some(error) = next {
        // tokio-rustls wraps what rustls says in an io::Error, whose own `source` leaves it out.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let inner = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner.or_else(|| error.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(_)) => {
                return Some(
                    "the broker's certificate is not believed: check its CA (`ca_file`, or `broker.ca` at the \
                     controller), its names and its dates",
                );
            }
            Some(rustls::Error::AlertReceived(_)) => {
                return Some("the broker refuses this side: it may want a certificate (`cert_file` and `key_file`)");
            }
            _ => next = error.source(),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_named() {
        let refused = |ca: &[u8], own| client_config(Some(ca), own).unwrap_err().to_string();
        assert_eq!(refused(b"no PEM", None), "the CA file holds no certificate");
        let pem = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(refused(pem, None), "the CA file cannot be used");
    }

    #[test]
    fn a_certificate_that_is_not_believed_comes_with_what_to_do() {
        let untrusted = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let wrapped = std::io::Error::new(std::io::ErrorKind::InvalidData, untrusted);
        assert!(hint(&wrapped).unwrap().contains("ca_file"));
        assert_eq!(hint(&std::io::Error::other("away")), None);
    }
}
