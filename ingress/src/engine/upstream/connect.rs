//! New connections to endpoints.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use landfall_ingress_model::backend::Protocol;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use socket2::{SockRef, TcpKeepalive};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::pool::Origin;
use super::stream::UpstreamStream;
use crate::lack::is_lack;

/// When a silent connection is asked whether it still stands: a minute, then three times every 20 seconds.
const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_COUNT: u32 = 3;

/// Why there is no connection.
#[derive(Debug, Error)]
pub(in crate::engine) enum ConnectError {
    /// It took too long.
    #[error("the endpoint did not take the connection in time")]
    TimedOut,
    /// The endpoint, or something on the way, said no.
    #[error("the endpoint can't be connected to: {0}")]
    Refused(io::Error),
    /// The TLS handshake failed.
    #[error("the TLS handshake with the endpoint failed: {0}")]
    Handshake(io::Error),
    /// HTTP/2 could not be begun.
    #[error("the endpoint does not speak HTTP/2: {0}")]
    Http2(h2::Error),
    /// This process can't open another connection, which is no fault of the endpoint.
    #[error("this process has no file descriptor or port left: {0}")]
    Exhausted(io::Error),
}

impl ConnectError {
    fn of(error: io::Error) -> Self {
        if is_lack(&error) { Self::Exhausted(error) } else { Self::Refused(error) }
    }
}

/// Makes connections.
#[derive(Clone)]
pub(super) struct Connector {
    /// Offers HTTP/2 and HTTP/1.1.
    either: TlsConnector,
    /// Offers HTTP/1.1.
    http1: TlsConnector,
}

impl Connector {
    pub(super) fn new(provider: &Arc<CryptoProvider>) -> Result<Self, rustls::Error> {
        let config = |protocols: &[&[u8]]| {
            let mut config = ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()?
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Unverified(provider.clone())))
                .with_no_client_auth();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            Ok::<_, rustls::Error>(TlsConnector::from(Arc::new(config)))
        };
        Ok(Self { either: config(&[b"h2", b"http/1.1"])?, http1: config(&[b"http/1.1"])? })
    }

    /// A connection within `limit`.
    pub(super) async fn connect(&self, origin: &Origin, limit: Duration) -> Result<UpstreamStream, ConnectError> {
        timeout(limit, self.open(origin)).await.map_err(|_| ConnectError::TimedOut)?
    }

    async fn open(&self, origin: &Origin) -> Result<UpstreamStream, ConnectError> {
        let tcp = TcpStream::connect(origin.address).await.map_err(ConnectError::of)?;
        let socket = SockRef::from(&tcp);
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_COUNT);
        // Without either a connection works, only less well.
        let _ = socket.set_tcp_keepalive(&keepalive);
        let _ = tcp.set_nodelay(true);
        let Some(name) = &origin.server_name else { return Ok(UpstreamStream::Plain(tcp)) };
        let connector = if origin.protocol == super::Protocols::Http1 { &self.http1 } else { &self.either };
        let tls = connector.connect(name.clone(), tcp).await.map_err(ConnectError::Handshake)?;
        Ok(UpstreamStream::Tls(Box::new(tls)))
    }
}

/// The name to ask for in the handshake: the host, unless it is an address or no DNS name. The endpoint's address in
/// its place means that none is asked for. `None` where the protocol is not TLS.
pub(in crate::engine) fn server_name(
    protocol: Protocol,
    host: &str,
    address: SocketAddr,
) -> Option<ServerName<'static>> {
    if protocol != Protocol::Https {
        return None;
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_end_matches('.');
    match ServerName::try_from(name.to_owned()) {
        Ok(name @ ServerName::DnsName(_)) => Some(name),
        _ => Some(ServerName::IpAddress(address.ip().into())),
    }
}

/// Nothing in an Ingress names the CA of a backend, so there is nothing to verify a certificate against.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
