//! Certificates for a broker behind TLS.

use std::path::{Path, PathBuf};

/// An authority made for one scenario, what it certifies, and another authority that nobody believes.
#[derive(Debug)]
pub struct Certificates {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// An authority that certifies nobody here.
    pub foreign_ca: PathBuf,
    server: PathBuf,
    server_key: PathBuf,
    pub(super) client: PathBuf,
    pub(super) client_key: PathBuf,
}

impl Certificates {
    pub(super) fn make(dir: &Path) -> anyhow::Result<Self> {
        let write = |name: &str, text: String| {
            let path = dir.join(name);
            std::fs::write(&path, text).map(|()| path)
        };
        let authority = || {
            let mut params = rcgen::CertificateParams::default();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, "authority of a scenario");
            let key = rcgen::KeyPair::generate()?;
            Ok::<_, rcgen::Error>((params.self_signed(&key)?.pem(), rcgen::Issuer::new(params, key)))
        };
        let (ca, issuer) = authority()?;
        let (foreign, _) = authority()?;
        let certify = |name: &str, host: &str| {
            let key = rcgen::KeyPair::generate()?;
            let mut params = rcgen::CertificateParams::new([host.to_owned()])?;
            // OpenSSL takes a certificate with its issuer's name for one that signed itself.
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            let certificate = params.signed_by(&key, &issuer)?;
            let path = write(&format!("{name}.pem"), certificate.pem())?;
            anyhow::Ok((path, write(&format!("{name}.key"), key.serialize_pem())?))
        };
        let (server, server_key) = certify("server", "127.0.0.1")?;
        let (client, client_key) = certify("client", "client.example")?;
        let (ca, foreign_ca) = (write("ca.pem", ca)?, write("foreign-ca.pem", foreign)?);
        Ok(Self { ca, foreign_ca, server, server_key, client, client_key })
    }

    pub(super) fn config(&self) -> String {
        let files = [("cafile", &self.ca), ("certfile", &self.server), ("keyfile", &self.server_key)];
        let lines: Vec<String> = files.iter().map(|(key, path)| format!("{key} {}", path.display())).collect();
        format!("{}\nrequire_certificate true\n", lines.join("\n"))
    }
}
