//! A small HTTPS client for CAs and for those who keep zones: a connection for each request, with limits of time and size.
//!
//! It notes what the `instant_acme` crate reads over: when a CA that refuses wants to be asked again, and which other
//! chains it offers.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, LINK, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::names::{NameError, Names};

/// How long one address may take to take a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a whole request may take.
const REQUEST: Duration = Duration::from_secs(30);
/// Bytes of an answer; chains have some thousand.
const LARGEST: usize = 1 << 20;

/// Why a request has no answer.
#[derive(Debug, Error)]
pub(super) enum HttpsError {
    #[error("{0}")]
    Name(String),
    #[error("{0} can't be connected to: {1}")]
    Connect(String, std::io::Error),
    #[error("{0} gives no answer within {n} s", n = REQUEST.as_secs())]
    Slow(String),
    #[error("{0}: {1}")]
    Broken(String, String),
    #[error("{0} answers {1}")]
    Status(String, http::StatusCode),
}

/// What an answer said besides its body.
#[derive(Debug, Default)]
struct Noted {
    retry_after: Option<u64>,
    alternates: Vec<String>,
    /// The last body that is a chain of certificates.
    chain: Option<String>,
}

/// The client.
#[derive(Clone)]
pub(super) struct Https {
    tls: TlsConnector,
    names: Names,
    noted: Arc<Mutex<Noted>>,
    largest: usize,
}

impl Https {
    /// A client that trusts the authorities in `bundle`, else the public ones.
    pub(super) fn new(bundle: Option<&str>, names: Names) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        match bundle {
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    let certificate = certificate.map_err(|error| format!("the CA bundle can't be read: {error}"))?;
                    roots.add(certificate).map_err(|error| format!("the CA bundle can't be read: {error}"))?;
                }
            }
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        if roots.is_empty() {
            return Err("the CA bundle holds no certificate".to_owned());
        }
        let config = ClientConfig::builder_with_provider(crate::crypto_provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), names, noted: Arc::default(), largest: LARGEST })
    }

    /// Takes longer answers: this many bytes.
    pub(super) fn taking(self, largest: usize) -> Self {
        Self { largest, ..self }
    }

    /// When the CA wants to be asked again, as it said last.
    pub(super) fn retry_after(&self) -> Option<u64> {
        self.noted().retry_after
    }

    /// The URLs of the other chains that came with the last one.
    pub(super) fn alternates(&self) -> Vec<String> {
        self.noted().alternates.clone()
    }

    /// The last chain that was sent.
    pub(super) fn take_chain(&self) -> Option<String> {
        self.noted().chain.take()
    }

    fn noted(&self) -> std::sync::MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request and reads the whole answer.
    pub(super) async fn send(&self, request: Request<BodyWrapper<Bytes>>) -> Result<Response<Bytes>, HttpsError> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let response = timeout(REQUEST, self.exchange(request)).await.map_err(|_| HttpsError::Slow(host))??;
        self.note(&response);
        Ok(response)
    }

    async fn exchange(&self, request: Request<BodyWrapper<Bytes>>) -> Result<Response<Bytes>, HttpsError> {
        let (mut parts, body) = request.into_parts();
        let uri = std::mem::take(&mut parts.uri);
        let host = uri.host().unwrap_or_default().to_owned();
        let broken = |error: &dyn std::fmt::Display| HttpsError::Broken(host.clone(), error.to_string());
        let is_plain = uri.scheme_str() == Some("http");
        let stream = self.connect(&host, uri.port_u16().unwrap_or(if is_plain { 80 } else { 443 })).await?;
        let authority = uri.authority().map_or(host.as_str(), http::uri::Authority::as_str);
        parts.headers.insert(HOST, HeaderValue::from_str(authority).map_err(|error| broken(&error))?);
        parts.uri =
            Uri::try_from(uri.path_and_query().map_or("/", |path| path.as_str())).map_err(|error| broken(&error))?;
        let request = Request::from_parts(parts, body);
        if is_plain {
            return over(stream, request, self.largest).await.map_err(|error| broken(&error));
        }
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(|error| broken(&error))?;
        let stream = self.tls.connect(name, stream).await.map_err(|error| broken(&error))?;
        over(stream, request, self.largest).await.map_err(|error| broken(&error))
    }

    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, HttpsError> {
        let addresses = self.names.addresses(host).await.map_err(|error| match error {
            NameError::Missing(text) | NameError::Failed(text) => HttpsError::Name(text),
        })?;
        let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match timeout(CONNECT, TcpStream::connect((address, port))).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(_) => last = std::io::ErrorKind::TimedOut.into(),
            }
        }
        Err(HttpsError::Connect(host.to_owned(), last))
    }

    fn note(&self, response: &Response<Bytes>) {
        let mut noted = self.noted();
        noted.retry_after = retry_after(response.headers());
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.starts_with("application/pem-certificate-chain") {
            noted.chain = String::from_utf8(response.body().to_vec()).ok();
            noted.alternates = alternates(response.headers());
        }
    }
}

/// Sends a request over a connection that is for it alone.
async fn over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<BodyWrapper<Bytes>>,
    largest: usize,
) -> Result<Response<Bytes>, Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the sender.
    let connection = tokio::spawn(connection);
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, largest).collect().await?.to_bytes();
    connection.abort();
    Ok(Response::from_parts(parts, body))
}

impl HttpClient for Https {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let this = self.clone();
        Box::pin(async move {
            let host = request.uri().host().unwrap_or_default().to_owned();
            let response = this.send(request).await.map_err(|error| instant_acme::Error::Other(Box::new(error)))?;
            // A proxy's page is no word of the CA's.
            let is_problem = serde_json::from_slice::<serde::de::IgnoredAny>(response.body()).is_ok();
            if response.status().as_u16() >= 400 && !is_problem {
                let error = HttpsError::Status(host, response.status());
                return Err(instant_acme::Error::Other(Box::new(error)));
            }
            let (parts, body) = response.into_parts();
            Ok(BytesResponse { parts, body: Box::new(body) })
        })
    }
}

/// Seconds since the epoch (RFC 9110 section 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let since_epoch = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    match text.parse::<u64>() {
        Ok(seconds) => Some(since_epoch(SystemTime::now()).saturating_add(seconds)),
        Err(_) => httpdate::parse_http_date(text).ok().map(since_epoch),
    }
}

/// The targets of links with relation `alternate` (RFC 8288).
fn alternates(headers: &HeaderMap) -> Vec<String> {
    let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let target = |link: &str| {
        let (url, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_alternate = |parameter: &str| matches!(parameter.trim(), "rel=\"alternate\"" | "rel=alternate");
        parameters.split(';').any(is_alternate).then(|| url.to_owned())
    };
    links.filter_map(target).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_other_chains_are_found() {
        let mut headers = HeaderMap::new();
        let values = [
            "<https://ca.example/dir>;rel=\"index\"",
            "<https://ca.example/c/1>;rel=\"alternate\", <https://ca.example/c/2>; rel=\"alternate\"",
        ];
        for value in values {
            headers.append(LINK, HeaderValue::from_static(value));
        }
        assert_eq!(alternates(&headers), ["https://ca.example/c/1", "https://ca.example/c/2"]);
    }

    #[test]
    fn retry_after_comes_in_two_forms() {
        let of =
            |value: &'static str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]));
        assert_eq!(of("Fri, 31 Dec 1999 23:59:59 GMT"), Some(946_684_799));
        assert!(of("100").is_some_and(|time| time > 1_700_000_000));
        assert_eq!(of("soon"), None);
    }
}
