//! New connections to endpoints.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use landfall_ingress_model::backend::Protocol;
use landfall_ingress_model::policy::{AskedName, UpstreamTls, Verify};
use moka::sync::Cache;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme};
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
    /// Its certificate is not the one that an Ingress asks for, which says nothing about the endpoint.
    #[error("the certificate of the endpoint is not trusted: {0}")]
    Untrusted(io::Error),
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

    fn of_handshake(error: io::Error) -> Self {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
        let untrusted = matches!(cause, Some(rustls::Error::InvalidCertificate(_)));
        if untrusted { Self::Untrusted(error) } else { Self::Handshake(error) }
    }
}

/// Settings that Ingresses ask for, and how long they are kept when nobody needs them.
const OWN: u64 = 1024;
const OWN_IDLE: Duration = Duration::from_hours(1);
/// The protocols that are offered, by the versions of HTTP that may be spoken.
const EITHER: &[&[u8]] = &[b"h2", b"http/1.1"];
const HTTP1: &[&[u8]] = &[b"http/1.1"];

/// Makes connections.
#[derive(Clone)]
pub(super) struct Connector {
    provider: Arc<CryptoProvider>,
    /// Offers HTTP/2 and HTTP/1.1.
    either: TlsConnector,
    /// Offers HTTP/1.1.
    http1: TlsConnector,
    /// What Ingresses ask for; true: offers HTTP/1.1 only.
    own: Cache<(Arc<UpstreamTls>, bool), TlsConnector>,
}

impl Connector {
    pub(super) fn new(provider: &Arc<CryptoProvider>) -> Result<Self, rustls::Error> {
        let config = |protocols| settings(provider, &UpstreamTls::default(), protocols);
        let own = Cache::builder().max_capacity(OWN).time_to_idle(OWN_IDLE).build();
        Ok(Self { provider: provider.clone(), either: config(EITHER)?, http1: config(HTTP1)?, own })
    }

    /// How TLS is to be spoken.
    fn tls(&self, origin: &Origin) -> Result<TlsConnector, ConnectError> {
        let only_http1 = origin.protocol == super::Protocols::Http1;
        let Some(tls) = &origin.tls else {
            return Ok(if only_http1 { self.http1.clone() } else { self.either.clone() });
        };
        let make = || settings(&self.provider, tls, if only_http1 { HTTP1 } else { EITHER });
        let own = self.own.try_get_with((tls.clone(), only_http1), make);
        own.map_err(|error| ConnectError::Handshake(io::Error::other(error)))
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
        // Boxed, so that requests that need none do not hold the space for a handshake.
        let handshake = Box::pin(self.tls(origin)?.connect(name.clone(), tcp));
        let tls = handshake.await.map_err(ConnectError::of_handshake)?;
        Ok(UpstreamStream::Tls(Box::new(tls)))
    }
}

/// The name to ask for in the handshake: the host or what an Ingress says, unless it is an address or no DNS name. The
/// endpoint's address in its place means that none is asked for. `None` where the protocol is not TLS.
pub(in crate::engine) fn server_name(
    protocol: Protocol,
    host: &str,
    address: SocketAddr,
    tls: Option<&UpstreamTls>,
) -> Option<ServerName<'static>> {
    if protocol != Protocol::Https {
        return None;
    }
    let host = match tls.map(|tls| &tls.asked) {
        None | Some(AskedName::Host) => host,
        Some(AskedName::Name(name)) => name,
        Some(AskedName::Nothing) => return Some(ServerName::IpAddress(address.ip().into())),
    };
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_end_matches('.');
    match ServerName::try_from(name.to_owned()) {
        Ok(name @ ServerName::DnsName(_)) => Some(name),
        _ => Some(ServerName::IpAddress(address.ip().into())),
    }
}

/// The settings of connections, as an Ingress asks for them.
fn settings(
    provider: &Arc<CryptoProvider>,
    tls: &UpstreamTls,
    protocols: &[&[u8]],
) -> Result<TlsConnector, rustls::Error> {
    let provider = &crate::within(provider, tls.ciphers.as_ref());
    let verifier = Verifier { provider: provider.clone(), verify: tls.verify.clone() };
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&crate::protocol_versions(tls.versions))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &tls.certificate {
        Some(certificate) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::clone(certificate))))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Verifies the certificates of endpoints as an Ingress asks for it. Where it names no authorities, there is nothing to
/// verify against.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    verify: Option<Verify>,
}

impl ServerCertVerifier for Verifier {
    /// The name that is asked for in the handshake may be another one than that of the certificate, or none.
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(verify) = &self.verify {
            let chain: Vec<CertificateDer<'_>> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
            verify.verify(&chain, now).map_err(|flaw| CertificateError::Other(OtherError(Arc::new(flaw))))?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
