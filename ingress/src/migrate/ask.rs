//! One request to one controller, over a connection of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use landfall_ingress_model::migration::{Method, Probe, Scheme, Seen};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::anybody::Anybody;

/// Bytes of a head that are read.
const MAX_HEAD: usize = 64 * 1024;

/// Where a controller is asked.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// As it was given.
    pub(super) text: String,
    http: Option<SocketAddr>,
    https: Option<SocketAddr>,
}

impl Place {
    /// Reads `ADDRESS`, or `http://ADDRESS:PORT` and `https://ADDRESS:PORT` separated by a comma, and looks names up.
    pub(super) async fn find(text: &str) -> anyhow::Result<Self> {
        let mut place = Self { text: text.to_owned(), http: None, https: None };
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part.split_once("://") {
                Some(("http", address)) => place.http = Some(resolve(address, 80).await?),
                Some(("https", address)) => place.https = Some(resolve(address, 443).await?),
                Some((scheme, _)) => bail!("{part:?}: the scheme is {scheme}; use http or https"),
                None => {
                    place.http = Some(resolve(part, 80).await?);
                    place.https = Some(resolve(part, 443).await?);
                }
            }
        }
        if place.http.is_none() && place.https.is_none() {
            bail!("{text:?} is no address; give ADDRESS, or http://ADDRESS:PORT,https://ADDRESS:PORT");
        }
        Ok(place)
    }

    /// Where a scheme is spoken.
    pub(super) fn address(&self, scheme: Scheme) -> Option<SocketAddr> {
        match scheme {
            Scheme::Http => self.http,
            Scheme::Https => self.https,
        }
    }
}

async fn resolve(address: &str, port: u16) -> anyhow::Result<SocketAddr> {
    let address = address.trim_end_matches('/');
    if let Ok(ip) = address.trim_matches(['[', ']']).parse() {
        return Ok(SocketAddr::new(ip, port));
    }
    let full = if address.contains(':') { address.to_owned() } else { format!("{address}:{port}") };
    let mut found = tokio::net::lookup_host(&full).await.with_context(|| format!("cannot look up {address:?}"))?;
    found.next().with_context(|| format!("{address:?} has no address"))
}

/// Asks one controller; what goes wrong is an answer, too.
pub(super) async fn ask(address: SocketAddr, probe: &Probe, limit: Duration) -> Seen {
    let failed = |error: String| Seen { error: Some(error), ..Seen::default() };
    match timeout(limit, exchange(address, probe)).await {
        Ok(Ok(seen)) => seen,
        Ok(Err(error)) => failed(format!("no answer: {error:#}")),
        Err(_) => failed(format!("no answer within {} s", limit.as_secs_f32())),
    }
}

async fn exchange(address: SocketAddr, probe: &Probe) -> anyhow::Result<Seen> {
    let stream = TcpStream::connect(address).await?;
    match probe.scheme {
        Scheme::Http => send(stream, probe, None).await,
        Scheme::Https => {
            let name = ServerName::try_from(probe.host.clone())?;
            let stream = TlsConnector::from(client_config()?).connect(name, stream).await?;
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let certificate = shown.map(|certificate| certificate.as_ref().to_vec());
            send(stream, probe, certificate).await
        }
    }
}

/// The request's head. There is no body, and the connection is for this request alone.
fn head(probe: &Probe) -> String {
    let (method, path, host) = (probe.method.as_str(), &probe.path, &probe.host);
    let origin = match probe.method {
        Method::Options => format!("Origin: https://{host}\r\nAccess-Control-Request-Method: GET\r\n"),
        Method::Get | Method::Head => String::new(),
    };
    let agent = concat!("landfall-migrate/", env!("CARGO_PKG_VERSION"));
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nAccept: */*\r\n{origin}Connection: close\r\n\r\n"
    )
}

async fn send<S>(mut stream: S, probe: &Probe, certificate: Option<Vec<u8>>) -> anyhow::Result<Seen>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(head(probe).as_bytes()).await?;
    stream.flush().await?;
    let mut bytes = Vec::new();
    loop {
        while let Some(end) = end_of_head(&bytes) {
            let seen = parse(&bytes[..end])?;
            if seen.status >= 200 {
                return Ok(Seen { certificate, ..seen });
            }
            // An interim response comes before the one that counts.
            bytes.drain(..end);
        }
        if bytes.len() > MAX_HEAD {
            bail!("the head is longer than {MAX_HEAD} bytes");
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            bail!("the connection was closed");
        }
    }
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

fn parse(head: &[u8]) -> anyhow::Result<Seen> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok());
    let status = status.context("the answer is no HTTP/1.1")?;
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
    };
    Ok(Seen { status, fields: lines.filter_map(field).collect(), ..Seen::default() })
}

/// Takes every certificate: which one is shown is part of what is compared.
fn client_config() -> anyhow::Result<Arc<ClientConfig>> {
    let provider = crate::crypto_provider();
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody));
    Ok(Arc::new(builder.with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_is_an_address_or_two_urls() {
        let both = Place::find("192.0.2.1").await.unwrap();
        assert_eq!(both.address(Scheme::Http), Some("192.0.2.1:80".parse().unwrap()));
        assert_eq!(both.address(Scheme::Https), Some("192.0.2.1:443".parse().unwrap()));
        let v6 = Place::find("2001:db8::1").await.unwrap();
        assert_eq!(v6.address(Scheme::Http), Some("[2001:db8::1]:80".parse().unwrap()));
        let one = Place::find("http://127.0.0.1:8080").await.unwrap();
        assert_eq!(one.address(Scheme::Http), Some("127.0.0.1:8080".parse().unwrap()));
        assert_eq!(one.address(Scheme::Https), None);
        for wrong in ["", "ftp://x", ","] {
            assert!(Place::find(wrong).await.is_err(), "{wrong}");
        }
    }

    #[test]
    fn heads_are_read_whatever_their_letter_case() {
        let seen = parse(b"HTTP/1.1 302 Found\r\nLocation: /a\r\nSET-COOKIE: a=1\r\n\r\n").unwrap();
        assert_eq!(seen.status, 302);
        assert_eq!(seen.fields, [("location".into(), "/a".into()), ("set-cookie".into(), "a=1".into())]);
        assert!(parse(b"SSH-2.0\r\n\r\n").is_err());
    }
}
