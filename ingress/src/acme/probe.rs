//! Looks for a challenge as the CA will, before the CA is asked to: a failed look costs nothing, a failed validation
//! counts against the CA's limits.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{HOST, LOCATION};
use http_body_util::{BodyExt, Collected, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use landfall_ingress_model::acme::challenges::{Challenge, ChallengeKind, HTTP_01_PREFIX};
use landfall_ingress_model::acme::issuer::Ports;
use landfall_ingress_model::acme::trouble::{Failure, Kind};
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::names::{NameError, Names};
use super::proofs::digest;
use super::settings::SelfCheck;
use crate::anybody::Anybody;

/// How long one look may take.
const LOOK: Duration = Duration::from_secs(5);
/// Looks before it is said what is in the way; another replica may not have heard of the challenge yet.
const LOOKS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(500);
/// Bytes of an answer that are read.
const LARGEST: usize = 4096;

/// What a look has found.
#[derive(Debug)]
enum Seen {
    /// The challenge.
    Proof,
    /// Something else answers, or nothing ever will.
    Wrong { cause: String, remedy: String },
    /// It can't be told from here.
    Unclear { cause: String, remedy: String },
}

/// Looks for a challenge; the failure says what is in the way.
pub(super) async fn check(names: &Names, challenge: &Challenge, ports: Ports, how: SelfCheck) -> Result<(), Failure> {
    let mut seen = Seen::Proof;
    for number in 0..LOOKS {
        if number > 0 {
            sleep(PAUSE).await;
        }
        seen = look(names, challenge, ports).await;
        if matches!(seen, Seen::Proof) {
            return Ok(());
        }
    }
    match seen {
        Seen::Proof => Ok(()),
        Seen::Unclear { cause, .. } if how == SelfCheck::Lenient => {
            tracing::info!(
                host = challenge.host,
                cause,
                "it can't be told from here whether the CA reaches the challenge"
            );
            Ok(())
        }
        Seen::Wrong { cause, remedy } | Seen::Unclear { cause, remedy } => {
            Err(Failure::new(Kind::SelfCheck, cause, remedy))
        }
    }
}

async fn look(names: &Names, challenge: &Challenge, ports: Ports) -> Seen {
    let host = &challenge.host;
    let addresses = match names.addresses(host).await {
        Ok(addresses) => addresses,
        Err(NameError::Missing(cause)) => {
            let remedy = format!("create an A or AAAA record for {host} that leads to this ingress");
            return Seen::Wrong { cause, remedy };
        }
        Err(NameError::Failed(cause)) => {
            return Seen::Unclear { cause, remedy: "see whether the name servers can be reached".to_owned() };
        }
    };
    let port = if challenge.kind == ChallengeKind::TlsAlpn01 { ports.tls } else { ports.http };
    let mut last = String::new();
    for address in addresses {
        match timeout(LOOK, TcpStream::connect((address, port))).await {
            Ok(Ok(stream)) => return at(stream, challenge, SocketAddr::new(address, port)).await,
            Ok(Err(error)) => last = unreachable(address, port, &error.to_string()),
            Err(_) => last = unreachable(address, port, "no answer"),
        }
    }
    let remedy = format!("lead port {port} of that address to this ingress, or correct the record of {host}");
    Seen::Unclear { cause: last, remedy }
}

fn unreachable(address: IpAddr, port: u16, cause: &str) -> String {
    format!("{} can't be connected to: {cause}", SocketAddr::new(address, port))
}

async fn at(stream: TcpStream, challenge: &Challenge, address: SocketAddr) -> Seen {
    let looked = match challenge.kind {
        ChallengeKind::TlsAlpn01 => timeout(LOOK, over_tls(stream, challenge)).await,
        _ => timeout(LOOK, over_http(stream, challenge)).await,
    };
    let cause = match looked {
        Ok(Ok(Ok(()))) => return Seen::Proof,
        Ok(Ok(Err(other))) => format!("{address} answers, but {other}"),
        Ok(Err(error)) => format!("{address} is connected to, but {error}"),
        Err(_) => format!("{address} is connected to, but answers nothing"),
    };
    let host = &challenge.host;
    let remedy = format!("let the record of {host} lead to this ingress and nothing else answer in its place");
    Seen::Wrong { cause, remedy }
}

/// The inner error says what answered instead.
async fn over_http(stream: TcpStream, challenge: &Challenge) -> Result<Result<(), String>, String> {
    let words = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(words)?;
    let connection = tokio::spawn(connection);
    let request = Request::get(format!("{HTTP_01_PREFIX}{}", challenge.token))
        .header(HOST, &challenge.host)
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(words)?;
    let status = answer.status();
    let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = Limited::new(answer.into_body(), LARGEST).collect().await.map(Collected::to_bytes).unwrap_or_default();
    connection.abort();
    if status.is_success() && body.trim_ascii() == challenge.key_authorization.as_bytes() {
        return Ok(Ok(()));
    }
    Ok(Err(match location {
        Some(location) => format!("sends the CA to {location} ({})", status.as_u16()),
        None => format!("not with the challenge ({})", status.as_u16()),
    }))
}

async fn over_tls(stream: TcpStream, challenge: &Challenge) -> Result<Result<(), String>, String> {
    let provider = crate::crypto_provider();
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let name = ServerName::try_from(challenge.host.clone()).map_err(|error| error.to_string())?;
    let stream = match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
        Ok(stream) => stream,
        Err(error) => return Ok(Err(format!("it does not know the protocol acme-tls/1 ({error})"))),
    };
    let state = stream.get_ref().1;
    let shown = state.peer_certificates().and_then(|chain| chain.first());
    let digest = digest(&challenge.key_authorization);
    let proves = |certificate: &CertificateDer<'_>| certificate.windows(digest.len()).any(|part| part == digest);
    Ok(if shown.is_some_and(proves) { Ok(()) } else { Err("not with the certificate of the challenge".to_owned()) })
}
