//! What is tried: each protocol once, and what it took.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::SOCKET;

/// How long one try may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where the ingress is, and by which name it is asked.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Its address.
    pub(super) ip: IpAddr,
    /// Its ports of HTTP and HTTPS.
    pub(super) ports: (u16, u16),
    /// The host whose backend speaks HTTP/1.1.
    pub(super) host: String,
    /// The host whose backend speaks gRPC.
    pub(super) grpc_host: String,
    /// The certificate of both.
    pub(super) certificate: CertificateDer<'static>,
    /// Bytes of a big body.
    pub(super) big: usize,
}

/// What came of a try.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Tried {
    /// What was tried.
    pub(super) what: &'static str,
    /// How long it took, connecting included.
    pub(super) took_ms: f64,
    /// What went wrong.
    pub(super) error: Option<String>,
}

/// Tries everything, one after the other.
pub(super) async fn all(target: &Target) -> Vec<Tried> {
    vec![
        tried("HTTP/1.1", target.plain()).await,
        tried("TLS, with the right certificate", target.tls()).await,
        tried("HTTP/2 over TLS", target.http2()).await,
        tried("WebSocket", target.websocket()).await,
        tried("gRPC", target.grpc()).await,
        tried("a big body to the backend", target.upload()).await,
        tried("a big body from the backend", target.download()).await,
    ]
}

async fn tried(what: &'static str, work: impl Future<Output = anyhow::Result<()>>) -> Tried {
    let begun = Instant::now();
    let outcome = tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| bail!("no answer within {PATIENCE:?}"));
    let took_ms = (begun.elapsed().as_secs_f64() * 1e4).round() / 10.0;
    Tried { what, took_ms, error: outcome.err().map(|error| format!("{error:#}")) }
}

impl Target {
    /// A connection to the port of HTTP.
    async fn connect(&self, port: u16) -> anyhow::Result<TcpStream> {
        let address = SocketAddr::new(self.ip, port);
        TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))
    }

    async fn secured(
        &self,
        host: &str,
        protocol: &[u8],
    ) -> anyhow::Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static + use<>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let mut config = ClientConfig::builder_with_provider(crate::crypto_provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let stream = self.connect(self.ports.1).await?;
        let name = ServerName::try_from(host.to_owned())?;
        let stream =
            TlsConnector::from(Arc::new(config)).connect(name, stream).await.context("the TLS handshake fails")?;
        ensure!(
            stream.get_ref().1.alpn_protocol() == Some(protocol),
            "the ingress does not speak {}",
            String::from_utf8_lossy(protocol)
        );
        Ok(stream)
    }

    /// One plain request; an answer other than 200 is an error.
    pub(super) async fn plain(&self) -> anyhow::Result<()> {
        let stream = self.connect(self.ports.0).await?;
        let body = exchange(stream, &self.host, Method::GET, "/", Bytes::new()).await?;
        ensure!(body.starts_with(b"received 0"), "another backend answers");
        Ok(())
    }

    async fn tls(&self) -> anyhow::Result<()> {
        let stream = self.secured(&self.host, b"http/1.1").await?;
        exchange(stream, &self.host, Method::GET, "/", Bytes::new()).await.map(drop)
    }

    async fn upload(&self) -> anyhow::Result<()> {
        let stream = self.connect(self.ports.0).await?;
        let body = exchange(stream, &self.host, Method::POST, "/", vec![b'x'; self.big].into()).await?;
        let said = String::from_utf8_lossy(&body).into_owned();
        ensure!(said.trim_end() == format!("received {}", self.big), "the backend says {said:?}");
        Ok(())
    }

    async fn download(&self) -> anyhow::Result<()> {
        let stream = self.connect(self.ports.0).await?;
        let body = exchange(stream, &self.host, Method::GET, &format!("/bytes/{}", self.big), Bytes::new()).await?;
        ensure!(body.len() == self.big, "{} of {} bytes came", body.len(), self.big);
        Ok(())
    }

    async fn http2(&self) -> anyhow::Result<()> {
        let stream = self.secured(&self.host, b"h2").await?;
        let uri = format!("https://{}/", self.host);
        let (status, body, _) = h2_exchange(stream, Request::post(uri).body(())?, Bytes::from_static(b"hello")).await?;
        ensure!(status == StatusCode::OK && body.starts_with(b"received 5"), "the answer is {status}");
        Ok(())
    }

    /// A unary call: one message with its five bytes of prefix.
    async fn grpc(&self) -> anyhow::Result<()> {
        let stream = self.secured(&self.grpc_host, b"h2").await?;
        let uri = format!("https://{}/landfall.Echo/Say", self.grpc_host);
        let request = Request::post(uri).header(header::CONTENT_TYPE, "application/grpc").header("te", "trailers");
        let message = Bytes::from_static(b"\0\0\0\0\x05hello");
        let (status, body, trailers) = h2_exchange(stream, request.body(())?, message.clone()).await?;
        ensure!(status == StatusCode::OK && body == message, "the answer is {status}, {} bytes", body.len());
        let code = trailers.as_ref().and_then(|trailers| trailers.get("grpc-status"));
        ensure!(code.is_some_and(|code| code == "0"), "grpc-status is {code:?}");
        Ok(())
    }

    async fn websocket(&self) -> anyhow::Result<()> {
        let stream = self.connect(self.ports.0).await?;
        let (mut sender, connection) = http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await?;
        tokio::spawn(connection.with_upgrades());
        let request = Request::get("/")
            .header(header::HOST, &self.host)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, SOCKET.0);
        let answer = sender.send_request(request.body(Full::default())?).await?;
        ensure!(answer.status() == StatusCode::SWITCHING_PROTOCOLS, "the answer is {}", answer.status());
        let accepted = answer.headers().get(header::SEC_WEBSOCKET_ACCEPT);
        ensure!(accepted.is_some_and(|value| value == SOCKET.1), "Sec-WebSocket-Accept is wrong");
        let mut stream = TokioIo::new(hyper::upgrade::on(answer).await?);
        // A text frame "hi" with a mask of zeros.
        stream.write_all(b"\x81\x82\0\0\0\0hi").await?;
        let mut back = [0; 4];
        stream.read_exact(&mut back).await?;
        ensure!(back == *b"\x81\x02hi", "another message comes back");
        Ok(())
    }
}

async fn exchange<S>(stream: S, host: &str, method: Method, path: &str, body: Bytes) -> anyhow::Result<Bytes>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header(header::HOST, host).body(Full::new(body))?;
    let answer = sender.send_request(request).await?;
    ensure!(answer.status() == StatusCode::OK, "the answer is {}", answer.status());
    Ok(answer.into_body().collect().await?.to_bytes())
}

async fn h2_exchange<S>(
    stream: S,
    request: Request<()>,
    body: Bytes,
) -> anyhow::Result<(StatusCode, Bytes, Option<http::HeaderMap>)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    let (answer, mut upload) = sender.ready().await?.send_request(request, false)?;
    upload.send_data(body, true)?;
    let answer = answer.await?;
    let status = answer.status();
    let mut body = answer.into_body();
    let mut received = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        received.extend_from_slice(&data);
    }
    Ok((status, received.into(), body.trailers().await?))
}
