//! TLS: which certificate and settings answer a handshake.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use landfall_ingress_model::host::HostName;
use landfall_ingress_model::table::Table;
use rustls::crypto::CryptoProvider;
use rustls::server::{Acceptor, ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ProtocolVersion, ServerConfig};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use thiserror::Error;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::stream::Socket;

/// Why TLS can't be offered.
#[derive(Debug, Error)]
pub enum TlsError {
    /// No self-signed certificate could be made.
    #[error("cannot make a self-signed certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The provider refuses its own defaults.
    #[error("cannot set up TLS: {0}")]
    Setup(#[from] rustls::Error),
}

/// Answers handshakes. All workers share one, so that a session that one of them began can be resumed at another.
#[derive(Debug)]
pub(super) struct Tls {
    /// The settings of every host that has none of its own.
    common: Arc<ServerConfig>,
}

impl Tls {
    /// Takes the certificates from the table of the moment, so that a change counts from the next handshake on.
    pub(super) fn new(table: Arc<ArcSwap<Table>>, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let certificates = Certificates { table, fallback: Arc::new(self_signed(provider)?) };
        let mut config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(certificates));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Tickets carry the session, sealed with keys that rotate, so nothing is stored here for a client. A ticket
        // is good only for the server name it was given for, which rustls checks.
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self { common: Arc::new(config) })
    }

    /// The settings for a handshake. This is where a host's own would be chosen.
    fn config(&self, _hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        self.common.clone()
    }

    /// Does the handshake.
    pub(super) async fn accept(&self, socket: Socket) -> io::Result<TlsStream<Socket>> {
        let start = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
        let config = self.config(&start.client_hello());
        start.into_stream(config).await
    }
}

/// The version as it is written.
pub(super) fn version_text(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "unknown",
    }
}

/// Chooses the certificate by server name.
#[derive(Debug)]
struct Certificates {
    table: Arc<ArcSwap<Table>>,
    fallback: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| HostName::from_authority(name).ok());
        let table = self.table.load();
        let found = table.certificates.find(name.as_ref());
        Some(found.map_or_else(|| self.fallback.clone(), |certificate| certificate.key.clone()))
    }
}

/// A certificate for handshakes that no other answers. Nobody trusts it, but the client gets an answer that says so.
fn self_signed(provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = rcgen::CertificateParams::new(vec!["ingress.local".to_owned()])?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "Landfall default certificate");
    let certificate = params.self_signed(&key)?;
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let signer = provider.key_provider.load_private_key(der)?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], signer))
}
