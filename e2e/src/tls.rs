//! TLS as a client: which authorities are trusted, and the handshake.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Authorities to trust, read once.
#[derive(Clone, Debug)]
pub struct Trust(Arc<RootCertStore>);

impl Trust {
    /// Trusts the certificates in the PEM file at `path` and no others.
    pub fn from_file(path: &Path) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_file_iter(path).with_context(|| format!("{}", path.display()))?;
        for certificate in certificates {
            roots.add(certificate?)?;
        }
        Ok(Self(Arc::new(roots)))
    }

    /// A handshake with `addr` as a client of `name` that offers `protocols` by ALPN.
    pub async fn connect(&self, addr: SocketAddr, name: &str, protocols: &[&str]) -> Result<TlsStream<TcpStream>> {
        self.handshake(tcp(addr).await?, name, protocols).await
    }

    /// The same on a connection that is there.
    pub async fn handshake(&self, stream: TcpStream, name: &str, protocols: &[&str]) -> Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned())?;
        Ok(self.connector(protocols)?.connect(name, stream).await?)
    }

    /// A client that offers `protocols` and resumes the sessions that it has had.
    pub fn connector(&self, protocols: &[&str]) -> Result<TlsConnector> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(Arc::clone(&self.0))
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

/// A TCP connection that sends small writes at once.
pub async fn tcp(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
