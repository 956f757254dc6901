//! Clients on bare sockets, in the clear and by TLS.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// A connection of either kind.
pub trait Wire: Read + Write + Send {
    fn tcp(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Wire for StreamOwned<ClientConnection, TcpStream> {
    fn tcp(&self) -> &TcpStream {
        &self.sock
    }
}

/// A client and what it has read ahead.
pub struct Client {
    pub wire: Box<dyn Wire>,
    ahead: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }
}

impl Client {
    pub fn plain(address: SocketAddr) -> Self {
        let tcp = TcpStream::connect(address).unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { wire: Box::new(tcp), ahead: Vec::new() }
    }

    pub fn tls(address: SocketAddr, name: &str) -> Self {
        Self::with_config(address, name, client_config(&[b"http/1.1"]))
    }

    pub fn with_config(address: SocketAddr, name: &str, config: Arc<ClientConfig>) -> Self {
        let tcp = TcpStream::connect(address).unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let connection = ClientConnection::new(config, ServerName::try_from(name.to_owned()).unwrap()).unwrap();
        Self { wire: Box::new(StreamOwned::new(connection, tcp)), ahead: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A server that has refused the rest may close while it is being sent.
        let _ = self.wire.write_all(bytes.as_ref());
        let _ = self.wire.flush();
    }

    /// One answer to anything but HEAD.
    pub fn response(&mut self) -> Response {
        self.read_response(false).expect("there is an answer")
    }

    /// Sends and reads one answer.
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Response {
        self.send(request);
        self.response()
    }

    pub fn get(&mut self, host: &str, path: &str) -> Response {
        self.ask(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    }

    /// `None` where the server closes without an answer.
    pub fn read_response(&mut self, head_only: bool) -> Option<Response> {
        let end = loop {
            if let Some(at) = self.ahead.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if self.fill() == 0 {
                assert!(self.ahead.is_empty(), "half an answer: {}", String::from_utf8_lossy(&self.ahead));
                return None;
            }
        };
        let head = String::from_utf8_lossy(&self.ahead[..end]).into_owned();
        self.ahead.drain(..end);
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
        let mut response = Response { status, head, body: Vec::new() };
        if head_only || status / 100 == 1 || status == 204 || status == 304 {
            return Some(response);
        }
        response.body = if let Some(length) = response.field("content-length") {
            let length = length.parse().unwrap();
            self.take(length)
        } else if response.field("transfer-encoding").is_some() {
            self.chunks()
        } else {
            while self.fill() > 0 {}
            std::mem::take(&mut self.ahead)
        };
        Some(response)
    }

    /// What was read and not yet taken.
    pub fn ahead(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ahead)
    }

    pub fn take(&mut self, length: usize) -> Vec<u8> {
        while self.ahead.len() < length {
            assert!(self.fill() > 0, "the body is {} bytes short", length - self.ahead.len());
        }
        self.ahead.drain(..length).collect()
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line_end = loop {
                if let Some(at) = self.ahead.windows(2).position(|window| window == b"\r\n") {
                    break at;
                }
                assert!(self.fill() > 0, "a chunk is missing");
            };
            let size = usize::from_str_radix(std::str::from_utf8(&self.ahead[..line_end]).unwrap(), 16).unwrap();
            self.ahead.drain(..line_end + 2);
            body.extend(self.take(size));
            self.take(2);
            if size == 0 {
                return body;
            }
        }
    }

    fn fill(&mut self) -> usize {
        let mut buffer = [0; 16 * 1024];
        let read = match self.wire.read(&mut buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("no answer in time"),
            // A reset ends the connection, too; whether it may be one is for the test to say.
            Err(_) => 0,
        };
        self.ahead.extend_from_slice(&buffer[..read]);
        read
    }

    /// Whether the server closes; anything else it sends is a failure.
    pub fn closed(&mut self) -> bool {
        self.fill() == 0 && self.ahead.is_empty()
    }

    /// Whether the server neither sends nor closes for a moment.
    pub fn stays_open(&mut self) -> bool {
        self.wire.tcp().set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut byte = [0; 1];
        let open = matches!(self.wire.read(&mut byte), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
        self.wire.tcp().set_read_timeout(Some(PATIENCE)).unwrap();
        open
    }
}

/// A client that trusts everybody.
pub fn client_config(protocols: &[&[u8]]) -> Arc<ClientConfig> {
    client_of_versions(protocols, &[&rustls::version::TLS13, &rustls::version::TLS12])
}

/// A client that trusts everybody and speaks these versions.
pub fn client_of_versions(
    protocols: &[&[u8]],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let provider = landfall_ingress::crypto_provider();
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustAll(schemes)))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

#[derive(Debug)]
struct TrustAll(Vec<SignatureScheme>);

impl ServerCertVerifier for TrustAll {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}
