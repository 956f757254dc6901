//! A client that sends exactly what it is told, and says what came back.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use crate::case::{Request, Whence};
use crate::pki::Pki;

/// The address of a client that is far, and a range that holds it.
pub(crate) const FAR: (Ipv4Addr, &str) = (Ipv4Addr::new(127, 0, 9, 1), "127.0.9.0/24");

/// How long an answer may take, where a request doesn't say.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the program listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
}

/// What came back, over which connection.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) result: Outcome,
    pub(crate) certificate: Option<CertificateDer<'static>>,
    pub(crate) alpn: Option<String>,
    pub(crate) took: Duration,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    Answer(Answer),
    /// The handshake was all that was wanted.
    Handshake,
    /// Cut without an answer.
    Closed,
    /// TLS failed, with an alert or what we made of it.
    #[expect(dead_code, reason = "it is for whoever reads a difference")]
    Tls(String),
    /// No answer in time.
    Silence,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether less came than was announced.
    pub(crate) cut: bool,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Answer {
    /// All values of a field.
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// Sends one request on a connection of its own. `host` is the case's.
pub(crate) async fn ask(
    target: Target,
    request: &Request,
    host: &str,
    cookies: &BTreeMap<String, String>,
    pki: &Pki,
) -> Result<Exchange> {
    let begun = Instant::now();
    let deadline = begun + request.timeout.map_or(PATIENCE, Duration::from_secs_f64);
    let host = request.host.or(Some(host));
    let config = request.tls.then(|| tls(request, host, pki)).transpose()?;
    let mut exchange = Exchange { result: Outcome::Silence, certificate: None, alpn: None, took: Duration::ZERO };
    let talk = async {
        let tcp = connect(target, request).await?;
        let stream: Box<dyn Stream> = match config {
            None => Box::new(tcp),
            Some((config, name)) => {
                let stream = TlsConnector::from(config).connect(name, tcp).await?;
                let session = stream.get_ref().1;
                let certificate = session.peer_certificates().and_then(|chain| chain.first());
                exchange.certificate = certificate.map(|certificate| certificate.clone().into_owned());
                exchange.alpn = session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
                Box::new(stream)
            }
        };
        if request.handshake_only {
            return Ok(Outcome::Handshake);
        }
        exchange_bytes(stream, &bytes(request, host, cookies), request.method(), deadline).await
    };
    // What has come until then is still looked at.
    exchange.result = match tokio::time::timeout_at((deadline + Duration::from_millis(50)).into(), talk).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => failed(&error),
        Err(_) => Outcome::Silence,
    };
    exchange.took = begun.elapsed();
    Ok(exchange)
}

async fn connect(target: Target, request: &Request) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(Whence::Far) = request.from {
        socket.bind((IpAddr::V4(FAR.0), 0).into())?;
    }
    let mut stream = socket.connect(if request.tls { target.https } else { target.http }).await?;
    stream.set_nodelay(true)?;
    if let Some(preface) = &request.preface {
        // Its characters are bytes.
        let bytes: Vec<u8> = preface.chars().filter_map(|character| u8::try_from(u32::from(character)).ok()).collect();
        stream.write_all(&bytes).await?;
    }
    Ok(stream)
}

/// A failure on the way: whether TLS refused, or the connection ended.
fn failed(error: &io::Error) -> Outcome {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => Outcome::Tls(error.to_string()),
        None => Outcome::Closed,
    }
}

async fn exchange_bytes(
    mut stream: Box<dyn Stream>,
    request: &[u8],
    method: &str,
    deadline: Instant,
) -> io::Result<Outcome> {
    // Who refuses a body may close before it has come; the answer is there all the same.
    let sent = match stream.write_all(request).await {
        Ok(()) => stream.flush().await,
        Err(error) => Err(error),
    };
    let mut buffer = Vec::new();
    loop {
        let read = tokio::time::timeout_at(deadline.into(), stream.read_buf(&mut buffer));
        let (end, failure) = match read.await {
            Ok(Ok(0)) => (true, sent.as_ref().err().map(|error| io::Error::from(error.kind()))),
            Ok(Ok(_)) => (false, None),
            Ok(Err(error)) => (true, Some(error)),
            Err(_) => return Ok(parse(&buffer, method, true).map_or(Outcome::Silence, Outcome::Answer)),
        };
        match parse(&buffer, method, end) {
            Some(answer) => return Ok(Outcome::Answer(answer)),
            None if end => return failure.map_or(Ok(Outcome::Closed), Err),
            None => {}
        }
    }
}

/// The request as it goes over the wire.
fn bytes(request: &Request, host: Option<&str>, cookies: &BTreeMap<String, String>) -> Vec<u8> {
    if let Some(raw) = &request.raw {
        return raw.clone().into_bytes();
    }
    let version = request.version.as_deref().unwrap_or("1.1");
    let mut lines = vec![format!("{} {} HTTP/{version}", request.method(), request.path)];
    lines.extend(host.map(|host| format!("Host: {host}")));
    let fields = request.fields();
    lines.extend(fields.iter().map(|(name, value)| format!("{name}: {value}")));
    if request.with_cookie && !cookies.is_empty() {
        let pairs: Vec<_> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        lines.push(format!("Cookie: {}", pairs.join("; ")));
    }
    let body = request.body.as_deref().unwrap_or_default();
    let measured = fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let mut end = body.to_owned();
    if request.chunked {
        lines.push("Transfer-Encoding: chunked".to_owned());
        end = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    } else if request.body.is_some() && !measured {
        lines.push(format!("Content-Length: {}", body.len()));
    }
    format!("{}\r\n\r\n{end}", lines.join("\r\n")).into_bytes()
}

/// The first final answer in `buffer`; `None` while more is to come. After the `end` it is taken as it is.
fn parse(buffer: &[u8], method: &str, end: bool) -> Option<Answer> {
    let head = buffer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(&buffer[..head]);
    let mut lines = text.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let body = &buffer[head + 4..];
    if (100..200).contains(&status) && status != 101 {
        return parse(body, method, end);
    }
    let fields = lines.filter_map(|line| line.split_once(':'));
    let headers = fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
    let mut answer = Answer { status, headers, ..Answer::default() };
    let length = answer.values("content-length").next().and_then(|length| length.parse::<usize>().ok());
    let chunked = answer.values("transfer-encoding").any(|value| value.eq_ignore_ascii_case("chunked"));
    if method == "HEAD" || matches!(status, 101 | 204 | 304) {
        return Some(answer);
    }
    let (whole, complete) = if chunked {
        dechunk(body)
    } else if let Some(length) = length {
        (body[..length.min(body.len())].to_vec(), body.len() >= length)
    } else {
        (body.to_vec(), end)
    };
    answer.body = whole;
    answer.cut = !complete;
    (complete || end).then_some(answer)
}

/// What the chunks hold, and whether the last one is there.
fn dechunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut whole = Vec::new();
    loop {
        let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else { return (whole, false) };
        let size = String::from_utf8_lossy(&rest[..end]);
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16).unwrap_or(0);
        rest = &rest[end + 2..];
        if size == 0 {
            return (whole, true);
        }
        whole.extend_from_slice(&rest[..size.min(rest.len())]);
        let Some(next) = rest.get(size + 2..) else { return (whole, false) };
        rest = next;
    }
}

fn tls(request: &Request, host: Option<&str>, pki: &Pki) -> Result<(Arc<ClientConfig>, ServerName<'static>)> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions: &[&SupportedProtocolVersion] = match request.max_tls.as_deref() {
        Some("1.2") => &[&rustls::version::TLS12],
        _ => rustls::ALL_VERSIONS,
    };
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions)?;
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)));
    let mut config = match &request.client_cert {
        None => config.with_no_client_auth(),
        Some((name, authority)) => {
            let (chain, key) = pki.client(name, authority)?.der();
            config.with_client_auth_cert(chain, key)?
        }
    };
    config.alpn_protocols = request.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = request.sni.or(host).and_then(|name| name.split(':').next());
    let name = name.and_then(|name| ServerName::try_from(name.to_owned()).ok());
    config.enable_sni = name.is_some();
    Ok((Arc::new(config), name.unwrap_or(ServerName::IpAddress(Ipv4Addr::LOCALHOST.into()))))
}

/// Takes every certificate: which one came is judged later.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
