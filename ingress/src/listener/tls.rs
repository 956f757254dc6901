//! TLS: which certificate and settings answer a handshake.

mod hello;
mod stream;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use landfall_ingress_model::acme::challenges::Challenges;
use landfall_ingress_model::authorities::Authorities;
use landfall_ingress_model::host::HostName;
use landfall_ingress_model::pipeline::{self, ClientCertificate, TlsSession};
use landfall_ingress_model::policy::{ClientCertificates, cipher_name};
use landfall_ingress_model::table::{HostTls, Table, TlsRules};
use moka::sync::Cache;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CommonState, DigitallySignedStruct, DistinguishedName, HandshakeKind, ProtocolVersion, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::server_name::{Asked, asked_name};
pub(super) use stream::TlsStream;

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

/// Bytes of the first message of a handshake (RFC 8446 section 4.1.2), which rustls takes no more of either.
const MAX_HELLO: usize = 64 * 1024;
/// The protocol of RFC 8737.
const ACME_TLS: &[u8] = b"acme-tls/1";
/// Settings of hosts that ask for client certificates, and how long they are kept when nobody comes.
const ASKING: u64 = 1024;
const ASKING_IDLE: Duration = Duration::from_hours(24);

/// Answers handshakes. All workers share one, so that a session that one of them began can be resumed at another.
#[derive(Debug)]
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
    certificates: Arc<Certificates>,
    /// What holds under the rules of the table; other ones once these have changed.
    settings: ArcSwap<Settings>,
    /// The challenges of our own that are answered.
    challenges: Arc<Challenges>,
}

/// The settings of handshakes under the same rules.
#[derive(Debug)]
struct Settings {
    rules: TlsRules,
    /// Those of every host that has none of its own.
    common: Arc<ServerConfig>,
    /// Those of other hosts. Each has tickets of its own, so that a session in which no certificate was asked for
    /// can't be resumed where one is.
    own: Cache<Own, Arc<ServerConfig>>,
}

/// What a host asks for.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Own {
    /// Certificates of clients, by these authorities.
    authorities: Option<Arc<Authorities>>,
    tls: Option<HostTls>,
}

impl Tls {
    /// Takes the certificates from the table of the moment, so that a change counts from the next handshake on.
    pub(super) fn new(
        table: Arc<ArcSwap<Table>>,
        challenges: Arc<Challenges>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let certificates = Arc::new(Certificates { table, fallback: Arc::new(self_signed(provider)?) });
        let settings = Settings::new(provider, &certificates, TlsRules::default())?;
        Ok(Self { provider: provider.clone(), certificates, settings: ArcSwap::from_pointee(settings), challenges })
    }

    /// The settings for a handshake, and what the host asks of its clients' certificates.
    fn config(
        &self,
        hello: &ClientHello<'_>,
        local: IpAddr,
    ) -> io::Result<(Arc<ServerConfig>, Option<Arc<ClientCertificates>>)> {
        let name = hello.server_name().and_then(|name| HostName::from_authority(name).ok());
        let table = self.certificates.table.load();
        let mut settings = self.settings.load();
        if settings.rules != table.connections.tls {
            let rules = table.connections.tls.clone();
            let changed = Settings::new(&self.provider, &self.certificates, rules).map_err(io::Error::other)?;
            self.settings.store(Arc::new(changed));
            settings = self.settings.load();
        }
        let host = table.host(name.as_ref());
        let policy = host.asks().cloned();
        let authorities = policy.as_ref().and_then(|policy| policy.asks());
        let policy = policy.as_ref().filter(|_| authorities.is_some()).cloned();
        let own = Own { authorities: authorities.cloned(), tls: host.tls().cloned() };
        if own == Own::default() {
            return Ok((self.common_for(&settings, name.as_ref(), local), policy));
        }
        let make = || make(&self.provider, &self.certificates, &settings.rules, &own);
        let config = settings.own.try_get_with_by_ref(&own, make).map_err(io::Error::other)?;
        Ok((config, policy))
    }

    /// The settings of a host that has none of its own. Where there are certificates for addresses, a client without a
    /// server name gets that of the address which it has connected to.
    fn common_for(&self, settings: &Settings, name: Option<&HostName>, local: IpAddr) -> Arc<ServerConfig> {
        if name.is_some() || self.certificates.table.load().certificates.addresses.is_empty() {
            return settings.common.clone();
        }
        let mut config = (*settings.common).clone();
        config.cert_resolver = Arc::new(Unnamed { certificates: self.certificates.clone(), local });
        Arc::new(config)
    }

    /// The settings for a CA that looks for the proof of a host (RFC 8737), if there is one.
    fn proof(&self, hello: &ClientHello<'_>) -> io::Result<Option<Arc<ServerConfig>>> {
        if !hello.alpn().is_some_and(|mut protocols| protocols.any(|protocol| protocol == ACME_TLS)) {
            return Ok(None);
        }
        let name = hello.server_name().and_then(|name| HostName::from_authority(name).ok());
        let Some(certificate) = name.and_then(|name| self.challenges.tls_alpn_01(&name)) else { return Ok(None) };
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certificate)));
        config.alpn_protocols = vec![ACME_TLS.to_vec()];
        Ok(Some(Arc::new(config)))
    }

    /// Does the handshake with a client whose first bytes are `ahead`; says what is known of it then. `None`: it was all
    /// that the client wanted.
    pub(super) async fn accept(
        &self,
        mut tcp: TcpStream,
        mut ahead: BytesMut,
        local: IpAddr,
    ) -> io::Result<Option<(TlsStream<TcpStream>, pipeline::Tls)>> {
        let hello = hello::read(&mut tcp, &mut ahead, MAX_HELLO).await?;
        if let Some(config) = self.proof(&hello.client_hello())? {
            // The CA has seen what it wants, and closes.
            let _ = TlsStream::accept(tcp, config, &ahead).await?.shutdown().await;
            return Ok(None);
        }
        let (config, policy) = self.config(&hello.client_hello(), local)?;
        let server_name = hello.client_hello().server_name().and_then(|name| HostName::from_authority(name).ok());
        drop(hello);
        let stream = TlsStream::accept(tcp, config, &ahead).await?;
        let state = stream.get_ref().1;
        // A session that is resumed has the certificate that it began with, which is looked at again.
        let client = state.peer_certificates().and_then(|chain| {
            let chain = chain.iter().cloned().map(CertificateDer::into_owned).collect();
            ClientCertificate::new(chain, UnixTime::now(), policy.as_deref()).map(Arc::new)
        });
        let session = session(state);
        Ok(Some((stream, pipeline::Tls { server_name, client, session })))
    }
}

/// What was agreed on, in OpenSSL's names.
fn session(state: &CommonState) -> TlsSession {
    let protocol = match state.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "",
    };
    let cipher = state.negotiated_cipher_suite().map(|suite| u16::from(suite.suite())).and_then(cipher_name);
    let is_resumed = state.handshake_kind() == Some(HandshakeKind::Resumed);
    TlsSession { protocol, cipher: cipher.unwrap_or_default(), is_resumed }
}

impl Settings {
    fn new(
        provider: &Arc<CryptoProvider>,
        certificates: &Arc<Certificates>,
        rules: TlsRules,
    ) -> Result<Self, rustls::Error> {
        let common = make(provider, certificates, &rules, &Own::default())?;
        let own = Cache::builder().max_capacity(ASKING).time_to_idle(ASKING_IDLE).build();
        Ok(Self { rules, common, own })
    }
}

/// The settings of hosts that ask for this.
fn make(
    provider: &Arc<CryptoProvider>,
    certificates: &Arc<Certificates>,
    rules: &TlsRules,
    own: &Own,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let host = own.tls.as_ref();
    let ciphers = host.and_then(|host| host.ciphers.as_ref()).or(rules.ciphers.as_ref());
    let provider = &crate::within(provider, ciphers);
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&crate::protocol_versions(rules.versions))?;
    let builder = match &own.authorities {
        Some(authorities) => {
            let asking = Asking { provider: provider.clone(), names: authorities.names() };
            builder.with_client_cert_verifier(Arc::new(asking))
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(certificates.clone());
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if rules.without_http2 {
        config.alpn_protocols.remove(0);
    }
    // As in ingress-nginx, whoever chooses cipher suites chooses their order.
    config.ignore_client_order = host.and_then(|host| host.prefers_ours).unwrap_or(ciphers.is_some());
    // Tickets carry the session, sealed with keys that rotate, so nothing is stored here for a client. A ticket
    // is good only for the server name it was given for, which rustls checks.
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// Asks for a certificate and takes any, or none: who is let in is decided for each request, which gets an answer that
/// says why. That the client has the key of its certificate is checked here.
#[derive(Debug)]
struct Asking {
    provider: Arc<CryptoProvider>,
    names: Vec<DistinguishedName>,
}

impl ClientCertVerifier for Asking {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.names
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
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

/// The server name that a client asks for, read from its first message, all of which is in `ahead` then. `None` also
/// where there is no such message: whoever shakes hands says what is wrong with it.
pub(super) async fn server_name(tcp: &mut TcpStream, ahead: &mut BytesMut) -> Option<HostName> {
    loop {
        match asked_name(ahead) {
            Asked::Name(name) => return name,
            Asked::Unknown if ahead.len() < MAX_HELLO && matches!(tcp.read_buf(ahead).await, Ok(1..)) => {}
            Asked::Unknown => return None,
        }
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
        // A name that is only sent to another one has to be heard for that.
        let known = |name: &HostName| table.knows(name) || table.host(Some(name)).www().is_some();
        if table.connections.rejects_unknown && !name.as_ref().is_some_and(known) {
            return None;
        }
        let found = table.certificate(name.as_ref());
        Some(found.map_or_else(|| self.fallback.clone(), |certificate| certificate.key.clone()))
    }
}

/// Chooses the certificate for a client that has connected to this address and names no server.
#[derive(Debug)]
struct Unnamed {
    certificates: Arc<Certificates>,
    local: IpAddr,
}

impl ResolvesServerCert for Unnamed {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.certificates.table.load();
        match table.certificates.find_unnamed(self.local) {
            Some(certificate) if !table.connections.rejects_unknown => Some(certificate.key.clone()),
            _ => self.certificates.resolve(hello),
        }
    }
}

/// A certificate for handshakes that no other answers. Nobody trusts it, but the client gets an answer that says so.
/// It has the name that ingress-nginx's has, by which people know what is missing.
fn self_signed(provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = rcgen::CertificateParams::new(vec!["ingress.local".to_owned()])?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "Kubernetes Ingress Controller Fake Certificate");
    let certificate = params.self_signed(&key)?;
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let signer = provider.key_provider.load_private_key(der)?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], signer))
}
